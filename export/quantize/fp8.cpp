#include "export/quantize/fp8.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/error.h"
#include "core/half.h"
#include "core/simd.h"
#include "export/quantize/e4m3.h"
#include "export/quantize/range.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements that one thread takes at a time

// Calls each(row, tile of columns, first element, number of elements, index of the tile's scale) on all threads.
template <class Each>
void for_runs(const at::Tensor& matrix, const model::Fp8Tiles& tiles, const Each& each) {
  const std::int64_t rows = matrix.size(0), columns = matrix.size(1), across = tiles.across(columns);
  const std::int64_t height = tiles.rows == 0 ? rows : tiles.rows, width = tiles.columns == 0 ? columns : tiles.columns;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kGrain / columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t tile = 0; tile < across; ++tile)
        each(row * across + tile, row * columns + tile * width, std::min(width, columns - tile * width),
             row / height * across + tile);
  });
}

GRAFT_SIMD void to_bytes(const float* x, std::int64_t n, float scale, std::uint8_t* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = byte_e4m3(nearest_e4m3(clamped(x[i] / scale, -kLargestE4M3, kLargestE4M3)));
}

GRAFT_SIMD void to_values(const std::uint8_t* codes, std::int64_t n, float scale, float* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = f32_from_e4m3(codes[i]) * scale;
}

}  // namespace

at::Tensor Fp8Weight::values(const model::Fp8Tiles& tiles) const {
  at::Tensor decoded = at::empty(codes.sizes(), at::kFloat);
  const auto* const bytes = static_cast<const std::uint8_t*>(codes.const_data_ptr());
  const auto* const scales = scale.const_data_ptr<float>();
  auto* const out = decoded.mutable_data_ptr<float>();
  for_runs(codes, tiles, [&](std::int64_t, std::int64_t first, std::int64_t count, std::int64_t tile) {
    to_values(bytes + first, count, scales[tile], out + first);
  });
  return decoded;
}

Fp8Weight round_to_fp8(const at::Tensor& weight, const model::Fp8Tiles& tiles, float least) {
  const at::Tensor x = weight.contiguous();
  const std::int64_t down = tiles.down(x.size(0)), across = tiles.across(x.size(1));
  const auto* const values = x.const_data_ptr<float>();
  std::vector<float> largest(static_cast<std::size_t>(x.size(0) * across));  // of each row's part of a tile
  std::atomic<bool> finite = true;
  for_runs(x, tiles, [&](std::int64_t run, std::int64_t first, std::int64_t count, std::int64_t) {
    const float found = largest_magnitude(values + first, count);
    if (!std::isfinite(found)) finite = false;
    largest[static_cast<std::size_t>(run)] = found;
  });
  if (!finite) throw DataError("a weight is not finite");

  Fp8Weight rounded{at::empty(x.sizes(), at::TensorOptions().dtype(at::kFloat8_e4m3fn)),
                    at::full({down, across}, least, at::kFloat)};
  auto* const scales = rounded.scale.mutable_data_ptr<float>();
  const std::int64_t height = tiles.rows == 0 ? x.size(0) : tiles.rows;
  for (std::size_t run = 0; run < largest.size(); ++run) {
    const std::int64_t row = static_cast<std::int64_t>(run) / across,
                       tile = row / height * across + static_cast<std::int64_t>(run) % across;
    scales[tile] = std::max(scales[tile], largest[run]);
  }
  for (std::int64_t tile = 0; tile < down * across; ++tile) {
    scales[tile] /= kLargestE4M3;
    if (scales[tile] == 0) scales[tile] = kScaleOfZeros;
  }

  auto* const codes = static_cast<std::uint8_t*>(rounded.codes.mutable_data_ptr());
  for_runs(x, tiles, [&](std::int64_t, std::int64_t first, std::int64_t count, std::int64_t tile) {
    to_bytes(values + first, count, scales[tile], codes + first);
  });
  return rounded;
}

}  // namespace graft::exports
