// Text to token ids and back, with the ids of the model's own tokenizer.
//
// Content is encoded with special parsing off: whatever a document contains, no control id comes out of encode(). Scaffolding
// (beginning of text, chat markers) is added as ids by the caller. The two never meet as text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft::data {

struct SpecialTokens {
  std::int32_t bos = -1, eos = -1, eot = -1, pad = -1, unknown = -1;  // -1: the model has none
  bool add_bos = false, add_eos = false;                              // what the model's own tokenizer adds around a text
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `text` (valid UTF-8). Never yields a control id. Thread-safe; linear time in the length of text.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // The same for text that stands behind other tokens, as in a conversation: SentencePiece puts no space in front of it.
  virtual void encode_after(std::string_view text, std::vector<std::int32_t>& ids) const { encode(text, ids); }
  // Bytes of the ids; control tokens come out as their literal when with_control, else as nothing.
  virtual std::string decode(std::span<const std::int32_t> ids, bool with_control = false) const = 0;

  virtual std::int32_t vocab_size() const = 0;                 // number of ids, added tokens included
  virtual std::string token_bytes(std::int32_t id) const = 0;  // what decode gives for one id within a text
  virtual bool is_control(std::int32_t id) const = 0;
  virtual std::optional<std::int32_t> find_token(std::string_view literal) const = 0;  // "<|im_start|>" -> id
  virtual std::vector<std::string> control_literals() const = 0;                       // to count them in documents
  virtual std::string_view kind() const = 0;                                           // "bpe" or "spm"

  const SpecialTokens& special() const { return special_; }
  const std::string& chat_template() const { return chat_template_; }  // Jinja source as shipped, or empty
  const std::string& hash() const { return hash_; }                    // sha256 over everything that decides the ids
  const std::filesystem::path& origin() const { return origin_; }      // file or directory it was read from

 protected:
  SpecialTokens special_;
  std::string chat_template_, hash_;
  std::filesystem::path origin_;
};

// Whether a model directory's tokenizer is its tokenizer.model: where there is no tokenizer.json, or one that was made out of it.
bool has_spm_model(const std::filesystem::path& directory);
// `path` is a GGUF file, a model directory (tokenizer.json preferred, else tokenizer.model), or one of these files.
// FormatError for a malformed file, UnsupportedError for a tokenizer kind or pre-tokenizer that graft does not have, by name.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

// The first id that stands for different text in the two. Hashes say less: they also differ where a GGUF file and a directory
// name the kind of an added token differently. Ids that only one of them has (rows that pad an embedding) are no difference.
std::optional<std::int32_t> differing_id(const Tokenizer& a, const Tokenizer& b);
// The text that the id stands for, a control token's literal included; empty when it has none.
std::string text_of_id(const Tokenizer& tokenizer, std::int32_t id);

// The parts, each in its own file tokenizer_<kind>.cpp.
std::unique_ptr<Tokenizer> load_bpe_json(const std::filesystem::path& tokenizer_json);
std::unique_ptr<Tokenizer> load_bpe_gguf(const std::filesystem::path& gguf);
std::unique_ptr<Tokenizer> load_spm_model(const std::filesystem::path& tokenizer_model);
std::unique_ptr<Tokenizer> load_spm_gguf(const std::filesystem::path& gguf);

}  // namespace graft::data
