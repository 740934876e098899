#include <cfloat>

#include "kernels/attention/attention.cuh"

namespace graft::cuda {
namespace {

constexpr int kPerWarp = 4, kWarps = 4, kThreads = 32 * kWarps;
constexpr int kRows = kPerWarp * kWarps;  // of a block, a part of a tile: queries, or keys in the backward by keys
constexpr int kStep = 32;                 // keys, or queries there, in shared memory at a time: one to a lane
constexpr int kColumns = kAttentionAnyHead / 32;
// Elements of shared memory: two of each, rows one element longer than a head so that lanes read from different banks.
GRAFT_HOST_DEVICE std::size_t shared_elements(std::int64_t size) {
  return static_cast<std::size_t>(2 * (kRows + kStep) * (size + 1));
}

using RowSums = float[kPerWarp][kColumns];  // a lane has the columns lane, lane + 32, ...

// Tokens from `token` on as f32, those from `end` on as zeros.
template <class T, int kCount>
GRAFT_DEVICE void load_heads(float* to, const Heads& x, int token, std::int64_t head, int end, int size) {
  const bool aligned = aligned_heads(x, sizeof(T));
  const int chunks = (size + kChunk<T> - 1) / kChunk<T>;
  for (int i = static_cast<int>(threadIdx.x); i < kCount * chunks; i += kThreads) {
    const int row = i / chunks, begin = (i - row * chunks) * kChunk<T>;
    float v[kChunk<T>] = {};
    if (token + row < end) {
      const T* from = static_cast<const T*>(x.data) + (token + row) * x.token_stride + head * x.head_stride;
      unpack(load_chunk(from, begin, size, aligned), v);
    }
#pragma unroll
    for (int k = 0; k < kChunk<T>; ++k)
      if (begin + k < size) to[row * (size + 1) + begin + k] = v[k];
  }
}

template <class T>
GRAFT_DEVICE void store_heads(const Heads& x, const RowSums& sum, int token, std::int64_t head, int end, int size,
                              const float (&factor)[kPerWarp]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int r = 0; r < kPerWarp; ++r) {
    if (token + r >= end) continue;
    T* row = static_cast<T*>(x.data) + (token + r) * x.token_stride + head * x.head_stride;
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (lane + 32 * c < size) row[lane + 32 * c] = from_float<T>(sum[r][c] * factor[r]);
  }
}

// The products of the warp's rows with the lane's row of a step.
GRAFT_DEVICE void multiply(float (&product)[kPerWarp], const float* rows, const float* step, int size) {
  const float* mine = step + threadIdx.x % 32 * static_cast<unsigned>(size + 1);
  for (int d = 0; d < size; ++d) {
#pragma unroll
    for (int r = 0; r < kPerWarp; ++r) product[r] += rows[r * (size + 1) + d] * mine[d];
  }
}

// sum += the rows of a step, each times the weight that its lane has for it.
GRAFT_DEVICE void accumulate(RowSums& sum, const float (&weight)[kPerWarp], const float* step, int size) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < kStep; ++i) {
    float w[kPerWarp];
#pragma unroll
    for (int r = 0; r < kPerWarp; ++r) w[r] = __shfl_sync(kFullWarp, weight[r], static_cast<unsigned>(i));
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (lane + 32 * c >= size) continue;
      const float x = step[i * (size + 1) + lane + 32 * c];
#pragma unroll
      for (int r = 0; r < kPerWarp; ++r) sum[r][c] += w[r] * x;
    }
  }
}

// The rows of a block, and those of a warp among them.
struct Rows {
  int first, end, warp_first;
};
GRAFT_DEVICE Rows block_rows(const AttentionTile& tile) {
  const int first = tile.first + kRows * static_cast<int>(blockIdx.z);
  return {first, smaller(first + kRows, tile.end), first + kPerWarp * static_cast<int>(threadIdx.x / 32)};
}

