#include "kernels/copy_rows/copy_rows_cuda.h"

#include "kernels/cuda/rows.cuh"

namespace graft::cuda {
namespace {

// As many elements of x as a chunk of y has.
template <class In, class Out>
GRAFT_DEVICE void load_values(const In* row, std::int64_t begin, std::int64_t columns, bool aligned, float (&v)[kChunk<Out>]) {
#pragma unroll
  for (int part = 0; part < kChunk<Out> / kChunk<In>; ++part) {
    float some[kChunk<In>];
    unpack(load_chunk(row, begin + part * kChunk<In>, columns, aligned), some);
#pragma unroll
    for (int i = 0; i < kChunk<In>; ++i) v[part * kChunk<In> + i] = some[i];
  }
}

template <class In, class Out>
GRAFT_DEVICE void copy_rows(const In* x, const std::int64_t* index, Out* y, std::int64_t x_stride, std::int64_t y_stride,
                            std::int64_t x_rows, std::int64_t rows, std::int64_t columns, float scale) {
  const bool aligned_x = aligned16(x, x_stride, sizeof(In)), aligned_y = aligned16(y, y_stride, sizeof(Out));
  const std::int64_t begin = (std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kChunk<Out>;
  if (begin >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const std::int64_t from = index != nullptr ? index[row] : row;
    float v[kChunk<Out>] = {};
    if (from >= 0 && from < x_rows) {
      load_values<In, Out>(x + from * x_stride, begin, columns, aligned_x, v);
#pragma unroll
      for (int i = 0; i < kChunk<Out>; ++i) v[i] *= scale;
    }
    store_chunk(y + row * y_stride, begin, columns, aligned_y, pack<Out>(v));
  }
}

}  // namespace

#define GRAFT_ENTRY(name, In, Out)                                                                                               \
  extern "C" __global__ void __launch_bounds__(kRowThreads)                                                                      \
      name(const void* x, const std::int64_t* index, void* y, std::int64_t x_stride, std::int64_t y_stride, std::int64_t x_rows, \
           std::int64_t rows, std::int64_t columns, float scale) {                                                               \
    copy_rows(static_cast<const In*>(x), index, static_cast<Out*>(y), x_stride, y_stride, x_rows, rows, columns, scale);         \
  }

GRAFT_ENTRY(graft_copy_rows_bf16, bf16, bf16)
GRAFT_ENTRY(graft_copy_rows_f32, f32, f32)
GRAFT_ENTRY(graft_round_rows_bf16, f32, bf16)

extern "C" int graft_copy_rows(DType x_type, DType y_type, const CopyRows& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return 0;
  const std::int64_t per_block = kRowThreads * (y_type == DType::bf16 ? kChunk<bf16> : kChunk<f32>);
  const dim3 grid(static_cast<unsigned>((a.columns + per_block - 1) / per_block),
                  static_cast<unsigned>(smaller(a.rows, kMaxBlocks)), 1);
  if (x_type == y_type)
    return GRAFT_LAUNCH_TYPED(x_type, graft_copy_rows, grid, kRowThreads, stream, a.x, a.index, a.y, a.x_stride, a.y_stride,
                              a.x_rows, a.rows, a.columns, a.scale);
  if (x_type != DType::f32) return 1;
  return GRAFT_LAUNCH(graft_round_rows_bf16, grid, kRowThreads, stream, a.x, a.index, a.y, a.x_stride, a.y_stride, a.x_rows,
                      a.rows, a.columns, a.scale);
}

}  // namespace graft::cuda
