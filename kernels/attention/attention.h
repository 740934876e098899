// Causal attention within the segments of a packed run; grouped query heads, sliding window, soft cap.
//
//   S = scale Q K^T;  S' = cap tanh(S / cap) with a soft cap, else S;  query i sees keys j of its segment with j <= i and, with a
//   window w > 0, i - j < w;  P = softmax(S') over those;  O = P V;  lse = log sum exp(S')
//   backward: D = rowsum(dO * O);  dV = P^T dO;  dS = P (dO V^T - D) (1 - (S'/cap)^2);  dQ = scale dS K;  dK = scale dS^T Q
//
// Source: Vaswani et al. 2017, arXiv:1706.03762, 3.2.1; backward from lse as in Dao et al. 2022, arXiv:2205.14135, algorithm 4;
// grouped heads (query head h reads key head h / (Hq / Hkv)) Ainslie et al. 2023, arXiv:2305.13245; soft cap: Gemma 2,
// arXiv:2408.00118.
//
// Shapes: q, o, dO, dQ (T, Hq, D); k, v, dK, dV (T, Hkv, D), all f32 or all bf16, the last dimension dense, any other strides
// (views into a fused buffer are fine); lse (Hq, T) f32. starts: segments + 1 boundaries, starts[0] = 0, last = T, empty segments
// allowed. The loop goes over segments, never across, in tiles of queries and keys: memory O(T), nothing is masked that could be
// skipped. Scores, sums and gradients are f32 and rounded once; where bf16 is multiplied in pairs (kernels/cpu/tile.h), P and dS
// are rounded to bf16 for their products. Same bits for the same inputs on one machine, whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace graft::kernels {

struct AttentionOptions {
  double scale = 1;
  std::int64_t window = 0;  // 0: all earlier tokens of the segment
  double softcap = 0;       // 0: none
};

// lse, when not null, receives what the backward needs besides o.
at::Tensor attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                             const AttentionOptions& options, at::Tensor* lse);

// Overwrites dq, dk, dv (which may be views into one fused buffer).
void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv);

// Decoding: q (n, Hq, D) are the last n of the L positions of k, v (L, Hkv, D). Returns (n, Hq, D).
at::Tensor attention_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options);

}  // namespace graft::kernels