template <class T>
GRAFT_DEVICE void forward(const Problem& a, int size, const Heads& o, float* lse) {
  GRAFT_DYNAMIC_SHARED(float, q, shared_elements(size));
  float *k = q + kRows * (size + 1), *v = k + kStep * (size + 1);
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t head = blockIdx.y, key_head = head / (a.query_heads / a.key_heads);
  const Rows rows = block_rows(tile);
  if (rows.first >= tile.end) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  RowSums out = {};
  float largest[kPerWarp], total[kPerWarp] = {};
#pragma unroll
  for (int r = 0; r < kPerWarp; ++r) largest[r] = -FLT_MAX;
  load_heads<T, kRows>(q, a.q, rows.first, head, rows.end, size);
  for (int key = first_key(rows.first, tile.begin, a.scores.window, kStep); key < rows.end; key += kStep) {
    load_heads<T, kStep>(k, a.k, key, key_head, rows.end, size);
    load_heads<T, kStep>(v, a.v, key, key_head, rows.end, size);
    __syncthreads();
    float p[kPerWarp] = {};
    multiply(p, q + (rows.warp_first - rows.first) * (size + 1), k, size);
#pragma unroll
    for (int r = 0; r < kPerWarp; ++r) {
      const float s = a.scores.visible(rows.warp_first + r, key + lane) ? a.scores.capped(p[r]) : -INFINITY;
      const float most = fmaxf(largest[r], warp_reduce<Max>(s)), factor = fast_exp(largest[r] - most);
      p[r] = fast_exp(s - most);
      total[r] = total[r] * factor + p[r];
      largest[r] = most;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) out[r][c] *= factor;
    }
    accumulate(out, p, v, size);
    __syncthreads();
  }
  float factor[kPerWarp];
#pragma unroll
  for (int r = 0; r < kPerWarp; ++r) {
    total[r] = warp_reduce<Add>(total[r]);
    factor[r] = 1.f / total[r];
    const int row = rows.warp_first + r;
    if (lane == 0 && row < rows.end) lse[head * a.tokens + row] = largest[r] + logf(total[r]);
  }
  store_heads<T>(o, out, rows.warp_first, head, rows.end, size, factor);
}

// Of one query and one key, from their products.
struct Pair {
  float p, ds;  // dS without the scale
};
GRAFT_DEVICE Pair pair(const Scores& scores, bool seen, float s, float dp, float lse, float dot) {
  const float value = scores.capped(s), p = seen ? fast_exp(value - lse) : 0.f;
  return {p, seen ? p * (dp - dot) * scores.slope(value) : 0.f};
}

template <class T>
GRAFT_DEVICE void backward_queries(const Problem& a, int size, const Heads& d_q) {
  GRAFT_DYNAMIC_SHARED(float, q, shared_elements(size));
  float *d_o = q + kRows * (size + 1), *k = d_o + kRows * (size + 1), *v = k + kStep * (size + 1);
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t head = blockIdx.y, key_head = head / (a.query_heads / a.key_heads);
  const Rows rows = block_rows(tile);
  if (rows.first >= tile.end) return;
  const int lane = static_cast<int>(threadIdx.x % 32), offset = (rows.warp_first - rows.first) * (size + 1);
  RowSums dq = {};
  float lse[kPerWarp] = {}, dot[kPerWarp] = {}, factor[kPerWarp];
#pragma unroll
  for (int r = 0; r < kPerWarp; ++r) {
    factor[r] = a.scores.scale;
    if (rows.warp_first + r >= rows.end) continue;
    lse[r] = a.lse[head * a.tokens + rows.warp_first + r];
    dot[r] = a.dot[head * a.tokens + rows.warp_first + r];
  }
  load_heads<T, kRows>(q, a.q, rows.first, head, rows.end, size);
  load_heads<T, kRows>(d_o, a.d_o, rows.first, head, rows.end, size);
  for (int key = first_key(rows.first, tile.begin, a.scores.window, kStep); key < rows.end; key += kStep) {
    load_heads<T, kStep>(k, a.k, key, key_head, rows.end, size);
    load_heads<T, kStep>(v, a.v, key, key_head, rows.end, size);
    __syncthreads();
    float s[kPerWarp] = {}, dp[kPerWarp] = {};
    multiply(s, q + offset, k, size);
    multiply(dp, d_o + offset, v, size);
#pragma unroll
    for (int r = 0; r < kPerWarp; ++r)
      dp[r] = pair(a.scores, a.scores.visible(rows.warp_first + r, key + lane), s[r], dp[r], lse[r], dot[r]).ds;
    accumulate(dq, dp, k, size);
    __syncthreads();
  }
  store_heads<T>(d_q, dq, rows.warp_first, head, rows.end, size, factor);
}

