#include <cfloat>

#include "kernels/attention/attention.cuh"
#include "kernels/cuda/tiles.cuh"

namespace graft::cuda {
namespace {

constexpr int kTile = kAttentionTile, kThreads = 128;  // 16 rows of the tile for each warp
constexpr int kInvalidValue = 1;                       // cudaErrorInvalidValue

// Keys, or queries in the backward by keys, that are in shared memory at a time: what fits into 99 KiB and the registers.
template <int D>
constexpr int kForwardStep = D > 128 ? 32 : 64;
template <int D>
constexpr int kBackwardStep = D > 128 ? 16 : 32;
template <int D>
constexpr int kSlice = D > 128 ? 128 : D;  // columns of dK and dV of one block

// Elements of shared memory.
template <int D>
constexpr int kForwardShared = (kTile + 2 * kForwardStep<D>)*(D + kPad);
template <int D>
constexpr int kBackwardShared = 2 * (kTile + kBackwardStep<D>)*(D + kPad) + 4 * kBackwardStep<D>;

template <int D, int kRows>
GRAFT_DEVICE void load_heads(bf16* tile, const Heads& x, int token, std::int64_t head, int end) {
  const bool aligned = aligned_heads(x, sizeof(bf16));
  const bf16* from = static_cast<const bf16*>(x.data) + token * x.token_stride + head * x.head_stride;
  load_tile<kRows, D, kThreads>(tile, from, x.token_stride, end - token, D, aligned);
}

// Rows of a warp's accumulators times factor to x; the rows are tokens from `token`.
template <int kN>
GRAFT_DEVICE void store_heads(const Heads& x, const float (&sum)[kN / 8][4], int token, std::int64_t head, int column, int end,
                              float low_factor, float high_factor) {
  const bool pairs = aligned_heads(x, sizeof(bf16));
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int at = token + lane / 4 + 8 * i;
    if (at >= end) continue;
    bf16* row = static_cast<bf16*>(x.data) + at * x.token_stride + head * x.head_stride + column + 2 * (lane % 4);
    const float factor = i == 0 ? low_factor : high_factor;
#pragma unroll
    for (int n = 0; n < kN / 8; ++n) store_pair(row + 8 * n, factor * sum[n][2 * i], factor * sum[n][2 * i + 1], pairs);
  }
}

// Over the four lanes that share a row of accumulators.
template <class Op>
GRAFT_DEVICE float row_reduce(float v) {
  return warp_reduce<Op, 4>(v);
}

template <int D>
GRAFT_DEVICE void forward(const Problem& a, const Heads& o, float* lse) {
  constexpr int kStep = kForwardStep<D>, kStride = D + kPad;
  GRAFT_DYNAMIC_SHARED(bf16, q, kForwardShared<D>);
  bf16 *k = q + kTile * kStride, *v = k + kStep * kStride;
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t head = blockIdx.y, key_head = head / (a.query_heads / a.key_heads);
  const int end = smaller(tile.first + kTile, tile.end);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int first_row = tile.first + 16 * warp + lane / 4;
  float out[D / 8][4] = {}, largest[2] = {-FLT_MAX, -FLT_MAX}, total[2] = {};
  const auto load = [&](bf16* to, const Heads& from, int key) {
    if (key < end) load_heads<D, kStep>(to, from, key, key_head, end);
    copy_commit();
  };
  const int begin = first_key(tile.first, tile.begin, a.scores.window, kStep);
  load_heads<D, kTile>(q, a.q, tile.first, head, end);
  load(k, a.k, begin);
  load(v, a.v, begin);
  for (int key = begin; key < end; key += kStep) {
    GRAFT_COPY_WAIT(1);
    __syncthreads();
    float p[kStep / 8][4] = {};
    multiply_rows<kStep, D>(p, q + 16 * warp * kStride, k);
    __syncthreads();
    load(k, a.k, key + kStep);  // while the softmax runs
    float scale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float most = largest[i];
#pragma unroll
      for (int n = 0; n < kStep / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& s = p[n][2 * i + j];
          const int at = key + 8 * n + 2 * (lane % 4) + j;
          s = a.scores.visible(first_row + 8 * i, at) ? a.scores.capped(s) : -INFINITY;
          most = fmaxf(most, s);
        }
      }
      most = row_reduce<Max>(most);
      scale[i] = fast_exp(largest[i] - most);
      largest[i] = most;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < kStep / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) sum += p[n][2 * i + j] = fast_exp(p[n][2 * i + j] - most);
      }
      total[i] = total[i] * scale[i] + sum;
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] *= scale[i / 2];
    }
    GRAFT_COPY_WAIT(1);
    __syncthreads();
    multiply_columns<D, kStep>(out, p, v, kStride);
    __syncthreads();
    load(v, a.v, key + kStep);
  }
  GRAFT_COPY_WAIT(0);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    total[i] = row_reduce<Add>(total[i]);
    const int row = first_row + 8 * i;
    if (lane % 4 == 0 && row < end) lse[head * a.tokens + row] = largest[i] + logf(total[i]);
  }
  store_heads<D>(o, out, tile.first + 16 * warp, head, 0, end, 1.f / total[0], 1.f / total[1]);
}

