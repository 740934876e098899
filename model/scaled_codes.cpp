#include "model/scaled_codes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/simd.h"

namespace graft::model {
namespace {

template <class Code>
[[gnu::always_inline]] inline void scale_rows(const Code* codes, const float* scales, const float* zeros, std::int64_t groups,
                                              std::int64_t size, float* out) {
  for (std::int64_t group = 0; group < groups; ++group, codes += size, out += size) {
    const float scale = scales[group], zero = zeros != nullptr ? zeros[group] : 0;
    for (std::int64_t i = 0; i < size; ++i) out[i] = (static_cast<float>(codes[i]) - zero) * scale;
  }
}

GRAFT_SIMD void scale_bytes(const std::int8_t* codes, const float* scales, const float* zeros, std::int64_t groups,
                            std::int64_t size, float* out) {
  scale_rows(codes, scales, zeros, groups, size, out);
}
GRAFT_SIMD void scale_floats(const float* codes, const float* scales, const float* zeros, std::int64_t groups, std::int64_t size,
                             float* out) {
  scale_rows(codes, scales, zeros, groups, size, out);
}

}  // namespace

at::Tensor scaled_codes(const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& zero) {
  constexpr std::int64_t kGrain = 1 << 15;  // codes that one thread takes at the least
  const at::Tensor from = codes.contiguous(), by = scale.contiguous(), off = zero.defined() ? zero.contiguous() : zero;
  const std::int64_t rows = from.size(0), columns = from.size(1), groups = by.size(1);
  at::Tensor values = at::empty(from.sizes(), at::kFloat);
  const bool bytes = from.scalar_type() == at::kChar;
  const auto* const small = bytes ? from.const_data_ptr<std::int8_t>() : nullptr;
  const auto* const wide = bytes ? nullptr : from.const_data_ptr<float>();
  const auto *const scales = by.const_data_ptr<float>(), *const zeros = off.defined() ? off.const_data_ptr<float>() : nullptr;
  auto* const out = values.mutable_data_ptr<float>();
  at::parallel_for(
      0, rows, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, columns)), [&](std::int64_t begin, std::int64_t end) {
        const float *const s = scales + begin * groups, *const z = zeros != nullptr ? zeros + begin * groups : nullptr;
        const std::int64_t at = begin * columns, all = (end - begin) * groups, size = columns / groups;
        if (bytes)
          scale_bytes(small + at, s, z, all, size, out + at);
        else
          scale_floats(wide + at, s, z, all, size, out + at);
      });
  return values;
}

}  // namespace graft::model