template <class T>
GRAFT_DEVICE void backward_keys(const Problem& a, int size, const Heads& d_k, const Heads& d_v) {
  GRAFT_DYNAMIC_SHARED(float, k, shared_elements(size));
  float *v = k + kRows * (size + 1), *q = v + kRows * (size + 1), *d_o = q + kStep * (size + 1);
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t key_head = blockIdx.y, group = a.query_heads / a.key_heads, group_first = key_head * group;
  const Rows rows = block_rows(tile);
  if (rows.first >= tile.end) return;
  const int last = a.scores.window == 0 ? tile.end : smaller(tile.end, rows.end - 1 + a.scores.window);
  const int lane = static_cast<int>(threadIdx.x % 32), offset = (rows.warp_first - rows.first) * (size + 1);
  RowSums dk = {}, dv = {};
  load_heads<T, kRows>(k, a.k, rows.first, key_head, rows.end, size);
  load_heads<T, kRows>(v, a.v, rows.first, key_head, rows.end, size);
  for (std::int64_t head = group_first; head < group_first + group; ++head) {
    for (int query = rows.first; query < last; query += kStep) {
      load_heads<T, kStep>(q, a.q, query, head, tile.end, size);
      load_heads<T, kStep>(d_o, a.d_o, query, head, tile.end, size);
      __syncthreads();
      const int at = query + lane;
      const bool inside = at < tile.end;
      const float lse = inside ? a.lse[head * a.tokens + at] : 0.f, dot = inside ? a.dot[head * a.tokens + at] : 0.f;
      float s[kPerWarp] = {}, dp[kPerWarp] = {};
      multiply(s, k + offset, q, size);
      multiply(dp, v + offset, d_o, size);
#pragma unroll
      for (int r = 0; r < kPerWarp; ++r) {
        const Pair of = pair(a.scores, inside && a.scores.visible(at, rows.warp_first + r), s[r], dp[r], lse, dot);
        s[r] = of.p;
        dp[r] = of.ds;
      }
      accumulate(dv, s, d_o, size);
      accumulate(dk, dp, q, size);
      __syncthreads();
    }
  }
  float scale[kPerWarp], one[kPerWarp];
#pragma unroll
  for (int r = 0; r < kPerWarp; ++r) {
    scale[r] = a.scores.scale;
    one[r] = 1.f;
  }
  store_heads<T>(d_k, dk, rows.warp_first, key_head, rows.end, size, scale);
  store_heads<T>(d_v, dv, rows.warp_first, key_head, rows.end, size, one);
}

}  // namespace