// s becomes P, and dp = dO V^T becomes dS without the scale; lse and dot are those of the query of element i of block n.
template <int kN, class Visible, class Lse, class Dot>
GRAFT_DEVICE void score_gradients(float (&s)[kN / 8][4], float (&dp)[kN / 8][4], const Scores& scores, Visible visible, Lse lse,
                                  Dot dot) {
#pragma unroll
  for (int n = 0; n < kN / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool seen = visible(n, i);
      const float value = scores.capped(s[n][i]), p = seen ? fast_exp(value - lse(n, i)) : 0.f;
      s[n][i] = p;
      dp[n][i] = seen ? p * (dp[n][i] - dot(n, i)) * scores.slope(value) : 0.f;
    }
  }
}

template <int D>
GRAFT_DEVICE void backward_queries(const Problem& a, const Heads& d_q) {
  constexpr int kStep = kBackwardStep<D>, kStride = D + kPad;
  GRAFT_DYNAMIC_SHARED(bf16, q, kBackwardShared<D>);
  bf16 *d_o = q + kTile * kStride, *k = d_o + kTile * kStride, *v = k + kStep * kStride;
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t head = blockIdx.y, key_head = head / (a.query_heads / a.key_heads);
  const int end = smaller(tile.first + kTile, tile.end);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int first_row = tile.first + 16 * warp + lane / 4;
  float lse[2] = {}, dot[2] = {}, dq[D / 8][4] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + 8 * i;
    if (row >= end) continue;
    lse[i] = a.lse[head * a.tokens + row];
    dot[i] = a.dot[head * a.tokens + row];
  }
  load_heads<D, kTile>(q, a.q, tile.first, head, end);
  load_heads<D, kTile>(d_o, a.d_o, tile.first, head, end);
  for (int key = first_key(tile.first, tile.begin, a.scores.window, kStep); key < end; key += kStep) {
    load_heads<D, kStep>(k, a.k, key, key_head, end);
    load_heads<D, kStep>(v, a.v, key, key_head, end);
    copy_commit();
    GRAFT_COPY_WAIT(0);
    __syncthreads();
    float s[kStep / 8][4] = {}, dp[kStep / 8][4] = {};
    multiply_rows<kStep, D>(s, q + 16 * warp * kStride, k);
    multiply_rows<kStep, D>(dp, d_o + 16 * warp * kStride, v);
    const auto visible = [&](int n, int i) {
      const int row = first_row + 8 * (i / 2);
      return row < end && a.scores.visible(row, key + 8 * n + 2 * (lane % 4) + i % 2);
    };
    const auto lse_of = [&](int, int i) { return lse[i / 2]; };
    const auto dot_of = [&](int, int i) { return dot[i / 2]; };
    score_gradients<kStep>(s, dp, a.scores, visible, lse_of, dot_of);
    multiply_columns<D, kStep>(dq, dp, k, kStride);
    __syncthreads();
  }
  store_heads<D>(d_q, dq, tile.first + 16 * warp, head, 0, end, a.scores.scale, a.scores.scale);
}

