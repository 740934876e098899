#include "export/quantize/ggml.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // elements that one thread takes at a time

using Block = void (*)(const float*, std::byte*);

Block encoder_of(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0:
      return detail::block_q4_0;
    case GgmlType::q4_1:
      return detail::block_q4_1;
    case GgmlType::q5_0:
      return detail::block_q5_0;
    case GgmlType::q5_1:
      return detail::block_q5_1;
    case GgmlType::q4_k:
      return detail::block_q4_k;
    case GgmlType::q5_k:
      return detail::block_q5_k;
    case GgmlType::q6_k:
      return detail::block_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace

void quantize_blocks(GgmlType type, const float* x, std::int64_t n, std::byte* out) {
  const Block encode = encoder_of(type);
  if (encode == nullptr) return quantize(type, x, n, out);
  const GgmlTypeInfo& info = info_of(type);
  if (!std::all_of(x, x + n, [](float value) { return std::isfinite(value); }))
    throw DataError(cat("a weight is not finite; ", info.name, " cannot hold it"));
  for (std::int64_t i = 0; i < n / info.block; ++i) encode(x + i * info.block, out + i * info.bytes);
}

std::vector<std::byte> quantize_rows(const at::Tensor& values, GgmlType type) {
  const GgmlTypeInfo& info = info_of(type);
  const std::int64_t columns = values.size(-1), rows = values.numel() / columns, row_bytes = columns / info.block * info.bytes;
  const float* data = values.const_data_ptr<float>();
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kGrain / columns), [&](std::int64_t begin, std::int64_t end) {
    quantize_blocks(type, data + begin * columns, (end - begin) * columns, bytes.data() + begin * row_bytes);
  });
  return bytes;
}

at::Tensor quantized(const at::Tensor& values, GgmlType type) {
  const std::vector<std::byte> bytes = quantize_rows(values, type);
  at::Tensor out = at::empty(values.sizes(), at::kFloat);
  dequantize(type, bytes.data(), values.numel(), out.mutable_data_ptr<float>());
  return out;
}

}  // namespace graft::exports
