// The text of ids that come one by one: decode() of them all, in time that is linear in their number.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/utf8.h"
#include "data/tokenizer.h"

namespace graft::data {

class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // What can be shown now that this id is there: never half a character. Valid until the next call.
  std::string_view add(std::int32_t id) {
    if (text_.empty()) {  // what SentencePiece takes away in front of a text depends on all ids so far
      ids_.push_back(id);
      text_ = tokenizer_.decode(ids_);
    } else {
      text_ += tokenizer_.token_bytes(id);
    }
    const std::string_view more = std::string_view(text_).substr(shown_);
    if (!is_utf8(more)) return {};
    shown_ = text_.size();
    return more;
  }
  // What add() has held back: the beginning of a character, or bytes that are none.
  std::string_view rest() const { return std::string_view(text_).substr(shown_); }
  const std::string& text() const { return text_; }

 private:
  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> ids_;
  std::string text_;
  std::size_t shown_ = 0;
};

}  // namespace graft::data
