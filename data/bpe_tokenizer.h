// Byte-level BPE: the tokenizer of GPT-2, Llama 3, Qwen2/3, SmolLM and Mistral's Tekken.
//
// The ids are those of PyPI `tokenizers`: Tokenizer.encode(text, add_special_tokens=False) with the special added tokens left out
// of the matching (encode_special_tokens = True). Added tokens that are not special (Qwen's <tool_call>) are matched in content,
// as there. Two things differ, both so that content never becomes a control id: a merge or a whole word whose id is a control
// token's is passed over, and a byte without a token is dropped where the reference would write a control token as "unknown".
#pragma once

#include <mutex>
#include <unordered_map>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/pretokenizer.h"
#include "data/tokenizer.h"
#include "data/word_cache.h"

namespace graft::data {

inline constexpr std::int32_t kMaxVocabulary = 1 << 21;  // more ids than any published model has, by a factor of eight

// What a file says, before it is checked.
struct BpeSource {
  std::string origin;               // file, for messages
  std::vector<std::string> tokens;  // by id, in the byte-level alphabet; empty where there is none
  std::vector<AddedToken> added;    // their content is literal; may or may not be in `tokens` too
  std::vector<std::pair<std::string, std::string>> merges;
  PreTokenizer pre_tokenizer = PreTokenizer::gpt2;
  bool nfc = false;                 // canonical composition before everything else
  bool ignore_merges = false;       // a whole piece that is a token is that token, whatever the merges would give
  std::int32_t unknown = kNoToken;  // for bytes that have no token of their own
};

class BpeTokenizer : public Tokenizer {
 public:
  // FormatError when the parts contradict each other.
  BpeTokenizer(BpeSource source, SpecialTokens special, std::string chat_template, std::filesystem::path origin);

  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  std::string decode(std::span<const std::int32_t> ids, bool with_control) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(bytes_.size()); }
  std::string token_bytes(std::int32_t id) const override;
  bool is_control(std::int32_t id) const override;
  std::optional<std::int32_t> find_token(std::string_view literal) const override;
  std::vector<std::string> control_literals() const override;
  std::string_view kind() const override { return "bpe"; }

 private:
  struct State {  // working memory of one thread inside encode()
    WordCache cache;
    MergeScratch merge;
    std::vector<std::int32_t> piece;
    std::string composed;
  };
  void place_added_tokens(const BpeSource& source);
  void resolve_merges(const BpeSource& source, const std::unordered_map<std::string_view, std::int32_t>& index);
  void compute_hash(const BpeSource& source, const std::vector<Merge>& merges);
  std::unique_ptr<State> take_state() const;
  void encode_text(std::string_view text, State& state, std::vector<std::int32_t>& ids) const;
  void encode_pieces(std::string_view text, State& state, std::vector<std::int32_t>& ids) const;
  void encode_piece(std::string_view piece, State& state) const;  // into state.piece

  PieceScanner scan_;
  bool nfc_, ignore_merges_;
  std::vector<std::string> bytes_;     // by id
  std::vector<std::uint8_t> control_;  // by id
  std::array<std::int32_t, 256> byte_ids_;
  MergeTable merges_;
  std::unordered_map<std::string_view, std::int32_t> words_;  // whole pieces, when merges may be ignored; views into bytes_
  AddedTokenMatcher raw_, normalized_;                        // added tokens looked for before and after composition
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<State>> idle_;
};

}  // namespace graft::data
