#include "kernels/cpu/pairs.h"

namespace graft::kernels::cpu {

void interleave_rows(const Bf16Bits* in, std::int64_t in_stride, std::int64_t rows, std::int64_t n, std::uint32_t* out,
                     std::int64_t out_stride) {
  if (isa() >= Isa::avx512_bf16) return interleave_rows_avx512_bf16(in, in_stride, rows, n, out, out_stride);
  for (std::int64_t r = 0; r < rows; r += 2, in += 2 * in_stride, out += out_stride)
    for (std::int64_t j = 0; j < n; ++j)
      out[j] = static_cast<std::uint32_t>(in[j]) | (r + 1 < rows ? static_cast<std::uint32_t>(in[in_stride + j]) << 16 : 0u);
}

}  // namespace graft::kernels::cpu
