#include "export/fingerprint.h"

#include <ATen/ATen.h>

#include <bit>

#include "core/simd.h"

namespace graft::exports {
namespace {

GRAFT_SIMD std::uint64_t sum_of(const float* values, std::int64_t n, std::uint32_t first) {
  std::uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t x = std::bit_cast<std::uint32_t>(values[i] + 0.0f) + (first + static_cast<std::uint32_t>(i)) * 0x9e3779b1u;
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    sum += x ^ x >> 16;
  }
  return sum;
}

}  // namespace

std::uint64_t fingerprint(std::int64_t begin, const at::Tensor& rows) {
  const at::Tensor dense = rows.contiguous();
  return sum_of(dense.const_data_ptr<float>(), dense.numel(), static_cast<std::uint32_t>(begin * dense.size(-1)));
}

void Fingerprints::add(const std::string& tensor, std::int64_t begin, const at::Tensor& rows, const at::Tensor& source,
                       const std::string& stored_as) {
  const Comparison piece = compare_rows(tensor, stored_as, begin, source, rows);
  const std::uint64_t sum = fingerprint(begin, rows);
  const std::lock_guard lock(mutex_);
  Written& written = tensors_[tensor];
  written.sum += sum;
  written.with_source.add(piece);
  written.bounded = !stored_as.empty();
}

std::optional<Written> Fingerprints::of(const std::string& tensor) const {
  const std::lock_guard lock(mutex_);
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace graft::exports
