#include "data/tokenizer_export.h"

#include "core/error.h"
#include "data/gguf_vocabulary.h"

namespace graft::data {
namespace {

// Appends without the search for an equal key that operator[] makes: a vocabulary has 10^5 of them.
void append(Json& object, const std::string& key, Json value) {
  Json::object_t::Container& members = object.get_ref<Json::object_t&>();
  members.emplace_back(key, std::move(value));
}

Json added_tokens(const BpeSource& source) {
  Json list = Json::array();
  for (const AddedToken& token : source.added)
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", token.strip_left},
                    {"rstrip", token.strip_right},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  return list;
}

Json byte_level(bool trim) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", trim}, {"use_regex", false}};
}

// What is put around a text: nothing, or the beginning-of-text token.
Json post_processor(const SpecialTokens& special, const std::vector<std::string>& tokens) {
  if (!special.add_bos) return byte_level(false);
  const std::string& bos = tokens[static_cast<std::size_t>(special.bos)];
  const auto token = [&](int type) { return Json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
  const auto text = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  const Json of_template = {{"type", "TemplateProcessing"},
                            {"single", Json::array({token(0), text("A", 0)})},
                            {"pair", Json::array({token(0), text("A", 0), token(1), text("B", 1)})},
                            {"special_tokens", {{bos, {{"id", bos}, {"ids", {special.bos}}, {"tokens", {bos}}}}}}};
  return {{"type", "Sequence"}, {"processors", Json::array({byte_level(false), of_template})}};
}

// SentencePiece: the model file says which pieces are control tokens, transformers wants it said here too.
Json added_tokens_decoder(const GgufFile& file) {
  const auto types = gguf_token_types(file);
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  Json decoder = Json::object();
  for (std::size_t id = 0; id < types.size(); ++id) {
    const bool special = types[id] == GgufTokenType::control || types[id] == GgufTokenType::unknown;
    if (!special && types[id] != GgufTokenType::user_defined) continue;
    append(decoder, std::to_string(id),
           {{"content", tokens[id]},
            {"single_word", false},
            {"lstrip", false},
            {"rstrip", false},
            {"normalized", false},
            {"special", special}});
  }
  return decoder;
}

}  // namespace

Json tokenizer_json_from_gguf(const GgufFile& file) {
  const BpeSource source = bpe_source_from_gguf(file);
  const SpecialTokens special = special_tokens_from_gguf(file);
  Json vocab = Json::object(), merges = Json::array();
  for (std::size_t id = 0; id < source.tokens.size(); ++id)
    if (!source.tokens[id].empty()) append(vocab, source.tokens[id], id);
  for (const auto& [left, right] : source.merges) merges.push_back(left + " " + right);
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", source.ignore_merges}};
  append(model, "vocab", std::move(vocab));
  append(model, "merges", std::move(merges));
  Json out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  append(out, "added_tokens", added_tokens(source));
  append(out, "normalizer", source.nfc ? Json{{"type", "NFC"}} : Json());
  append(out, "pre_tokenizer", to_json(source.pre_tokenizer));
  append(out, "post_processor", post_processor(special, file.strings("tokenizer.ggml.tokens")));
  append(out, "decoder", byte_level(true));
  append(out, "model", std::move(model));
  return out;
}

Json tokenizer_config_json_from_gguf(const GgufFile& file) {
  const SpecialTokens special = special_tokens_from_gguf(file);
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  const bool spm = file.string_or("tokenizer.ggml.model", "") == "llama";
  Json config = {{"tokenizer_class", spm ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (spm) {
    config["add_bos_token"] = special.add_bos;
    config["add_eos_token"] = special.add_eos;
    config["added_tokens_decoder"] = added_tokens_decoder(file);
  } else {
    config["add_prefix_space"] = false;
  }
  for (const auto& [key, id] : {std::pair{"bos_token", special.bos}, std::pair{"eos_token", special.eos},
                                std::pair{"pad_token", special.pad}, std::pair{"unk_token", special.unknown}})
    if (id >= 0) config[key] = tokens[static_cast<std::size_t>(id)];
  const std::string architecture = file.string_or("general.architecture", "");
  if (const std::int64_t context = file.integer_or(architecture + ".context_length", 0); context > 0)
    config["model_max_length"] = context;
  return config;
}

}  // namespace graft::data