#define GRAFT_ENTRIES(T)                                                                                                         \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                                         \
      graft_attention_any_forward_##T(GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(o), float* lse,                \
                                      const AttentionTile* tiles, std::int64_t tokens, std::int64_t query_heads,                 \
                                      std::int64_t key_heads, int head_size, int window, float scale, float softcap) {           \
    const Scores scores{window, scale, softcap};                                                                                 \
    forward<T>({GRAFT_GIVEN_HEADS(q),                                                                                            \
                GRAFT_GIVEN_HEADS(k),                                                                                            \
                GRAFT_GIVEN_HEADS(v),                                                                                            \
                {},                                                                                                              \
                nullptr,                                                                                                         \
                nullptr,                                                                                                         \
                tiles,                                                                                                           \
                tokens,                                                                                                          \
                query_heads,                                                                                                     \
                key_heads,                                                                                                       \
                scores},                                                                                                         \
               head_size, GRAFT_GIVEN_HEADS(o), lse);                                                                            \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(kThreads) graft_attention_any_backward_queries_##T(                               \
      GRAFT_HEADS(d_o), GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(dq), const float* lse, const float* dot,     \
      const AttentionTile* tiles, std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads, int head_size,          \
      int window, float scale, float softcap) {                                                                                  \
    const Scores scores{window, scale, softcap};                                                                                 \
    backward_queries<T>({GRAFT_GIVEN_HEADS(q), GRAFT_GIVEN_HEADS(k), GRAFT_GIVEN_HEADS(v), GRAFT_GIVEN_HEADS(d_o), lse, dot,     \
                         tiles, tokens, query_heads, key_heads, scores},                                                         \
                        head_size, GRAFT_GIVEN_HEADS(dq));                                                                       \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(kThreads) graft_attention_any_backward_keys_##T(                                  \
      GRAFT_HEADS(d_o), GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(dk), GRAFT_HEADS(dv), const float* lse,      \
      const float* dot, const AttentionTile* tiles, std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads,       \
      int head_size, int window, float scale, float softcap) {                                                                   \
    const Scores scores{window, scale, softcap};                                                                                 \
    backward_keys<T>({GRAFT_GIVEN_HEADS(q), GRAFT_GIVEN_HEADS(k), GRAFT_GIVEN_HEADS(v), GRAFT_GIVEN_HEADS(d_o), lse, dot, tiles, \
                      tokens, query_heads, key_heads, scores},                                                                   \
                     head_size, GRAFT_GIVEN_HEADS(dk), GRAFT_GIVEN_HEADS(dv));                                                   \
  }

GRAFT_ENTRIES(bf16)
GRAFT_ENTRIES(f32)

namespace {

dim3 grid(std::int64_t tiles, std::int64_t heads) {
  return {static_cast<unsigned>(tiles), static_cast<unsigned>(heads), static_cast<unsigned>(kAttentionTile / kRows)};
}

std::size_t shared_bytes(std::int64_t size) { return shared_elements(size) * sizeof(float); }

}  // namespace

#define GRAFT_LAUNCH_ANY(kernel, heads, ...)                                                                                     \
  (type == DType::bf16                                                                                                           \
       ? GRAFT_LAUNCH_SHARED(kernel##_bf16, grid(a.tile_count, heads), kThreads, shared_bytes(a.head_size), stream, __VA_ARGS__) \
       : GRAFT_LAUNCH_SHARED(kernel##_f32, grid(a.tile_count, heads), kThreads, shared_bytes(a.head_size), stream, __VA_ARGS__))

int attention_any_forward(DType type, const AttentionForward& a, int window, Stream stream) {
  return GRAFT_LAUNCH_ANY(graft_attention_any_forward, a.query_heads, GRAFT_TAKEN_HEADS(q), GRAFT_TAKEN_HEADS(k),
                          GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(o), a.lse, a.tiles, a.tokens, a.query_heads, a.key_heads,
                          static_cast<int>(a.head_size), window, a.scale, a.softcap);
}

int attention_any_backward(DType type, const AttentionBackward& a, int window, Stream stream) {
  if (const int error = GRAFT_LAUNCH_ANY(graft_attention_any_backward_queries, a.query_heads, GRAFT_TAKEN_HEADS(d_o),
                                         GRAFT_TAKEN_HEADS(q), GRAFT_TAKEN_HEADS(k), GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(dq),
                                         a.lse, static_cast<const float*>(a.dot), a.tiles, a.tokens, a.query_heads, a.key_heads,
                                         static_cast<int>(a.head_size), window, a.scale, a.softcap);
      error != 0)
    return error;
  return GRAFT_LAUNCH_ANY(graft_attention_any_backward_keys, a.key_heads, GRAFT_TAKEN_HEADS(d_o), GRAFT_TAKEN_HEADS(q),
                          GRAFT_TAKEN_HEADS(k), GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(dk), GRAFT_TAKEN_HEADS(dv), a.lse,
                          static_cast<const float*>(a.dot), a.tiles, a.tokens, a.query_heads, a.key_heads,
                          static_cast<int>(a.head_size), window, a.scale, a.softcap);
}

}  // namespace graft::cuda
