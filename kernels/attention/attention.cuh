// What the attention kernels share: attention_cuda.cu on tensor cores, attention_any_cuda.cu for the rest.
#pragma once

#include "kernels/attention/attention_cuda.h"
#include "kernels/cuda/rows.cuh"

namespace graft::cuda {

struct Scores {
  int window;
  float scale, softcap;

  GRAFT_DEVICE bool visible(int query, int key) const { return key <= query && (window == 0 || query - key < window); }
  GRAFT_DEVICE float capped(float s) const { return softcap > 0.f ? softcap * tanhf(s * scale / softcap) : s * scale; }
  // d capped / d (scale s), from its value.
  GRAFT_DEVICE float slope(float value) const {
    const float t = softcap > 0.f ? value / softcap : 0.f;
    return 1.f - t * t;
  }
};

struct Problem {
  Heads q, k, v, d_o;
  const float *lse, *dot;
  const AttentionTile* tiles;
  std::int64_t tokens, query_heads, key_heads;
  Scores scores;
};

// May the heads be accessed 16 bytes at a time?
GRAFT_DEVICE bool aligned_heads(const Heads& x, int element) {
  return aligned16(x.data, x.token_stride, element) && aligned16(x.data, x.head_stride, element);
}

// First key that queries from `first` on see, down to a whole step from the start of their segment.
GRAFT_DEVICE int first_key(int first, int begin, int window, int step) {
  const int seen = window == 0 ? 0 : first - begin - window + 1;
  return begin + (seen > 0 ? seen / step * step : 0);
}

}  // namespace graft::cuda

#define GRAFT_HEADS(x) void *x, std::int64_t x##_token_stride, std::int64_t x##_head_stride
#define GRAFT_GIVEN_HEADS(x) \
  ::graft::cuda::Heads { x, x##_token_stride, x##_head_stride }
#define GRAFT_TAKEN_HEADS(x) a.x.data, a.x.token_stride, a.x.head_stride
