#include "kernels/rms_norm/rms_norm_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

// Chunk of h = x + residual; what is normalised is what was stored.
template <class T>
GRAFT_DEVICE Chunk<T> take_sum(const T* x, const T* residual, T* sum, std::int64_t begin, std::int64_t columns, bool aligned) {
  Chunk<T> chunk = load_chunk(x, begin, columns, aligned);
  if (residual == nullptr) return chunk;
  float v[kChunk<T>], r[kChunk<T>];
  unpack(chunk, v);
  unpack(load_chunk(residual, begin, columns, aligned), r);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) v[i] += r[i];
  chunk = pack<T>(v);
  store_chunk(sum, begin, columns, aligned, chunk);
  return chunk;
}

template <class T>
GRAFT_DEVICE float squares(const Chunk<T>& chunk) {
  float v[kChunk<T>], total = 0;
  unpack(chunk, v);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) total += v[i] * v[i];
  return total;
}

template <class T>
GRAFT_DEVICE Chunk<T> normalised(const Chunk<T>& h, const Chunk<T>& weight, float r, float offset, bool gain_in_f32) {
  float v[kChunk<T>], w[kChunk<T>];
  unpack(h, v);
  unpack(weight, w);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) {
    const float scaled = v[i] * r;
    v[i] = (gain_in_f32 ? scaled : to_float(from_float<T>(scaled))) * (offset + w[i]);
  }
  return pack<T>(v);
}

template <class T>
GRAFT_DEVICE void forward(const RmsNormForward& a) {
  GRAFT_SHARED(float, partial, kRowWarps);
  const Team team = row_team(a.columns);
  const int bytes = sizeof(T), step = team.size * kChunk<T>;
  const auto* weight = static_cast<const T*>(a.weight);
  const bool aligned = aligned16(a.x, a.x_stride, bytes) && aligned16(a.residual, a.residual_stride, bytes) &&
                       aligned16(a.sum, a.sum_stride, bytes) && aligned16(a.y, a.y_stride, bytes) && aligned16(weight, 0, bytes);
  for (std::int64_t row = team.first_row; row < a.rows; row += team.row_step) {
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride;
    const T* residual = a.residual != nullptr ? static_cast<const T*>(a.residual) + row * a.residual_stride : nullptr;
    T *sum = static_cast<T*>(a.sum) + row * a.sum_stride, *y = static_cast<T*>(a.y) + row * a.y_stride;
    Chunk<T> kept[kKept<T>] = {};
    float total = 0;
    const std::int64_t first = team.rank * kChunk<T>, rest = first + kKept<T> * step;
#pragma unroll
    for (int k = 0; k < kKept<T>; ++k) {
      const std::int64_t begin = first + k * step;
      if (begin >= a.columns) break;
      kept[k] = take_sum(x, residual, sum, begin, a.columns, aligned);
      total += squares(kept[k]);
    }
    for (std::int64_t begin = rest; begin < a.columns; begin += step)
      total += squares(take_sum(x, residual, sum, begin, a.columns, aligned));
    const float r = fast_rsqrt(team_sum(team, total, partial) / static_cast<float>(a.columns) + a.eps);
    if (a.rstd != nullptr && team.rank == 0) a.rstd[row] = r;
    const bool in_f32 = a.gain_in_f32 != 0;
#pragma unroll
    for (int k = 0; k < kKept<T>; ++k) {
      const std::int64_t begin = first + k * step;
      if (begin >= a.columns) break;
      const Chunk<T> w = load_chunk(weight, begin, a.columns, aligned);
      store_chunk(y, begin, a.columns, aligned, normalised(kept[k], w, r, a.gain_offset, in_f32));
    }
    const T* h = residual != nullptr ? sum : x;
    for (std::int64_t begin = rest; begin < a.columns; begin += step) {
      const Chunk<T> v = load_chunk(h, begin, a.columns, aligned), w = load_chunk(weight, begin, a.columns, aligned);
      store_chunk(y, begin, a.columns, aligned, normalised(v, w, r, a.gain_offset, in_f32));
    }
  }
}

template <class T>
GRAFT_DEVICE float dot(const Chunk<T>& dy, const Chunk<T>& x, const Chunk<T>& weight, float offset) {
  float d[kChunk<T>], v[kChunk<T>], w[kChunk<T>], total = 0;
  unpack(dy, d);
  unpack(x, v);
  unpack(weight, w);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) total += d[i] * (offset + w[i]) * v[i];
  return total;
}

template <class T>
GRAFT_DEVICE Chunk<T> gradient(const Chunk<T>& dy, const Chunk<T>& x, const Chunk<T>& weight, const Chunk<T>& before,
                               float offset, float r, float pull) {
  float d[kChunk<T>], v[kChunk<T>], w[kChunk<T>], dx[kChunk<T>];
  unpack(dy, d);
  unpack(x, v);
  unpack(weight, w);
  unpack(before, dx);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) dx[i] += r * (d[i] * (offset + w[i]) - v[i] * pull);
  return pack<T>(dx);
}

