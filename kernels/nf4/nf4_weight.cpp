#include "kernels/nf4/nf4_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <bit>

#include "core/error.h"
#include "core/simd.h"
#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/nf4/nf4.h"
#include "kernels/nf4/nf4_device.h"

namespace graft::kernels {
namespace {

constexpr std::int64_t kBlock = cuda::kNf4Block, kGrain = 512;  // blocks that one thread takes at a time
constexpr std::int64_t kRowElements = 1 << 15;                  // that one thread reads back at a time, at least

template <class Levels>
at::Tensor tensor_of(const Levels& levels) {
  return at::tensor(at::ArrayRef<float>(levels.data(), levels.size()), at::kFloat);
}

std::int64_t parts(std::int64_t n, std::int64_t of) { return (n + of - 1) / of; }

// Calls each(block, first element, number of elements) on all threads.
template <class Each>
void for_blocks(std::int64_t elements, const Each& each) {
  at::parallel_for(0, parts(elements, kBlock), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      each(block, block * kBlock, std::min(kBlock, elements - block * kBlock));
  });
}

// The largest |x|; not finite when a value is not. Bits of floats without their sign are in the order of the floats.
GRAFT_SIMD float largest_of(const float* x, std::int64_t n) {
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t size = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
    largest = size > largest ? size : largest;
  }
  return std::bit_cast<float>(largest);
}

using Middles = std::array<float, cuda::kNf4Levels.size() - 1>;
Middles middles_of_levels() {
  Middles middles;
  for (std::size_t k = 0; k < middles.size(); ++k) middles[k] = (cuda::kNf4Levels[k] + cuda::kNf4Levels[k + 1]) / 2;
  return middles;
}

// The codes of a block: as many as there are middles below a value. Half a byte that is left over holds the code of 0.
GRAFT_SIMD void codes_of(const float* x, std::int64_t n, float inverse, const Middles& middles, std::uint8_t* out) {
  std::array<std::int32_t, kBlock> codes;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float scaled = std::min(std::max(x[i] * inverse, -1.0f), 1.0f);
    std::int32_t code = 0;
#pragma GCC unroll 15
    for (std::size_t k = 0; k < middles.size(); ++k) code += scaled > middles[k] ? 1 : 0;
    codes[static_cast<std::size_t>(i)] = code;
  }
  if (n % 2 != 0) codes[static_cast<std::size_t>(n)] = 7;
  for (std::size_t i = 0; i < static_cast<std::size_t>((n + 1) / 2); ++i)
    out[i] = static_cast<std::uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
}

struct Quantized {
  at::Tensor indices;  // I64 of the input's size
  at::Tensor scales;   // f32, one for each group
};

// Of the scales, which are few.
Quantized to_nearest_level(const at::Tensor& flat, const at::Tensor& levels) {
  const std::int64_t groups = parts(flat.size(0), cuda::kNf4Group);
  const at::Tensor rows = at::constant_pad_nd(flat, {0, groups * cuda::kNf4Group - flat.size(0)}).view({groups, cuda::kNf4Group});
  const at::Tensor scales = rows.abs().amax(1);
  const at::Tensor scaled = (rows * scales.clamp_min(cuda::kNf4Smallest).reciprocal().unsqueeze(1)).clamp_(-1, 1);
  const std::int64_t last = levels.size(0) - 1;
  const at::Tensor middles = (levels.narrow(0, 0, last) + levels.narrow(0, 1, last)) / 2;
  return {at::bucketize(scaled, middles).flatten().narrow(0, 0, flat.size(0)), scales};
}

// Codes, and the largest |w| of each block, not finite when a value is not. Of a dense weight.
void quantize(const at::Tensor& weight, at::Tensor codes, at::Tensor scales) {
  const at::Tensor x = weight.to(at::kFloat);
  const auto* const values = x.const_data_ptr<float>();
  auto* const largest = scales.mutable_data_ptr<float>();
  auto* const bytes = codes.mutable_data_ptr<std::uint8_t>();
  const Middles middles = middles_of_levels();
  for_blocks(x.numel(), [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    largest[block] = largest_of(values + first, count);
    codes_of(values + first, count, 1 / std::max(largest[block], cuda::kNf4Smallest), middles, bytes + first / 2);
  });
}