// The scores of a tile of keys are transposed: its keys are rows, the queries that see them columns.
template <int D>
GRAFT_DEVICE void backward_keys(const Problem& a, const Heads& d_k, const Heads& d_v) {
  constexpr int kStep = kBackwardStep<D>, kStride = D + kPad, kN = kSlice<D>;
  GRAFT_DYNAMIC_SHARED(bf16, k, kBackwardShared<D>);
  bf16 *v = k + kTile * kStride, *q = v + kTile * kStride, *d_o = q + kStep * kStride;
  auto *lse = reinterpret_cast<float*>(d_o + kStep * kStride), *dot = lse + kStep;
  const AttentionTile tile = a.tiles[blockIdx.x];
  const std::int64_t key_head = blockIdx.y, group = a.query_heads / a.key_heads, group_first = key_head * group;
  const int column = static_cast<int>(blockIdx.z) * kN;
  const int end = smaller(tile.first + kTile, tile.end);
  const int last = a.scores.window == 0 ? tile.end : smaller(tile.end, end - 1 + a.scores.window);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int first_row = tile.first + 16 * warp + lane / 4;
  float dk[kN / 8][4] = {}, dv[kN / 8][4] = {};
  load_heads<D, kTile>(k, a.k, tile.first, key_head, end);
  load_heads<D, kTile>(v, a.v, tile.first, key_head, end);
  for (std::int64_t head = group_first; head < group_first + group; ++head) {
    for (int query = tile.first; query < last; query += kStep) {
      load_heads<D, kStep>(q, a.q, query, head, tile.end);
      load_heads<D, kStep>(d_o, a.d_o, query, head, tile.end);
      copy_commit();
      if (threadIdx.x < kStep) {
        const int row = query + static_cast<int>(threadIdx.x);
        lse[threadIdx.x] = row < tile.end ? a.lse[head * a.tokens + row] : 0.f;
        dot[threadIdx.x] = row < tile.end ? a.dot[head * a.tokens + row] : 0.f;
      }
      GRAFT_COPY_WAIT(0);
      __syncthreads();
      float s[kStep / 8][4] = {}, dp[kStep / 8][4] = {};
      multiply_rows<kStep, D>(s, k + 16 * warp * kStride, q);
      multiply_rows<kStep, D>(dp, v + 16 * warp * kStride, d_o);
      const auto column_of = [&](int n, int i) { return 8 * n + 2 * (lane % 4) + i % 2; };
      const auto visible = [&](int n, int i) {
        const int at = query + column_of(n, i);
        return at < tile.end && a.scores.visible(at, first_row + 8 * (i / 2));
      };
      const auto lse_of = [&](int n, int i) { return lse[column_of(n, i)]; };
      const auto dot_of = [&](int n, int i) { return dot[column_of(n, i)]; };
      score_gradients<kStep>(s, dp, a.scores, visible, lse_of, dot_of);
      multiply_columns<kN, kStep>(dv, s, d_o + column, kStride);
      multiply_columns<kN, kStep>(dk, dp, q + column, kStride);
      __syncthreads();
    }
  }
  store_heads<kN>(d_k, dk, tile.first + 16 * warp, key_head, column, end, a.scores.scale, a.scores.scale);
  store_heads<kN>(d_v, dv, tile.first + 16 * warp, key_head, column, end, 1.f, 1.f);
}

// One warp per token and head.
template <class T>
GRAFT_DEVICE void dots(const Heads& d_o, const Heads& o, float* dot, std::int64_t tokens, std::int64_t heads,
                       std::int64_t head_size) {
  const bool aligned = aligned_heads(d_o, sizeof(T)) && aligned_heads(o, sizeof(T));
  const std::int64_t step = std::int64_t{gridDim.x} * kRowWarps, lane = threadIdx.x % 32;
  for (std::int64_t item = std::int64_t{blockIdx.x} * kRowWarps + threadIdx.x / 32; item < tokens * heads; item += step) {
    const std::int64_t token = item / heads, head = item - token * heads;
    const T* left = static_cast<const T*>(d_o.data) + token * d_o.token_stride + head * d_o.head_stride;
    const T* right = static_cast<const T*>(o.data) + token * o.token_stride + head * o.head_stride;
    float total = 0;
    for (std::int64_t begin = lane * kChunk<T>; begin < head_size; begin += 32 * kChunk<T>) {
      float x[kChunk<T>], y[kChunk<T>];
      unpack(load_chunk(left, begin, head_size, aligned), x);
      unpack(load_chunk(right, begin, head_size, aligned), y);
#pragma unroll
      for (int i = 0; i < kChunk<T>; ++i) total += x[i] * y[i];
    }
    total = warp_reduce<Add>(total);
    if (lane == 0) dot[head * tokens + token] = total;
  }
}

}  // namespace

