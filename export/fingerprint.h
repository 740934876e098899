// What was written of quantized tensors, in 64 bits each: a file, reopened, is held to it without quantizing a second time.
//
//   sum over the elements i of mix(i c + bits of the f32 value v_i)     modulo 2^64; -0 counts as 0, which no code tells from it
//
// mix: the finalizer of MurmurHash3 in 32 bits (Appleby 2011); c = 2^32 over the golden ratio. Rows may come in any pieces and
// order. Against accidents, of which one in 2^32 goes unseen; what is done on purpose is for the manifest's sha256.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace graft::exports {

class Fingerprints {
 public:
  // Rows of a matrix from `begin` on, f32. Any number of threads at once.
  void add(const std::string& tensor, std::int64_t begin, const at::Tensor& rows);
  std::optional<std::uint64_t> of(const std::string& tensor) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> sums_;
};

}  // namespace graft::exports
