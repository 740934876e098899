// attention.h on a GPU. bf16 with heads of 64, 96, 128 or 256: on tensor cores (sm_80 on). f32, and other heads of up to 256:
// everything in f32, without tensor cores (attention_any_cuda.cu), in 97 KiB of shared memory, which sm_75 does not have either.
//
// A block takes a tile of 64 tokens of one segment and one head, or 16 of them without tensor cores; `tiles`, made once per batch
// by attention_tiles, lists them. The keys and queries of a tile are counted from the start of its segment, so that a segment
// gives the same bits packed or alone. A NaN may spread over its segment, never beyond. Scores, softmax and sums are f32; on
// tensor cores P and dS are rounded to bf16 for their products; results are rounded once.
//
// The backward is three launches without atomics: D = rowsum(dO * O); dQ by tiles of queries; dK and dV by tiles of keys, which
// walk the query heads of their group in order. Same bits always. `dot` (Hq, T) f32 is scratch between them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/launch.h"

namespace graft::cuda {

constexpr int kAttentionTile = 64;
constexpr int kAttentionAnyHead = 256;  // the largest head

struct AttentionTile {
  std::int32_t first, begin, end;  // the tile's first token, its segment [begin, end)
};

// From the starts of attention.h. Late tiles see the most keys and go first.
inline std::vector<AttentionTile> attention_tiles(std::span<const std::int32_t> starts) {
  std::vector<AttentionTile> tiles;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    for (std::int32_t first = starts[i]; first < starts[i + 1]; first += kAttentionTile)
      tiles.push_back({first, starts[i], starts[i + 1]});
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const auto& a, const auto& b) { return a.first - a.begin > b.first - b.begin; });
  return tiles;
}

// (T, heads, D) with a dense last dimension.
struct Heads {
  void* data;
  std::int64_t token_stride, head_stride;
};

struct AttentionForward {
  Heads q, k, v, o;
  float* lse;  // (Hq, T)
  const AttentionTile* tiles;
  std::int64_t tile_count, tokens, query_heads, key_heads, head_size, window;
  float scale, softcap;  // 0: none
};

struct AttentionBackward {
  Heads d_o, q, k, v, o, dq, dk, dv;
  const float* lse;
  float* dot;  // (Hq, T), scratch
  const AttentionTile* tiles;
  std::int64_t tile_count, tokens, query_heads, key_heads, head_size, window;
  float scale, softcap;
};

extern "C" int graft_attention_forward(DType type, const AttentionForward& arguments, Stream stream);
extern "C" int graft_attention_backward(DType type, const AttentionBackward& arguments, Stream stream);

}  // namespace graft::cuda
