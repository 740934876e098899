// What was written of each tensor: a file, reopened, is held to it, so that neither the source is read a second time nor anything
// quantized twice.
//
//   sum     over the elements i of mix(i c + bits of the f32 value v_i)     modulo 2^64; -0 counts as 0, which no code tells from
//   it error   max |v - x| / max |x|, x being what v was made from
//
// mix: the finalizer of MurmurHash3 in 32 bits (Appleby 2011); c = 2^32 over the golden ratio. Rows may come in any pieces and
// order. Against accidents, of which one in 2^32 goes unseen; what is done on purpose is for the manifest's sha256.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "export/compare.h"

namespace graft::exports {

struct Written {
  std::uint64_t sum = 0;
  Comparison with_source = {};
  bool bounded = false;  // each value was within what rounding to the stored type may change
};

class Fingerprints {
 public:
  // Rows of a matrix from `begin` on, f32, as they read back, and what they were made from. stored_as: its bounds are checked
  // (compare.h); empty: it has none. FormatError naming a value that is further off, or not finite. Any number of threads at
  // once.
  void add(const std::string& tensor, std::int64_t begin, const at::Tensor& rows, const at::Tensor& source,
           const std::string& stored_as = "");
  std::optional<Written> of(const std::string& tensor) const;
  // Of a file that is large, summed while it was written.
  void summed(const std::filesystem::path& file, std::string sha256) { sums_[file] = std::move(sha256); }
  const std::map<std::filesystem::path, std::string>& sums() const { return sums_; }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Written> tensors_;
  std::map<std::filesystem::path, std::string> sums_;
};

std::uint64_t fingerprint(std::int64_t begin, const at::Tensor& rows);  // the part of the sum of some rows

}  // namespace graft::exports