#define GRAFT_DOT_ENTRY(T)                                                                                             \
  extern "C" __global__ void __launch_bounds__(kRowThreads) graft_attention_dot_##T(                                   \
      GRAFT_HEADS(d_o), GRAFT_HEADS(o), float* dot, std::int64_t tokens, std::int64_t heads, std::int64_t head_size) { \
    dots<T>(GRAFT_GIVEN_HEADS(d_o), GRAFT_GIVEN_HEADS(o), dot, tokens, heads, head_size);                              \
  }

GRAFT_DOT_ENTRY(bf16)
GRAFT_DOT_ENTRY(f32)

// One block a multiprocessor is enough: told so, ptxas takes the registers it needs instead of spilling for occupancy.
#define GRAFT_ENTRIES(D)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(kThreads, 1) graft_attention_forward_##D(                                     \
      GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(o), float* lse, const AttentionTile* tiles,                \
      std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads, int window, float scale, float softcap) {       \
    const Problem problem{GRAFT_GIVEN_HEADS(q),                                                                              \
                          GRAFT_GIVEN_HEADS(k),                                                                              \
                          GRAFT_GIVEN_HEADS(v),                                                                              \
                          Heads{},                                                                                           \
                          nullptr,                                                                                           \
                          nullptr,                                                                                           \
                          tiles,                                                                                             \
                          tokens,                                                                                            \
                          query_heads,                                                                                       \
                          key_heads,                                                                                         \
                          Scores{window, scale, softcap}};                                                                   \
    forward<D>(problem, GRAFT_GIVEN_HEADS(o), lse);                                                                          \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads, 1) graft_attention_backward_queries_##D(                            \
      GRAFT_HEADS(d_o), GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(dq), const float* lse, const float* dot, \
      const AttentionTile* tiles, std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads, int window,         \
      float scale, float softcap) {                                                                                          \
    const Problem problem{GRAFT_GIVEN_HEADS(q),                                                                              \
                          GRAFT_GIVEN_HEADS(k),                                                                              \
                          GRAFT_GIVEN_HEADS(v),                                                                              \
                          GRAFT_GIVEN_HEADS(d_o),                                                                            \
                          lse,                                                                                               \
                          dot,                                                                                               \
                          tiles,                                                                                             \
                          tokens,                                                                                            \
                          query_heads,                                                                                       \
                          key_heads,                                                                                         \
                          Scores{window, scale, softcap}};                                                                   \
    backward_queries<D>(problem, GRAFT_GIVEN_HEADS(dq));                                                                     \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads, 1) graft_attention_backward_keys_##D(                               \
      GRAFT_HEADS(d_o), GRAFT_HEADS(q), GRAFT_HEADS(k), GRAFT_HEADS(v), GRAFT_HEADS(dk), GRAFT_HEADS(dv), const float* lse,  \
      const float* dot, const AttentionTile* tiles, std::int64_t tokens, std::int64_t query_heads, std::int64_t key_heads,   \
      int window, float scale, float softcap) {                                                                              \
    const Problem problem{GRAFT_GIVEN_HEADS(q),                                                                              \
                          GRAFT_GIVEN_HEADS(k),                                                                              \
                          GRAFT_GIVEN_HEADS(v),                                                                              \
                          GRAFT_GIVEN_HEADS(d_o),                                                                            \
                          lse,                                                                                               \
                          dot,                                                                                               \
                          tiles,                                                                                             \
                          tokens,                                                                                            \
                          query_heads,                                                                                       \
                          key_heads,                                                                                         \
                          Scores{window, scale, softcap}};                                                                   \
    backward_keys<D>(problem, GRAFT_GIVEN_HEADS(dk), GRAFT_GIVEN_HEADS(dv));                                                 \
  }

GRAFT_ENTRIES(64)
GRAFT_ENTRIES(96)
GRAFT_ENTRIES(128)
GRAFT_ENTRIES(256)

int attention_any_forward(DType type, const AttentionForward& a, int window, Stream stream);  // attention_any_cuda.cu
int attention_any_backward(DType type, const AttentionBackward& a, int window, Stream stream);

