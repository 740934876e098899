// tokenizer.json and GGUF metadata to a BpeTokenizer.
#include <unordered_map>

#include "core/error.h"
#include "core/gguf.h"
#include "data/bpe_tokenizer.h"
#include "data/gguf_vocabulary.h"
#include "data/hf_settings.h"

namespace graft::data {
namespace {

const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

void refuse_unless(bool fine, const std::string& origin, const std::string& what) {
  if (!fine) throw UnsupportedError(cat(origin, ": ", what, " is not something graft's byte-level BPE has"));
}

bool reads_nfc(const Json& normalizer, const std::string& origin) {
  if (normalizer.is_null()) return false;
  const auto type = json_get<std::string>(normalizer, "type", origin);
  if (type == "NFC") return true;
  const Json& parts = member(normalizer, "normalizers");
  refuse_unless(type == "Sequence" && parts.is_array(), origin, cat("normalizer ", type));
  bool nfc = false;
  for (const Json& part : parts) nfc |= reads_nfc(part, origin);
  return nfc;
}

// Which of bos and eos the post-processor puts around a text.
void read_post_processor(const Json& node, const std::string& origin, HfSettings& settings) {
  if (node.is_null()) return;
  const auto type = json_get<std::string>(node, "type", origin);
  if (type == "Sequence" && member(node, "processors").is_array())
    for (const Json& part : member(node, "processors")) read_post_processor(part, origin, settings);
  if (type != "TemplateProcessing" || !member(node, "single").is_array() || member(node, "single").empty()) return;
  const auto special = [&](const Json& part) {
    const Json& token = part.is_object() ? member(part, "SpecialToken") : part;
    return token.is_object() ? json_get<std::string>(token, "id", origin) : std::string();
  };
  const std::string first = special(node["single"].front()), last = special(node["single"].back());
  settings.add_bos = !first.empty();
  settings.add_eos = !last.empty() && node["single"].size() > 1;
  if (!first.empty() && settings.bos.empty()) settings.bos = first;
  if (*settings.add_eos && settings.eos.empty()) settings.eos = last;
}

void read_vocabulary(const Json& model, BpeSource& source) {
  const Json& vocab = member(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) throw FormatError(cat(source.origin, ": model.vocab is missing or empty"));
  for (const auto& [token, value] : vocab.items()) {
    const std::int64_t id = value.is_number_integer() ? value.get<std::int64_t>() : -1;
    if (id < 0 || id >= kMaxVocabulary)
      throw FormatError(cat(source.origin, ": model.vocab has an id that is not a number from 0 to ", kMaxVocabulary - 1));
    if (static_cast<std::size_t>(id) >= source.tokens.size()) source.tokens.resize(static_cast<std::size_t>(id) + 1);
    std::string& place = source.tokens[static_cast<std::size_t>(id)];
    if (!place.empty()) throw FormatError(cat(source.origin, ": model.vocab gives id ", id, " to two tokens"));
    place = token;
  }
}

// "left right" or ["left", "right"]; a first line "#version: ..." is a comment.
void read_merges(const Json& model, BpeSource& source) {
  const Json& merges = member(model, "merges");
  if (!merges.is_array()) throw FormatError(cat(source.origin, ": model.merges is not a list"));
  const auto malformed = [&](std::size_t i) {
    return FormatError(cat(source.origin, ": model.merges[", i, "] is not a pair of tokens"));
  };
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& entry = merges[i];
    if (entry.is_array()) {
      if (entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) throw malformed(i);
      source.merges.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
      continue;
    }
    if (!entry.is_string()) throw malformed(i);
    const auto& line = entry.get_ref<const std::string&>();
    if (line.starts_with("#version")) continue;
    const auto space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) throw malformed(i);
    source.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

void read_model(const Json& model, BpeSource& source) {
  const std::string& origin = source.origin;
  const auto type = json_get_or<std::string>(model, "type", "BPE", origin);
  refuse_unless(type == "BPE", origin, cat("model ", type));
  refuse_unless(!json_get_or<bool>(model, "byte_fallback", false, origin), origin,
                "byte_fallback (SentencePiece's BPE; put the tokenizer.model of the same repository beside it)");
  refuse_unless(json_get_or<double>(model, "dropout", 0.0, origin) == 0.0, origin, "dropout");
  refuse_unless(json_get_or<std::string>(model, "continuing_subword_prefix", "", origin).empty(), origin,
                "continuing_subword_prefix");
  refuse_unless(json_get_or<std::string>(model, "end_of_word_suffix", "", origin).empty(), origin, "end_of_word_suffix");
  source.ignore_merges = json_get_or<bool>(model, "ignore_merges", false, origin);
  read_vocabulary(model, source);
  read_merges(model, source);
}

}  // namespace

std::unique_ptr<Tokenizer> load_bpe_json(const std::filesystem::path& tokenizer_json) {
  BpeSource source;
  source.origin = tokenizer_json.string();
  const Json root = read_json(tokenizer_json);
  if (!root.is_object() || !member(root, "model").is_object())
    throw FormatError(cat(source.origin, ": no \"model\" object; this is not a tokenizer.json"));
  read_model(root["model"], source);
  source.pre_tokenizer = pre_tokenizer_from_json(member(root, "pre_tokenizer"), source.origin);
  source.nfc = reads_nfc(member(root, "normalizer"), source.origin);
  if (const Json& decoder = member(root, "decoder"); !decoder.is_null()) {
    const auto type = json_get<std::string>(decoder, "type", source.origin);
    refuse_unless(type == "ByteLevel", source.origin, cat("decoder ", type));
  }
  HfSettings settings = read_hf_settings(tokenizer_json.parent_path());
  read_post_processor(member(root, "post_processor"), source.origin, settings);
  if (const Json& added = member(root, "added_tokens"); added.is_array())
    for (const Json& node : added)
      source.added.push_back(added_token_from_json(node, json_get<std::int32_t>(node, "id", source.origin), source.origin));
  drop_unembedded(source.added, settings, tokenizer_json.parent_path());

  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < source.tokens.size(); ++id) ids.emplace(source.tokens[id], static_cast<std::int32_t>(id));
  for (const AddedToken& token : source.added) ids.insert_or_assign(token.content, token.id);
  const auto find = [&](std::string_view literal) -> std::optional<std::int32_t> {
    const auto found = ids.find(literal);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  };
  const SpecialTokens special = special_tokens(settings, find);
  const auto unknown = json_get_or<std::string>(root["model"], "unk_token", "", source.origin);
  if (!unknown.empty()) source.unknown = find(unknown).value_or(kNoToken);
  ids.clear();  // its keys are views into source
  return std::make_unique<BpeTokenizer>(std::move(source), special, std::move(settings.chat_template), tokenizer_json);
}

std::unique_ptr<Tokenizer> load_bpe_gguf(const std::filesystem::path& gguf) {
  const GgufFile file(gguf);
  BpeSource source = bpe_source_from_gguf(file);
  return std::make_unique<BpeTokenizer>(std::move(source), special_tokens_from_gguf(file),
                                        file.string_or("tokenizer.chat_template", ""), gguf);
}

}  // namespace graft::data
