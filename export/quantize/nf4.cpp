#include "export/quantize/nf4.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "core/error.h"
#include "core/simd.h"
#include "export/quantize/e4m3.h"
#include "kernels/nf4/nf4.h"

namespace graft::exports {
namespace {

constexpr float kSmallest = 1e-38f;                             // bitsandbytes' divisor of a block of zeros
constexpr std::int64_t kBlock = cuda::kNf4Block, kGrain = 512;  // blocks that one thread takes at a time

template <class Levels>
at::Tensor tensor_of(const Levels& levels) {
  return at::tensor(at::ArrayRef<float>(levels.data(), levels.size()), at::kFloat);
}

std::int64_t blocks_of(std::int64_t elements) { return (elements + kBlock - 1) / kBlock; }

// Calls each(block, first element, number of elements) on all threads.
template <class Each>
void for_blocks(std::int64_t elements, const Each& each) {
  at::parallel_for(0, blocks_of(elements), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      each(block, block * kBlock, std::min(kBlock, elements - block * kBlock));
  });
}

using Middles = std::array<float, cuda::kNf4Levels.size() - 1>;
Middles middles_of_levels() {
  Middles middles;
  for (std::size_t k = 0; k < middles.size(); ++k) middles[k] = (cuda::kNf4Levels[k] + cuda::kNf4Levels[k + 1]) / 2;
  return middles;
}

// The codes of a block: as many as there are middles below a value.
GRAFT_SIMD void codes_of(const float* x, std::int64_t n, float inverse, const Middles& middles, std::uint8_t* out) {
  std::array<std::int32_t, kBlock> codes;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float scaled = std::min(std::max(x[i] * inverse, -1.0f), 1.0f);
    std::int32_t code = 0;
    for (const float middle : middles) code += scaled > middle ? 1 : 0;
    codes[static_cast<std::size_t>(i)] = code;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(n / 2); ++i)
    out[i] = static_cast<std::uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
}

struct Quantized {
  at::Tensor indices;  // I64 of the input's size
  at::Tensor scales;   // f32, one for each group
};

// Of the scales, which are few.
Quantized to_nearest_level(const at::Tensor& flat, const at::Tensor& levels) {
  const std::int64_t groups = (flat.size(0) + cuda::kNf4Group - 1) / cuda::kNf4Group;
  const at::Tensor rows = at::constant_pad_nd(flat, {0, groups * cuda::kNf4Group - flat.size(0)}).view({groups, cuda::kNf4Group});
  const at::Tensor scales = rows.abs().amax(1);
  const at::Tensor scaled = (rows * scales.clamp_min(kSmallest).reciprocal().unsqueeze(1)).clamp_(-1, 1);
  const std::int64_t last = levels.size(0) - 1;
  const at::Tensor middles = (levels.narrow(0, 0, last) + levels.narrow(0, 1, last)) / 2;
  return {at::bucketize(scaled, middles).flatten().narrow(0, 0, flat.size(0)), scales};
}

}  // namespace

at::Tensor nf4_levels() { return tensor_of(cuda::kNf4Levels); }
at::Tensor nf4_scale_levels() { return tensor_of(cuda::nf4_scale_map()); }

Nf4Weight round_to_nf4(const at::Tensor& weight) {
  const at::Tensor x = weight.contiguous();
  const auto* const values = x.const_data_ptr<float>();
  const at::Tensor scales = at::zeros({blocks_of(x.numel())}, at::kFloat);
  auto* const largest = scales.mutable_data_ptr<float>();
  std::atomic<bool> finite = true;
  for_blocks(x.numel(), [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    if (!find_largest(values + first, count, largest[block])) finite = false;
  });
  if (!finite) throw DataError("a weight is not finite");
  const auto offset = scales.mean().item<float>();
  const Quantized coarse = to_nearest_level(scales - offset, nf4_scale_levels());

  at::Tensor codes = at::empty({x.numel() / 2}, at::kByte);
  auto* const bytes = codes.mutable_data_ptr<std::uint8_t>();
  const Middles middles = middles_of_levels();
  for_blocks(x.numel(), [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    codes_of(values + first, count, 1 / std::max(largest[block], kSmallest), middles, bytes + first / 2);
  });
  return {codes, coarse.indices.to(at::kByte), coarse.scales, offset};
}

at::Tensor Nf4Weight::values() const {
  const at::Tensor map = nf4_scale_levels(), index = scales.to(at::kLong);
  const at::Tensor scale = map.index_select(0, index)
                               .mul_(group_scales.repeat_interleave(cuda::kNf4Group).narrow(0, 0, scales.size(0)))
                               .add_(static_cast<float>(offset));
  at::Tensor decoded = at::empty({2 * codes.size(0)}, at::kFloat);
  const auto* const bytes = codes.const_data_ptr<std::uint8_t>();
  const auto* const factors = scale.const_data_ptr<float>();
  auto* const out = decoded.mutable_data_ptr<float>();
  for_blocks(decoded.numel(), [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; i += 2) {
      out[i] = cuda::kNf4Levels[bytes[i / 2] >> 4] * factors[block];
      out[i + 1] = cuda::kNf4Levels[bytes[i / 2] & 15] * factors[block];
    }
  });
  return decoded;
}

}  // namespace graft::exports
