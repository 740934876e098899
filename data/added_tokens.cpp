#include "data/added_tokens.h"

#include <algorithm>

#include "data/unicode.h"

namespace graft::data {
namespace {

unsigned char first_byte(std::string_view text) { return static_cast<unsigned char>(text.front()); }

// Where the white space at the end of text[0, to) begins, not before `from`.
std::size_t spaces_begin(std::string_view text, std::size_t from, std::size_t to) {
  while (to > from) {
    std::size_t start = to - 1;
    while (start > from && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const CodePoint point = decode_utf8(text.data() + start, text.data() + to);
    if (start + static_cast<std::size_t>(point.bytes) != to || !(class_table()[point.value] & kSpace)) break;
    to = start;
  }
  return to;
}

std::size_t spaces_end(std::string_view text, std::size_t from) {
  while (from < text.size()) {
    const CodePoint point = decode_utf8(text.data() + from, text.data() + text.size());
    if (!(class_table()[point.value] & kSpace)) break;
    from += static_cast<std::size_t>(point.bytes);
  }
  return from;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    if (first_byte(a.content) != first_byte(b.content)) return first_byte(a.content) < first_byte(b.content);
    return a.content.size() > b.content.size();
  });
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    auto& [begin, end] = by_first_byte_[first_byte(tokens_[i].content)];
    if (end == 0) begin = i;
    end = i + 1;
  }
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view rest) const {
  const auto [begin, end] = by_first_byte_[first_byte(rest)];
  for (std::uint32_t i = begin; i < end; ++i)
    if (rest.starts_with(tokens_[i].content)) return &tokens_[i];
  return nullptr;
}

void AddedTokenMatcher::split(std::string_view whole, const std::function<void(std::string_view)>& text,
                              const std::function<void(std::int32_t)>& token) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < whole.size();) {
    const AddedToken* found = longest_at(whole.substr(at));
    if (!found) {
      ++at;
      continue;
    }
    const std::size_t begin = found->strip_left ? spaces_begin(whole, done, at) : at;
    at += found->content.size();
    if (found->strip_right) at = spaces_end(whole, at);
    if (begin > done) text(whole.substr(done, begin - done));
    token(found->id);
    done = at;
  }
  if (done < whole.size()) text(whole.substr(done));
}

}  // namespace graft::data
