// SentencePiece BPE through the library, one segment of text at a time.
//
// A symbol of BPE is always a piece, so no merge crosses the border between two characters that stand side by side in no piece.
// Text is cut at all such borders first; the ids are the same, a segment seen before comes from the cache, and memory does not
// grow with the length of a document. A stretch of more than 16 KiB without a border, such as a million spaces, is cut all the
// same, since the library's time and memory per byte grow with it: the one place where ids may differ from the reference's.
// Models with normalization rules, trimmed spaces or spaces as suffixes get the whole text instead.
//
// Ids are those of PyPI sentencepiece's encode(). Added tokens beside the model (tokenizer_config.json) that are not special are
// found in content first, as transformers does.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_set>

#include "data/added_tokens.h"
#include "data/spm_model.h"
#include "data/tokenizer.h"
#include "data/word_cache.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace graft::data {

class SpmTokenizer : public Tokenizer {
 public:
  // `added`: tokens beside the pieces, or control flags for pieces. FormatError, UnsupportedError as check().
  SpmTokenizer(SpmModel model, std::vector<AddedToken> added, SpecialTokens special, std::string chat_template,
               std::filesystem::path origin);
  ~SpmTokenizer() override;

  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  void encode_after(std::string_view text, std::vector<std::int32_t>& ids) const override;
  // As the library's decode(), but for bytes that are no UTF-8, which come out as they are.
  std::string decode(std::span<const std::int32_t> ids, bool with_control) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(pieces_.size()); }
  std::string token_bytes(std::int32_t id) const override;
  bool is_control(std::int32_t id) const override;
  std::optional<std::int32_t> find_token(std::string_view literal) const override;
  std::vector<std::string> control_literals() const override;
  std::string_view kind() const override { return "spm"; }

 private:
  struct State {
    WordCache cache;
    std::vector<int> ids;
  };
  void place_added_tokens(SpmModel& model, std::vector<AddedToken> added);
  void find_neighbours(const SpmModel& model);
  bool may_join(std::uint32_t left, std::uint32_t right) const;
  void encode_parts(std::string_view text, bool space_in_front, std::vector<std::int32_t>& ids) const;
  void encode_text(std::string_view text, bool space_in_front, State& state, std::vector<std::int32_t>& ids) const;
  void encode_segment(std::string_view segment, const char* readable_end, State& state, std::vector<std::int32_t>& ids) const;
  void call_library(std::string_view text, State& state) const;
  void append(const std::int32_t* begin, std::size_t count, bool first, std::vector<std::int32_t>& ids) const;

  struct Piece {
    std::string text;  // a literal for added tokens
    PieceType type;
    bool added;
  };
  std::vector<Piece> pieces_;
  AddedTokenMatcher added_;
  std::string unk_surface_;
  bool dummy_prefix_, trims_, in_segments_, fuses_unknown_;
  std::int32_t unk_;
  std::unordered_set<std::uint64_t> neighbours_;  // pairs of characters within pieces
  std::vector<std::uint8_t> ascii_neighbours_;    // the same, 128 x 128
  std::unique_ptr<sentencepiece::SentencePieceProcessor> library_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<State>> idle_;
};

}  // namespace graft::data
