#include "kernels/gated_activation/gated_activation_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

struct Value {
  float act, slope;
};

GRAFT_DEVICE Value evaluate(float e, int activation) {
  if (activation == 0) {
    const float s = 1.f / (1.f + fast_exp(-e));
    return {e * s, s * (1.f + e * (1.f - s))};
  }
  constexpr float k = 0.7978845608f, c = 0.044715f;
  const float t = tanhf(k * (e + c * e * e * e));
  return {0.5f * e * (1.f + t), 0.5f * (1.f + t) + 0.5f * e * (1.f - t * t) * k * (1.f + 3.f * c * e * e)};
}

// The grid covers the chunks of a row in x, and the rows in y.
GRAFT_DEVICE std::int64_t first_column(int chunk) { return (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * chunk; }

template <class T>
GRAFT_DEVICE void forward(const GatedForward& a) {
  const int bytes = sizeof(T);
  const bool aligned =
      aligned16(a.gate, a.gate_stride, bytes) && aligned16(a.up, a.up_stride, bytes) && aligned16(a.h, a.h_stride, bytes);
  const std::int64_t begin = first_column(kChunk<T>);
  if (begin >= a.columns) return;
  for (std::int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    float e[kChunk<T>], g[kChunk<T>];
    unpack(load_chunk(static_cast<const T*>(a.gate) + row * a.gate_stride, begin, a.columns, aligned), e);
    unpack(load_chunk(static_cast<const T*>(a.up) + row * a.up_stride, begin, a.columns, aligned), g);
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i) e[i] = evaluate(e[i], a.activation).act * g[i];
    store_chunk(static_cast<T*>(a.h) + row * a.h_stride, begin, a.columns, aligned, pack<T>(e));
  }
}

template <class T>
GRAFT_DEVICE void backward(const GatedBackward& a) {
  const int bytes = sizeof(T);
  const bool aligned =
      aligned16(a.gate, a.gate_stride, bytes) && aligned16(a.up, a.up_stride, bytes) && aligned16(a.dh, a.dh_stride, bytes);
  const std::int64_t begin = first_column(kChunk<T>);
  if (begin >= a.columns) return;
  for (std::int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    T *dh = static_cast<T*>(a.dh) + row * a.dh_stride, *gate = static_cast<T*>(a.gate) + row * a.gate_stride,
      *up = static_cast<T*>(a.up) + row * a.up_stride;
    float d[kChunk<T>], e[kChunk<T>], g[kChunk<T>];
    unpack(load_chunk(dh, begin, a.columns, aligned), d);
    unpack(load_chunk(gate, begin, a.columns, aligned), e);
    unpack(load_chunk(up, begin, a.columns, aligned), g);
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i) {
      const Value value = evaluate(e[i], a.activation);
      const float dh_i = d[i];
      d[i] = value.act * g[i];
      e[i] = dh_i * g[i] * value.slope;
      g[i] = dh_i * value.act;
    }
    store_chunk(dh, begin, a.columns, aligned, pack<T>(d));
    store_chunk(gate, begin, a.columns, aligned, pack<T>(e));
    store_chunk(up, begin, a.columns, aligned, pack<T>(g));
  }
}

template <class T>
dim3 grid(std::int64_t rows, std::int64_t columns) {
  const std::int64_t per_block = kRowThreads * kChunk<T>;
  return {static_cast<unsigned>((columns + per_block - 1) / per_block), static_cast<unsigned>(smaller(rows, kMaxBlocks)), 1};
}
dim3 grid_of(DType type, std::int64_t rows, std::int64_t columns) {
  return type == DType::bf16 ? grid<bf16>(rows, columns) : grid<f32>(rows, columns);
}

}  // namespace

#define GRAFT_ENTRIES(T)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                                \
      graft_gated_forward_##T(const void* gate, const void* up, void* h, std::int64_t gate_stride, std::int64_t up_stride, \
                              std::int64_t h_stride, std::int64_t rows, std::int64_t columns, int activation) {            \
    forward<T>({gate, up, h, gate_stride, up_stride, h_stride, rows, columns, activation});                                \
  }                                                                                                                        \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                                \
      graft_gated_backward_##T(void* dh, void* gate, void* up, std::int64_t dh_stride, std::int64_t gate_stride,           \
                               std::int64_t up_stride, std::int64_t rows, std::int64_t columns, int activation) {          \
    backward<T>({dh, gate, up, dh_stride, gate_stride, up_stride, rows, columns, activation});                             \
  }

GRAFT_ENTRIES(bf16)
GRAFT_ENTRIES(f32)

extern "C" int graft_gated_forward(DType type, const GatedForward& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  return GRAFT_LAUNCH_TYPED(type, graft_gated_forward, grid_of(type, a.rows, a.columns), kRowThreads, stream, a.gate, a.up, a.h,
                            a.gate_stride, a.up_stride, a.h_stride, a.rows, a.columns, a.activation);
}

extern "C" int graft_gated_backward(DType type, const GatedBackward& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  return GRAFT_LAUNCH_TYPED(type, graft_gated_backward, grid_of(type, a.rows, a.columns), kRowThreads, stream, a.dh, a.gate, a.up,
                            a.dh_stride, a.gate_stride, a.up_stride, a.rows, a.columns, a.activation);
}

}  // namespace graft::cuda
