#include "export/quantize/nf4.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/nf4/nf4.h"

namespace graft::exports {
namespace {

constexpr double kSmallest = 1e-38;  // bitsandbytes' divisor of a block of zeros

template <class Levels>
at::Tensor tensor_of(const Levels& levels) {
  return at::tensor(at::ArrayRef<float>(levels.data(), levels.size()), at::kFloat);
}

// Rows of `size` elements, the last filled up with zeros.
at::Tensor in_rows(const at::Tensor& flat, std::int64_t size) {
  const std::int64_t rows = (flat.size(0) + size - 1) / size;
  return at::constant_pad_nd(flat, {0, rows * size - flat.size(0)}).view({rows, size});
}

struct Quantized {
  at::Tensor indices;  // I64 of the input's size
  at::Tensor scales;   // f32, one for each block
};

Quantized to_nearest_level(const at::Tensor& flat, const at::Tensor& levels, std::int64_t block) {
  const at::Tensor rows = in_rows(flat, block), scales = rows.abs().amax(1);
  const at::Tensor scaled = (rows * scales.clamp_min(kSmallest).reciprocal().unsqueeze(1)).clamp_(-1, 1);
  const std::int64_t last = levels.size(0) - 1;
  const at::Tensor middles = (levels.narrow(0, 0, last) + levels.narrow(0, 1, last)) / 2;
  return {at::bucketize(scaled, middles).flatten().narrow(0, 0, flat.size(0)), scales};
}

at::Tensor from_levels(const Quantized& quantized, const at::Tensor& levels, std::int64_t block) {
  const at::Tensor values = levels.index_select(0, quantized.indices);
  return values * quantized.scales.repeat_interleave(block).narrow(0, 0, values.size(0));
}

}  // namespace

at::Tensor nf4_levels() { return tensor_of(cuda::kNf4Levels); }
at::Tensor nf4_scale_levels() { return tensor_of(cuda::nf4_scale_map()); }

Nf4Weight round_to_nf4(const at::Tensor& x) {
  if (!x.isfinite().all().item<bool>()) throw DataError("a weight is not finite");
  const at::Tensor levels = nf4_levels(), map = nf4_scale_levels();
  Quantized fine = to_nearest_level(x.flatten(), levels, cuda::kNf4Block);
  const auto offset = fine.scales.mean().item<float>();
  const Quantized coarse = to_nearest_level(fine.scales - offset, map, cuda::kNf4Group);
  fine.scales = from_levels(coarse, map, cuda::kNf4Group).add_(offset);
  const at::Tensor pairs = fine.indices.view({-1, 2});
  return {.codes = at::bitwise_or(at::bitwise_left_shift(pairs.select(1, 0), 4), pairs.select(1, 1)).to(at::kByte),
          .scales = coarse.indices.to(at::kByte),
          .group_scales = coarse.scales,
          .offset = offset,
          .values = from_levels(fine, levels, cuda::kNf4Block).view(x.sizes())};
}

}  // namespace graft::exports
