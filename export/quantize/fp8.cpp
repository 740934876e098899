#include "export/quantize/fp8.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace graft::exports {
namespace {

constexpr double kLargestE4M3 = 448, kScaleOfZeros = 0x1p-7;

at::Tensor largest_of_tiles(const at::Tensor& size, const model::Fp8Tiles& tiles) {
  const std::int64_t out = size.size(0), in = size.size(1), down = tiles.down(out), across = tiles.across(in);
  const std::int64_t rows = tiles.rows == 0 ? out : tiles.rows, columns = tiles.columns == 0 ? in : tiles.columns;
  const at::Tensor padded = at::constant_pad_nd(size, {0, across * columns - in, 0, down * rows - out});
  return padded.view({down, rows, across, columns}).amax({1, 3});
}

}  // namespace

at::Tensor Fp8Weight::values(const model::Fp8Tiles& tiles) const {
  return codes.to(at::kFloat).mul_(model::spread(scale, tiles, codes.size(0), codes.size(1)));
}

Fp8Weight round_to_fp8(const at::Tensor& x, const model::Fp8Tiles& tiles) {
  Fp8Weight weight;
  weight.scale = largest_of_tiles(x.abs(), tiles).div_(kLargestE4M3);
  if (!weight.scale.isfinite().all().item<bool>()) throw DataError("a weight is not finite");
  weight.scale.masked_fill_(weight.scale == 0, kScaleOfZeros);
  const at::Tensor scaled = x / model::spread(weight.scale, tiles, x.size(0), x.size(1));
  weight.codes = scaled.clamp_(-kLargestE4M3, kLargestE4M3).to(at::kFloat8_e4m3fn);
  return weight;
}

}  // namespace graft::exports
