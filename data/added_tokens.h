// Added tokens: literals that a tokenizer has beside its model's vocabulary. Special ones are control tokens and are never looked
// for in content; the others are found before the text is cut into pieces.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace graft::data {

struct AddedToken {
  std::int32_t id = -1;
  std::string content;
  bool special = false;
  bool normalized = false;                       // looked for after the text is normalized
  bool strip_left = false, strip_right = false;  // takes white space beside it along
};

// Leftmost, then longest. Time: length of the text times length of the longest token at most.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }
  // Calls text(part) and token(id) in order; parts are never empty.
  void split(std::string_view whole, const std::function<void(std::string_view)>& text,
             const std::function<void(std::int32_t)>& token) const;

 private:
  const AddedToken* longest_at(std::string_view rest) const;
  std::vector<AddedToken> tokens_;                                            // by first byte, then longest first
  std::array<std::pair<std::uint32_t, std::uint32_t>, 256> by_first_byte_{};  // [begin, end) in tokens_
};

}  // namespace graft::data