template <class Element>
void read_back(const cpu::Nf4View& from, const at::Tensor& to) {
  auto* const out = static_cast<Element*>(to.mutable_data_ptr());
  const std::int64_t columns = from.columns;
  at::parallel_for(0, to.size(0), std::max<std::int64_t>(1, kRowElements / columns), [&](std::int64_t begin, std::int64_t end) {
    cpu::dequantize(from, begin, end - begin, 0, columns, out + begin * columns, columns);
  });
}

}  // namespace

at::Tensor nf4_levels() { return tensor_of(cuda::kNf4Levels); }
at::Tensor nf4_scale_levels() { return tensor_of(cuda::nf4_scale_map()); }

std::int64_t nf4_bytes(std::int64_t elements) {
  const std::int64_t blocks = parts(elements, kBlock);
  return parts(elements, 2) + blocks + 4 * parts(blocks, cuda::kNf4Group);
}

at::Tensor nf4_block_scales(const at::Tensor& weight) {
  at::Tensor scales = at::empty({parts(weight.numel(), kBlock)}, at::kFloat);
  const auto* const values = weight.const_data_ptr<float>();
  auto* const largest = scales.mutable_data_ptr<float>();
  for_blocks(weight.numel(), [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    largest[block] = largest_of(values + first, count);
  });
  return scales;
}

float nf4_offset(const at::Tensor& block_scales) {
  if (!block_scales.isfinite().all().item<bool>()) throw DataError("a weight is not finite");
  return block_scales.mean().item<float>();
}

Nf4Weight::Nf4Weight(const at::Tensor& weight) : Nf4Weight(weight, std::nullopt) {}
Nf4Weight::Nf4Weight(const at::Tensor& weight, float whole_offset) : Nf4Weight(weight, std::optional(whole_offset)) {}

Nf4Weight::Nf4Weight(const at::Tensor& weight, std::optional<float> whole_offset) {
  check_dim("nf4_weight", "weight", weight, 2);
  check_float_or_bf16("nf4_weight", "weight", weight);
  shape[0] = weight.size(0);
  shape[1] = weight.size(1);
  const std::int64_t elements = weight.numel();
  codes = at::empty({parts(elements, 2)}, at::kByte);
  const at::Tensor full_scales = at::empty({parts(elements, kBlock)}, at::kFloat);
  if (device() != Device::cpu && !whole_offset)
    on_device::nf4_quantize(weight.contiguous(), codes, full_scales);
  else  // rows of a matrix come on several threads at once, a device has one queue; the bytes are the same
    quantize(weight.contiguous(), codes, full_scales);
  offset = whole_offset ? *whole_offset : nf4_offset(full_scales);
  const Quantized coarse = to_nearest_level(full_scales - offset, nf4_scale_levels());
  scale_map = at::cat({nf4_scale_levels(), at::full({1}, offset, at::kFloat)});
  scales = coarse.indices.to(at::kByte);
  group_scales = coarse.scales;
}

std::int64_t Nf4Weight::bytes() const { return nf4_bytes(out() * in()); }

cpu::Nf4View Nf4Weight::view() const {
  return {codes.const_data_ptr<std::uint8_t>(), scales.const_data_ptr<std::uint8_t>(), group_scales.const_data_ptr<float>(),
          offset, in()};
}

at::Tensor Nf4Weight::values(at::ScalarType type) const {
  at::Tensor decoded = at::empty({out(), in()}, type);
  if (type == at::kBFloat16)
    read_back<cpu::Bf16Bits>(view(), decoded);
  else
    read_back<float>(view(), decoded);
  return decoded;
}

}  // namespace graft::kernels