template <class T>
GRAFT_DEVICE void backward(const RmsNormBackward& a) {
  GRAFT_SHARED(float, partial, kRowWarps);
  const Team team = row_team(a.columns);
  const int bytes = sizeof(T), step = team.size * kChunk<T>;
  const auto* weight = static_cast<const T*>(a.weight);
  const bool aligned = aligned16(a.dy, a.dy_stride, bytes) && aligned16(a.x, a.x_stride, bytes) &&
                       aligned16(a.dx, a.dx_stride, bytes) && aligned16(weight, 0, bytes);
  for (std::int64_t row = team.first_row; row < a.rows; row += team.row_step) {
    const T *dy = static_cast<const T*>(a.dy) + row * a.dy_stride, *x = static_cast<const T*>(a.x) + row * a.x_stride;
    T* dx = static_cast<T*>(a.dx) + row * a.dx_stride;
    Chunk<T> kept_dy[kKept<T>] = {}, kept_x[kKept<T>] = {};
    float total = 0;
    const std::int64_t first = team.rank * kChunk<T>, rest = first + kKept<T> * step;
#pragma unroll
    for (int k = 0; k < kKept<T>; ++k) {
      const std::int64_t begin = first + k * step;
      if (begin >= a.columns) break;
      kept_dy[k] = load_chunk(dy, begin, a.columns, aligned);
      kept_x[k] = load_chunk(x, begin, a.columns, aligned);
      total += dot(kept_dy[k], kept_x[k], load_chunk(weight, begin, a.columns, aligned), a.gain_offset);
    }
    for (std::int64_t begin = rest; begin < a.columns; begin += step) {
      total += dot(load_chunk(dy, begin, a.columns, aligned), load_chunk(x, begin, a.columns, aligned),
                   load_chunk(weight, begin, a.columns, aligned), a.gain_offset);
    }
    const float r = a.rstd[row], pull = team_sum(team, total, partial) / static_cast<float>(a.columns) * r * r;
    const auto finish = [&](const Chunk<T>& d, const Chunk<T>& v, std::int64_t begin) {
      const Chunk<T> w = load_chunk(weight, begin, a.columns, aligned);
      const Chunk<T> before = a.add_to_dx != 0 ? load_chunk(dx, begin, a.columns, aligned) : Chunk<T>{};
      store_chunk(dx, begin, a.columns, aligned, gradient(d, v, w, before, a.gain_offset, r, pull));
    };
#pragma unroll
    for (int k = 0; k < kKept<T>; ++k) {
      const std::int64_t begin = first + k * step;
      if (begin >= a.columns) break;
      finish(kept_dy[k], kept_x[k], begin);
    }
    for (std::int64_t begin = rest; begin < a.columns; begin += step)
      finish(load_chunk(dy, begin, a.columns, aligned), load_chunk(x, begin, a.columns, aligned), begin);
  }
}

}  // namespace

#define GRAFT_ENTRIES(T)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(kRowThreads) graft_rms_norm_forward_##T(                                      \
      const void* x, const void* residual, const void* weight, void* sum, void* y, float* rstd, std::int64_t x_stride,       \
      std::int64_t residual_stride, std::int64_t sum_stride, std::int64_t y_stride, std::int64_t rows, std::int64_t columns, \
      float eps, float gain_offset, int gain_in_f32) {                                                                       \
    forward<T>({x, residual, weight, sum, y, rstd, x_stride, residual_stride, sum_stride, y_stride, rows, columns, eps,      \
                gain_offset, gain_in_f32});                                                                                  \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                                  \
      graft_rms_norm_backward_##T(const void* dy, const void* x, const void* weight, const float* rstd, void* dx,            \
                                  std::int64_t dy_stride, std::int64_t x_stride, std::int64_t dx_stride, std::int64_t rows,  \
                                  std::int64_t columns, float gain_offset, int add_to_dx) {                                  \
    backward<T>({dy, x, weight, rstd, dx, dy_stride, x_stride, dx_stride, rows, columns, gain_offset, add_to_dx});           \
  }

GRAFT_ENTRIES(bf16)
GRAFT_ENTRIES(f32)

extern "C" int graft_rms_norm_forward(DType type, const RmsNormForward& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  return GRAFT_LAUNCH_TYPED(type, graft_rms_norm_forward, row_blocks(a.rows, a.columns), kRowThreads, stream, a.x, a.residual,
                            a.weight, a.sum, a.y, a.rstd, a.x_stride, a.residual_stride, a.sum_stride, a.y_stride, a.rows,
                            a.columns, a.eps, a.gain_offset, a.gain_in_f32);
}

extern "C" int graft_rms_norm_backward(DType type, const RmsNormBackward& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  return GRAFT_LAUNCH_TYPED(type, graft_rms_norm_backward, row_blocks(a.rows, a.columns), kRowThreads, stream, a.dy, a.x,
                            a.weight, a.rstd, a.dx, a.dy_stride, a.x_stride, a.dx_stride, a.rows, a.columns, a.gain_offset,
                            a.add_to_dx);
}

}  // namespace graft::cuda