namespace {

// Whether there is a kernel on tensor cores.
bool has_tiles(DType type, std::int64_t size) {
  return type == DType::bf16 && (size == 64 || size == 96 || size == 128 || size == 256);
}

}  // namespace

extern "C" int graft_attention_forward(DType type, const AttentionForward& a, Stream stream) {
  if (a.head_size > kAttentionAnyHead) return kInvalidValue;
  if (a.tile_count == 0 || a.query_heads == 0) return 0;
  const auto window = static_cast<int>(smaller(a.window, a.tokens));
  if (!has_tiles(type, a.head_size)) return attention_any_forward(type, a, window, stream);
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.query_heads), 1);
#define GRAFT_FORWARD(D)                                                                                                      \
  case D:                                                                                                                     \
    return GRAFT_LAUNCH_SHARED(graft_attention_forward_##D, grid, kThreads, kForwardShared<D> * sizeof(bf16), stream,         \
                               GRAFT_TAKEN_HEADS(q), GRAFT_TAKEN_HEADS(k), GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(o), a.lse, \
                               a.tiles, a.tokens, a.query_heads, a.key_heads, window, a.scale, a.softcap)
  switch (a.head_size) {
    GRAFT_FORWARD(64);
    GRAFT_FORWARD(96);
    GRAFT_FORWARD(128);
    GRAFT_FORWARD(256);
    default:
      return kInvalidValue;
  }
}

namespace {

int launch_dot(DType type, const AttentionBackward& a, Stream stream) {
  const std::int64_t blocks = (a.tokens * a.query_heads + kRowWarps - 1) / kRowWarps;
  return GRAFT_LAUNCH_TYPED(type, graft_attention_dot, static_cast<unsigned>(smaller(blocks, kMaxBlocks)), kRowThreads, stream,
                            GRAFT_TAKEN_HEADS(d_o), GRAFT_TAKEN_HEADS(o), a.dot, a.tokens, a.query_heads, a.head_size);
}

}  // namespace

extern "C" int graft_attention_backward(DType type, const AttentionBackward& a, Stream stream) {
  if (a.head_size > kAttentionAnyHead) return kInvalidValue;
  if (a.tile_count == 0 || a.query_heads == 0) return 0;
  const auto window = static_cast<int>(smaller(a.window, a.tokens));
  if (const int error = launch_dot(type, a, stream); error != 0) return error;
  if (!has_tiles(type, a.head_size)) return attention_any_backward(type, a, window, stream);
  const auto tiles = static_cast<unsigned>(a.tile_count);
#define GRAFT_BACKWARD(D)                                                                                                        \
  case D:                                                                                                                        \
    if (const int error = GRAFT_LAUNCH_SHARED(                                                                                   \
            graft_attention_backward_queries_##D, dim3(tiles, static_cast<unsigned>(a.query_heads), 1), kThreads,                \
            kBackwardShared<D> * sizeof(bf16), stream, GRAFT_TAKEN_HEADS(d_o), GRAFT_TAKEN_HEADS(q), GRAFT_TAKEN_HEADS(k),       \
            GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(dq), a.lse, static_cast<const float*>(a.dot), a.tiles, a.tokens,             \
            a.query_heads, a.key_heads, window, a.scale, a.softcap);                                                             \
        error != 0)                                                                                                              \
      return error;                                                                                                              \
    return GRAFT_LAUNCH_SHARED(graft_attention_backward_keys_##D,                                                                \
                               dim3(tiles, static_cast<unsigned>(a.key_heads), static_cast<unsigned>(D / kSlice<D>)), kThreads,  \
                               kBackwardShared<D> * sizeof(bf16), stream, GRAFT_TAKEN_HEADS(d_o), GRAFT_TAKEN_HEADS(q),          \
                               GRAFT_TAKEN_HEADS(k), GRAFT_TAKEN_HEADS(v), GRAFT_TAKEN_HEADS(dk), GRAFT_TAKEN_HEADS(dv), a.lse,  \
                               static_cast<const float*>(a.dot), a.tiles, a.tokens, a.query_heads, a.key_heads, window, a.scale, \
                               a.softcap)
  switch (a.head_size) {
    GRAFT_BACKWARD(64);
    GRAFT_BACKWARD(96);
    GRAFT_BACKWARD(128);
    GRAFT_BACKWARD(256);
    default:
      return kInvalidValue;
  }
}

}  // namespace graft::cuda
