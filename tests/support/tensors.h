// What tests of tensor code share: random inputs, comparisons that NaN cannot pass, poisoned allocations.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <cstring>
#include <limits>

namespace graft::testing {

inline at::Tensor random(at::IntArrayRef sizes, std::uint64_t seed, at::ScalarType type = at::kFloat, double deviation = 1) {
  return at::randn(sizes, at::detail::createCPUGenerator(seed), at::kFloat).mul_(deviation).to(type);
}

// |got - want| / |want| (Frobenius); infinity when a NaN or infinity is where it should not be.
inline double relative_error(const at::Tensor& got, const at::Tensor& want) {
  if (!got.defined() || got.sizes() != want.sizes()) return std::numeric_limits<double>::infinity();
  if (want.numel() == 0) return 0;
  const at::Tensor exact = want.detach().to(at::kDouble), difference = got.detach().to(at::kDouble) - exact;
  const double error = difference.norm().item<double>(), size = exact.norm().item<double>();
  if (!(error <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
  return size > 0 ? error / size : error;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

inline at::Tensor nan_like(const at::Tensor& tensor) { return at::full_like(tensor, std::numeric_limits<double>::quiet_NaN()); }

// While it lives, at::empty is filled with NaN: an output element that is not written is seen.
class PoisonedAllocations {
 public:
  PoisonedAllocations() { set(true); }
  ~PoisonedAllocations() { set(false); }
  PoisonedAllocations(const PoisonedAllocations&) = delete;
  PoisonedAllocations& operator=(const PoisonedAllocations&) = delete;

 private:
  static void set(bool on) {
    at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/true);
    at::globalContext().setDeterministicFillUninitializedMemory(on);
  }
};

// The message of the exception that f throws, "" when it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace graft::testing
