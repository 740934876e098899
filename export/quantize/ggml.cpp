#include "export/quantize/ggml.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "export/quantize/range.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // elements that one thread takes at a time

using Row = void (*)(const float* x, const float* importance, std::int64_t n, std::byte* out);

Row encoder_of(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0:
      return detail::row_q4_0;
    case GgmlType::q4_1:
      return detail::row_q4_1;
    case GgmlType::q5_0:
      return detail::row_q5_0;
    case GgmlType::q5_1:
      return detail::row_q5_1;
    case GgmlType::q4_k:
      return detail::row_q4_k;
    case GgmlType::q5_k:
      return detail::row_q5_k;
    case GgmlType::q6_k:
      return detail::row_q6_k;
    default:
      return nullptr;
  }
}

void quantize_row(GgmlType type, const float* x, const float* importance, std::int64_t n, std::byte* out) {
  const Row encode = encoder_of(type);
  if (encode == nullptr) return quantize(type, x, n, out);
  if (!std::isfinite(largest_magnitude(x, n)))
    throw DataError(cat("a weight is not finite; ", info_of(type).name, " cannot hold it"));
  encode(x, importance, n, out);
}

}  // namespace

bool is_searched(GgmlType type) { return type == GgmlType::q4_k || type == GgmlType::q5_k || type == GgmlType::q6_k; }

std::vector<std::byte> quantize_rows(const at::Tensor& values, GgmlType type, const at::Tensor& importance) {
  const GgmlTypeInfo& info = info_of(type);
  const std::int64_t columns = values.size(-1), rows = values.numel() / columns, row_bytes = columns / info.block * info.bytes;
  const float* data = values.const_data_ptr<float>();
  const float* weights = importance.defined() ? importance.const_data_ptr<float>() : nullptr;
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kGrain / columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      quantize_row(type, data + row * columns, weights, columns, bytes.data() + row * row_bytes);
  });
  return bytes;
}

std::vector<std::byte> q4_0_blocks(const Rounded& rounded) {
  const at::Tensor codes = rounded.codes.contiguous(), scales = rounded.grid.scale.contiguous();
  const std::int64_t rows = codes.size(0), columns = codes.size(1), groups = scales.size(1);
  const std::int64_t row_bytes = groups * info_of(GgmlType::q4_0).bytes;
  const float* const code = codes.const_data_ptr<float>();
  const float* const scale = scales.const_data_ptr<float>();
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
  for (std::int64_t row = 0; row < rows; ++row)
    detail::row_q4_0_of_codes(code + row * columns, scale + row * groups, columns, bytes.data() + row * row_bytes);
  return bytes;
}

at::Tensor dequantized(const std::vector<std::byte>& bytes, GgmlType type, at::IntArrayRef shape) {
  at::Tensor out = at::empty(shape, at::kFloat);
  dequantize(type, bytes.data(), out.numel(), out.mutable_data_ptr<float>());
  return out;
}

at::Tensor quantized(const at::Tensor& values, GgmlType type, const at::Tensor& importance) {
  return dequantized(quantize_rows(values, type, importance), type, values.sizes());
}

}  // namespace graft::exports
