// The CPU implementation of attention: one (segment, head, tile of queries) at a time, in the first cache levels. Private to this
// folder, but for what the plan of memory asks.
//
// Every product has the form C (m, n) = A (m, k) B (k, n) of kernels/cpu/tile.h. The queries of a tile are columns, so that the
// maximum, sum and factor of a query run down a vector and scores are never transposed:
//   forward    S^T = K Q^T;  O^T += V^T P^T
//   backward   S^T = K Q^T;  dP^T = V dO^T;  dV += P^T dO;  dK += dS^T Q;  dQ^T += K^T dS^T
// With bf16 pairs P and dS are rounded to bf16 for their products; all sums are f32.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/softmax.h"
#include "kernels/simd.h"

namespace graft::kernels::cpu {

struct Segment {
  std::int64_t query, queries, key, keys;  // first token and count; query i stands at position keys - queries + i
};

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Segment>& segments,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse);
void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const std::vector<Segment>& segments,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv);

// Rows of partial sums of dK, and of dV, that the backward keeps for each query head: at most as for one segment of all tokens.
std::int64_t partial_rows(std::int64_t tokens);

// q (n, Hq, D): the last n of the L positions of k, v (L, Hkv, D). For few queries.
void attention_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options,
                      at::Tensor out);

}  // namespace graft::kernels::cpu
