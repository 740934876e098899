#include "export/quantize/grid.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/half.h"
#include "core/simd.h"
#include "export/quantize/e4m3.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements that one thread takes at a time
constexpr const char* kNotFinite = "a weight is not finite";

float lowest_code(const model::CompressedScheme& scheme) { return -static_cast<float>(1 << (scheme.bits - 1)); }

// To nearest, ties to even: whole numbers up to 2^22.
float nearest(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

struct Groups {
  std::int64_t count, size;  // of all rows; elements of one
};
Groups groups_of(const at::Tensor& x, const model::CompressedScheme& scheme) {
  const std::int64_t per_row = scheme.groups(x.size(1));
  return {x.size(0) * per_row, x.size(1) / per_row};
}

template <class Each>
void for_groups(const Groups& groups, const Each& each) {
  at::parallel_for(0, groups.count, std::max<std::int64_t>(1, kGrain / groups.size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t group = begin; group < end; ++group) each(group);
  });
}

struct Range {
  float low = 0, high = 0;  // zero is part of it
  bool finite = true;
};
GRAFT_SIMD Range range_of(const float* v, std::int64_t n) {
  constexpr float largest = std::numeric_limits<float>::max();
  float low = 0, high = 0;
  int outside = 0;
#pragma omp simd reduction(min : low) reduction(max : high) reduction(| : outside)
  for (std::int64_t i = 0; i < n; ++i) {
    outside |= std::fabs(v[i]) <= largest ? 0 : 1;
    low = v[i] < low ? v[i] : low;
    high = v[i] > high ? v[i] : high;
  }
  return {low, high, outside == 0};
}

struct GroupGrid {
  float scale, zero = 0;
  bool finite;
};
GroupGrid grid_of_group(const float* values, std::int64_t n, const model::CompressedScheme& scheme) {
  const float steps = static_cast<float>((1 << scheme.bits) - 1), lowest = lowest_code(scheme);
  const auto [low, high, finite] = range_of(values, n);
  const float largest = std::max(-low, high);
  GroupGrid grid{.scale = scheme.format == model::CompressedFormat::floating ? largest / kLargestE4M3
                          : scheme.symmetric                                 ? largest / (steps / 2)
                                                                             : (high - low) / steps,
                 .finite = finite};
  grid.scale = f32_from_bf16(bf16_from_f32(grid.scale));
  if (grid.scale == 0) grid.scale = kScaleOfZeros;
  if (!scheme.symmetric) grid.zero = clamped(std::nearbyint(lowest - low / grid.scale), lowest, -lowest - 1);
  return grid;
}

GRAFT_SIMD void codes_of_group(const float* x, std::int64_t n, float scale, float zero, const model::CompressedScheme& scheme,
                               float* out) {
  if (scheme.format == model::CompressedFormat::floating) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = nearest_e4m3(clamped(x[i] / scale, -kLargestE4M3, kLargestE4M3));
    return;
  }
  const float low = lowest_code(scheme), high = -low - 1;
  for (std::int64_t i = 0; i < n; ++i) out[i] = nearest(clamped(x[i] / scale + zero, low, high));
}

GRAFT_SIMD void store_codes(bool floating, const float* codes, std::int64_t n, std::uint8_t* out) {
  if (floating)
    for (std::int64_t i = 0; i < n; ++i) out[i] = byte_e4m3(codes[i]);
  else
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<std::uint8_t>(static_cast<int>(codes[i]));
}

}  // namespace

Grid grid_of(const at::Tensor& weight, const model::CompressedScheme& scheme) {
  const at::Tensor x = weight.contiguous();
  const Groups groups = groups_of(x, scheme);
  const std::vector<std::int64_t> shape = {x.size(0), scheme.groups(x.size(1))};
  Grid grid{at::empty(shape, at::kFloat), scheme.symmetric ? at::Tensor() : at::empty(shape, at::kFloat)};
  const float* values = x.const_data_ptr<float>();
  float* const scales = grid.scale.mutable_data_ptr<float>();
  float* const zeros = scheme.symmetric ? nullptr : grid.zero.mutable_data_ptr<float>();
  std::atomic<bool> finite = true;
  for_groups(groups, [&](std::int64_t group) {
    const GroupGrid found = grid_of_group(values + group * groups.size, groups.size, scheme);
    if (!found.finite) finite = false;
    scales[group] = found.scale;
    if (zeros != nullptr) zeros[group] = found.zero;
  });
  if (!finite) throw DataError(kNotFinite);
  return grid;
}

at::Tensor codes_on(const Grid& grid, const at::Tensor& weight, const model::CompressedScheme& scheme) {
  const at::Tensor x = weight.contiguous();
  const Groups groups = groups_of(x, scheme);
  at::Tensor codes = at::empty(x.sizes(), at::kFloat);
  const float* values = x.const_data_ptr<float>();
  const float* scales = grid.scale.const_data_ptr<float>();
  const float* zeros = grid.zero.defined() ? grid.zero.const_data_ptr<float>() : nullptr;
  float* const out = codes.mutable_data_ptr<float>();
  for_groups(groups, [&](std::int64_t group) {
    const std::int64_t at = group * groups.size;
    codes_of_group(values + at, groups.size, scales[group], zeros != nullptr ? zeros[group] : 0, scheme, out + at);
  });
  return codes;
}

at::Tensor nearest_values(const at::Tensor& weight, const model::CompressedScheme& scheme) {
  const at::Tensor x = weight.contiguous();
  const Groups groups = groups_of(x, scheme);
  at::Tensor rounded = at::empty(x.sizes(), at::kFloat);
  const float* values = x.const_data_ptr<float>();
  float* const out = rounded.mutable_data_ptr<float>();
  std::atomic<bool> finite = true;
  for_groups(groups, [&](std::int64_t group) {
    const std::int64_t at = group * groups.size;
    const GroupGrid found = grid_of_group(values + at, groups.size, scheme);
    if (!found.finite) finite = false;
    codes_of_group(values + at, groups.size, found.scale, found.zero, scheme, out + at);
    for (std::int64_t i = at; i < at + groups.size; ++i) out[i] = (out[i] - found.zero) * found.scale;
  });
  if (!finite) throw DataError(kNotFinite);
  return rounded;
}

model::CompressedWeight compressed(const Grid& grid, const at::Tensor& codes, const model::CompressedScheme& scheme) {
  const bool floating = scheme.format == model::CompressedFormat::floating;
  at::Tensor bytes = at::empty(codes.sizes(), at::TensorOptions().dtype(floating ? at::kFloat8_e4m3fn : at::kChar));
  const at::Tensor points = codes.contiguous();
  const float* values = points.const_data_ptr<float>();
  auto* const out = static_cast<std::uint8_t*>(bytes.mutable_data_ptr());
  at::parallel_for(0, codes.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    store_codes(floating, values + begin, end - begin, out + begin);
  });
  model::CompressedWeight weight;
  weight.scale = grid.scale.to(at::kBFloat16);
  weight.codes = scheme.format == model::CompressedFormat::packed ? model::pack_codes(bytes, scheme.bits) : bytes;
  if (grid.zero.defined())
    weight.zero_point = model::pack_codes(grid.zero.to(at::kChar).t().contiguous(), scheme.bits).t().contiguous();
  return weight;
}

}  // namespace graft::exports
