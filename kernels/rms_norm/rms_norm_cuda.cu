#include "kernels/rms_norm/rms_norm_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

// Chunk of h = x + residual; what is normalised is what was stored.
template <bool kWhole, class T>
GRAFT_DEVICE Chunk<T> take_sum(const T* x, const T* residual, T* sum, int begin, int columns, bool aligned) {
  Chunk<T> chunk = load_chunk<kWhole>(x, begin, columns, aligned);
  if (residual == nullptr) return chunk;
  float v[kChunk<T>], r[kChunk<T>];
  unpack(chunk, v);
  unpack(load_chunk<kWhole>(residual, begin, columns, aligned), r);
#pragma unroll
  for (int i = 0; i < kChunk<T>; ++i) v[i] += r[i];
  chunk = pack<T>(v);
  store_chunk<kWhole>(sum, begin, columns, aligned, chunk);
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

template <class T, bool kWhole>
GRAFT_DEVICE void forward_rows(const RmsNormForward& a, float* partial, bool aligned) {
  const Team team = row_team(a.columns);
  const int step = team.size * kChunk<T>, columns = static_cast<int>(a.columns);
  const auto* weight = static_cast<const T*>(a.weight);
  for (std::int64_t row = team.first_row; row < a.rows; row += team.row_step) {
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride;
    const T* residual = a.residual != nullptr ? static_cast<const T*>(a.residual) + row * a.residual_stride : nullptr;
    T *sum = static_cast<T*>(a.sum) + row * a.sum_stride, *y = static_cast<T*>(a.y) + row * a.y_stride;
    Chunk<T> kept[kKept<T, kWhole>] = {};
    float total = 0;
    const int first = team.rank * kChunk<T>, rest = first + kKept<T, kWhole> * step;
#pragma unroll
    for (int k = 0; k < kKept<T, kWhole>; ++k) {
      const int begin = first + k * step;
      if (begin < columns) kept[k] = take_sum<kWhole>(x, residual, sum, begin, columns, aligned);
      total += squares(kept[k]);
    }
    for (int begin = rest; begin < columns; begin += step)
      total += squares(take_sum<kWhole>(x, residual, sum, begin, columns, aligned));
    const float r = fast_rsqrt(team_sum(team, total, partial) / static_cast<float>(columns) + a.eps);
    if (a.rstd != nullptr && team.rank == 0) a.rstd[row] = r;
    const auto finish = [&](const Chunk<T>& v, int begin) {
      const Chunk<T> w = load_chunk<kWhole>(weight, begin, columns, aligned);
      store_chunk<kWhole>(y, begin, columns, aligned, normalised(v, w, r, a.gain_offset, a.gain_in_f32 != 0));
    };
#pragma unroll
    for (int k = 0; k < kKept<T, kWhole>; ++k) {
      const int begin = first + k * step;
      if (begin < columns) finish(kept[k], begin);
    }
    const T* h = residual != nullptr ? sum : x;
    for (int begin = rest; begin < columns; begin += step) finish(load_chunk<kWhole>(h, begin, columns, aligned), begin);
  }
}

template <class T>
GRAFT_DEVICE void forward(const RmsNormForward& a) {
  GRAFT_SHARED(float, partial, kRowWarps);
  const int bytes = sizeof(T);
  const bool aligned = aligned16(a.x, a.x_stride, bytes) && aligned16(a.residual, a.residual_stride, bytes) &&
                       aligned16(a.sum, a.sum_stride, bytes) && aligned16(a.y, a.y_stride, bytes) &&
                       aligned16(a.weight, 0, bytes);
  if (aligned && a.columns % kChunk<T> == 0)
    forward_rows<T, true>(a, partial, aligned);
  else
    forward_rows<T, false>(a, partial, aligned);
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

template <class T, bool kWhole>
GRAFT_DEVICE void backward_rows(const RmsNormBackward& a, float* partial, bool aligned) {
  const Team team = row_team(a.columns);
  const int step = team.size * kChunk<T>, columns = static_cast<int>(a.columns);
  const auto* weight = static_cast<const T*>(a.weight);
  for (std::int64_t row = team.first_row; row < a.rows; row += team.row_step) {
    const T *dy = static_cast<const T*>(a.dy) + row * a.dy_stride, *x = static_cast<const T*>(a.x) + row * a.x_stride;
    T* dx = static_cast<T*>(a.dx) + row * a.dx_stride;
    Chunk<T> kept_dy[kKept<T, kWhole>] = {}, kept_x[kKept<T, kWhole>] = {};
    float total = 0;
    const int first = team.rank * kChunk<T>, rest = first + kKept<T, kWhole> * step;
#pragma unroll
    for (int k = 0; k < kKept<T, kWhole>; ++k) {
      const int begin = first + k * step;
      if (begin >= columns) continue;
      kept_dy[k] = load_chunk<kWhole>(dy, begin, columns, aligned);
      kept_x[k] = load_chunk<kWhole>(x, begin, columns, aligned);
      total += dot(kept_dy[k], kept_x[k], load_chunk<kWhole>(weight, begin, columns, aligned), a.gain_offset);
    }
    for (int begin = rest; begin < columns; begin += step) {
      total += dot(load_chunk<kWhole>(dy, begin, columns, aligned), load_chunk<kWhole>(x, begin, columns, aligned),
                   load_chunk<kWhole>(weight, begin, columns, aligned), a.gain_offset);
    }
    const float r = a.rstd[row], pull = team_sum(team, total, partial) / static_cast<float>(columns) * r * r;
    const auto finish = [&](const Chunk<T>& d, const Chunk<T>& v, int begin) {
      const Chunk<T> w = load_chunk<kWhole>(weight, begin, columns, aligned);
      const Chunk<T> before = a.add_to_dx != 0 ? load_chunk<kWhole>(dx, begin, columns, aligned) : Chunk<T>{};
      store_chunk<kWhole>(dx, begin, columns, aligned, gradient(d, v, w, before, a.gain_offset, r, pull));
    };
#pragma unroll
    for (int k = 0; k < kKept<T, kWhole>; ++k) {
      const int begin = first + k * step;
      if (begin < columns) finish(kept_dy[k], kept_x[k], begin);
    }
    for (int begin = rest; begin < columns; begin += step)
      finish(load_chunk<kWhole>(dy, begin, columns, aligned), load_chunk<kWhole>(x, begin, columns, aligned), begin);
  }
}

template <class T>
GRAFT_DEVICE void backward(const RmsNormBackward& a) {
  GRAFT_SHARED(float, partial, kRowWarps);
  const int bytes = sizeof(T);
  const bool aligned = aligned16(a.dy, a.dy_stride, bytes) && aligned16(a.x, a.x_stride, bytes) &&
                       aligned16(a.dx, a.dx_stride, bytes) && aligned16(a.weight, 0, bytes);
  if (aligned && a.columns % kChunk<T> == 0)
    backward_rows<T, true>(a, partial, aligned);
  else
    backward_rows<T, false>(a, partial, aligned);
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
