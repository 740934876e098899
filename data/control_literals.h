// Counts the texts of control tokens, such as "<|im_end|>", that occur in documents. They are encoded as plain text;
// the count tells whether documents quote them.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace graft::data {

class ControlLiterals {
 public:
  explicit ControlLiterals(const Tokenizer& tokenizer);
  std::int64_t count(std::string_view text) const;  // occurrences, the longest at each place, not overlapping

 private:
  std::array<std::vector<std::string>, 256> by_first_byte_;  // longest first
  std::string first_bytes_;
};

}  // namespace graft::data
