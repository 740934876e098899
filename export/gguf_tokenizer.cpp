#include "export/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "data/gguf_vocabulary.h"
#include "data/pretokenizer.h"
#include "data/spm_model.h"
#include "data/tokenizer.h"

namespace graft::exports {
namespace {

using data::GgufTokenType;

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
// conversion/llama.py forbids a beginning-of-text token for this size, whatever the files say: Granite's and SmolLM's vocabulary.
constexpr std::int64_t kCodeVocabulary = 49152;
constexpr double kAddedScore = -1000, kUnusedScore = -10000;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<GgufTokenType> types;
  std::vector<double> scores;  // SentencePiece only
};

// The files of one Hugging Face tokenizer, as far as they are there.
struct Files {
  std::filesystem::path directory;
  Json tokenizer, config, model_config;  // tokenizer.json, tokenizer_config.json, config.json; null when absent

  explicit Files(const std::filesystem::path& path) : directory(path) {
    const auto read = [&](const char* name) {
      return std::filesystem::is_regular_file(directory / name) ? read_json(directory / name) : Json();
    };
    tokenizer = read("tokenizer.json");
    config = read("tokenizer_config.json");
    model_config = read("config.json");
  }
  std::string origin(const char* name) const { return (directory / name).string(); }
};

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

// Markers that some models fail to flag as special (conversion/base.py, does_token_look_special).
bool looks_special(std::string_view token) {
  constexpr std::string_view wide_bar = "\xEF\xBD\x9C";  // U+FF5C
  const auto between = [&](std::string_view open, std::string_view close) {
    return token.starts_with(open) && token.ends_with(close);
  };
  return token == "<pad>" || token == "<mask>" || token == "<2mass>" || token == "[@BOS@]" || between("<|", "|>") ||
         between(cat("<", wide_bar), cat(wide_bar, ">")) || between("<unused", ">");
}

// literal: Phi-3's converter trusts the flag and leaves the space mark.
void place_added(Vocabulary& vocabulary, std::int64_t id, const std::string& content, bool special, bool literal = false) {
  const auto i = static_cast<std::size_t>(id);
  const bool control = special || (!literal && looks_special(content));
  vocabulary.tokens[i] = control || literal ? content : replace_all(content, kSpaceMark, " ");
  vocabulary.types[i] = control ? GgufTokenType::control : GgufTokenType::user_defined;
  if (!vocabulary.scores.empty()) vocabulary.scores[i] = kAddedScore;
}

Vocabulary padding(std::int64_t size, bool scores) {
  Vocabulary vocabulary;
  for (std::int64_t i = 0; i < size; ++i) vocabulary.tokens.push_back(cat("[PAD", i, "]"));
  vocabulary.types.assign(static_cast<std::size_t>(size), GgufTokenType::unused);
  if (scores) vocabulary.scores.assign(static_cast<std::size_t>(size), kUnusedScore);
  return vocabulary;
}

std::int64_t checked_id(std::int64_t id, std::int64_t size, const std::string& origin) {
  if (id < 0 || id >= size) throw FormatError(cat(origin, ": token id ", id, " is outside the model's vocabulary of ", size));
  return id;
}

// "added_tokens_decoder": {"32000": {"content": "<|im_end|>", "special": true}}.
template <class F>
void each_configured_token(const Files& files, std::int64_t size, F&& visit) {
  if (!files.config.contains("added_tokens_decoder")) return;
  const std::string origin = files.origin("tokenizer_config.json");
  for (const auto& [key, token] : files.config["added_tokens_decoder"].items()) {
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos)
      throw FormatError(cat(origin, ": added_tokens_decoder has the key ", quote(key), " where a token id is expected"));
    const std::int64_t id = std::stoll(key);
    if (id < size)  // the converter ignores the rest as well
      visit(id, json_get<std::string>(token, "content", origin), json_get_or<bool>(token, "special", false, origin));
  }
}

Vocabulary bpe_vocabulary(const Files& files, std::int64_t size) {
  const std::string origin = files.origin("tokenizer.json");
  Vocabulary vocabulary = padding(size, false);
  const Json vocab = json_get<Json>(json_get<Json>(files.tokenizer, "model", origin), "vocab", origin);
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer()) throw FormatError(cat(origin, ": the id of token ", quote(token), " is not an integer"));
    const auto i = static_cast<std::size_t>(checked_id(id.get<std::int64_t>(), size, origin));
    vocabulary.tokens[i] = token;
    vocabulary.types[i] = GgufTokenType::normal;
  }
  for (const Json& token : json_get_or<Json>(files.tokenizer, "added_tokens", Json::array(), origin))
    if (const auto id = json_get<std::int64_t>(token, "id", origin); id < size)  // the base embeds no others
      place_added(vocabulary, checked_id(id, size, origin), json_get<std::string>(token, "content", origin),
                  json_get_or<bool>(token, "special", false, origin));
  each_configured_token(files, size, [&](std::int64_t id, const std::string& content, bool special) {
    place_added(vocabulary, id, content, special);
  });
  return vocabulary;
}

// "a b", a space inside a part written as U+0120 as byte-level BPE does.
std::vector<std::string> merges_of(const Files& files) {
  const std::string origin = files.origin("tokenizer.json");
  std::vector<std::string> merges;
  for (const Json& merge : json_get<Json>(json_get<Json>(files.tokenizer, "model", origin), "merges", origin)) {
    if (merge.is_string()) {
      merges.push_back(merge.get<std::string>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.push_back(replace_all(merge[0].get<std::string>(), " ", "\xC4\xA0") + " " +
                       replace_all(merge[1].get<std::string>(), " ", "\xC4\xA0"));
    } else {
      throw FormatError(cat(origin, ": merge ", merges.size(), " is neither \"a b\" nor [\"a\", \"b\"]"));
    }
  }
  return merges;
}

Vocabulary spm_vocabulary(const Files& files, std::int64_t size, bool literal) {
  Vocabulary vocabulary = padding(size, true);
  const std::string model_file = files.origin("tokenizer.model");
  const std::vector<data::SpmPiece> pieces = data::parse_spm_model(read_file(model_file), model_file).pieces;
  for (std::size_t i = 0; i < std::min(pieces.size(), vocabulary.tokens.size()); ++i) {
    vocabulary.tokens[i] = pieces[i].text;
    vocabulary.scores[i] = static_cast<double>(pieces[i].score);
    vocabulary.types[i] = pieces[i].type == GgufTokenType::user_defined ? GgufTokenType::normal : pieces[i].type;
  }
  const auto added_file = files.directory / "added_tokens.json";
  if (std::filesystem::is_regular_file(added_file)) {
    const Json added = read_json(added_file);
    for (const auto& [content, id] : added.items())
      if (id.is_number_integer() && id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() < size) {
        const auto i = static_cast<std::size_t>(id.get<std::int64_t>());
        vocabulary.tokens[i] = content;
        vocabulary.scores[i] = kAddedScore;
        vocabulary.types[i] = GgufTokenType::user_defined;
      }
  }
  each_configured_token(files, size, [&](std::int64_t id, const std::string& content, bool special) {
    place_added(vocabulary, id, content, special, literal);
  });
  return vocabulary;
}

// --- special tokens: which id is what, and what the tokenizer adds around a text (gguf-py SpecialVocab) ----------------------

struct Special {
  std::map<std::string, std::string> literal;  // "bos" -> "<s>"
  std::map<std::string, bool> add;             // "bos" -> true
};

// A token in tokenizer_config.json is a string or {"content": ...}.
std::optional<std::string> literal_of(const Json& config, const std::string& key) {
  if (!config.contains(key)) return std::nullopt;
  const Json& value = config[key];
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) return value["content"].get<std::string>();
  return std::nullopt;
}

// {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}, ...]}
std::string template_token(const Json& item) {
  if (!item.is_object() || !item.contains("SpecialToken") || !item["SpecialToken"].is_object()) return "";
  const Json& token = item["SpecialToken"];
  return token.contains("id") && token["id"].is_string() ? token["id"].get<std::string>() : "";
}

void read_post_processor(const Json& processor, Special& special) {
  if (!processor.is_object() || !processor.contains("type")) return;
  const Json& type = processor["type"];
  if (type == "Sequence" && processor.contains("processors")) {
    for (const Json& inner : processor["processors"]) read_post_processor(inner, special);
  } else if (type == "ByteLevel") {
    special.add.emplace("bos", false);
    special.add.emplace("eos", false);
  } else if (type == "TemplateProcessing" && processor.contains("single") && processor["single"].is_array()) {
    const Json& single = processor["single"];
    if (single.size() < 2) return;
    if (const std::string first = template_token(single.front()); !first.empty()) {
      special.literal.emplace("bos", first);
      special.add["bos"] = first == special.literal["bos"];
    }
    if (const std::string last = template_token(single.back()); !last.empty()) {
      // The template knows better than the config what ends a text; what the config called so ends a turn.
      const auto eos = special.literal.find("eos");
      if (eos != special.literal.end() && eos->second != last) special.literal["eot"] = eos->second;
      special.literal["eos"] = last;
      special.add["eos"] = true;
    }
  }
}

constexpr std::array<std::pair<const char*, const char*>, 7> kTokenKeys = {{{"bos", "tokenizer.ggml.bos_token_id"},
                                                                            {"eos", "tokenizer.ggml.eos_token_id"},
                                                                            {"unk", "tokenizer.ggml.unknown_token_id"},
                                                                            {"sep", "tokenizer.ggml.seperator_token_id"},
                                                                            {"pad", "tokenizer.ggml.padding_token_id"},
                                                                            {"mask", "tokenizer.ggml.mask_token_id"},
                                                                            {"eot", "tokenizer.ggml.eot_token_id"}}};

Special read_special(const Files& files) {
  Special special;
  for (const auto& [kind, key] : kTokenKeys)
    if (const auto literal = literal_of(files.config, cat(kind, "_token"))) special.literal[kind] = *literal;
  special.literal.erase("eot");  // not a key of tokenizer_config.json
  if (files.tokenizer.contains("post_processor")) read_post_processor(files.tokenizer["post_processor"], special);
  for (const char* kind : {"bos", "eos", "sep"}) {
    const std::string key = cat("add_", kind, "_token");
    if (files.config.contains(key) && files.config[key].is_boolean()) special.add.emplace(kind, files.config[key].get<bool>());
  }
  return special;
}

void write_special(GgufWriter& writer, const Files& files, std::int64_t size, bool llama) {
  Special special = read_special(files);
  if (llama && size == kCodeVocabulary) special.add["bos"] = false;
  const Json none = Json::array();
  const Json& added = files.tokenizer.contains("added_tokens") ? files.tokenizer["added_tokens"] : none;
  const auto id_of = [&](const std::string& kind) -> std::int64_t {
    if (const auto literal = special.literal.find(kind); literal != special.literal.end())
      for (const Json& token : added)
        if (token.is_object() && token.contains("content") && token["content"] == literal->second && token.contains("id") &&
            token["id"].is_number_integer())
          return token["id"].get<std::int64_t>();
    const std::string key = kind + "_token_id";
    if (files.model_config.contains(key) && files.model_config[key].is_number_integer())
      return files.model_config[key].get<std::int64_t>();
    return -1;
  };
  for (const auto& [kind, key] : kTokenKeys)
    if (const std::int64_t id = id_of(kind); id >= 0 && id < size) writer.u32(key, static_cast<std::uint32_t>(id));
  for (const auto& [kind, value] : special.add) writer.boolean(cat("tokenizer.ggml.add_", kind, "_token"), value);
}

// tokenizer_config.json first, then chat_template.jinja, then chat_template.json. A list holds named templates.
void write_chat_template(GgufWriter& writer, const Files& files) {
  Json chat = files.config.contains("chat_template") ? files.config["chat_template"] : Json();
  if (chat.is_null() && std::filesystem::is_regular_file(files.directory / "chat_template.jinja"))
    chat = read_file(files.directory / "chat_template.jinja");
  if (chat.is_null() && std::filesystem::is_regular_file(files.directory / "chat_template.json"))
    chat = json_get_or<Json>(read_json(files.directory / "chat_template.json"), "chat_template", Json(), "chat_template.json");
  if (chat.is_string()) return writer.string("tokenizer.chat_template", chat.get<std::string>());
  if (!chat.is_array()) return;
  std::vector<std::string> names;
  for (const Json& choice : chat) {
    auto name = json_get<std::string>(choice, "name", files.origin("tokenizer_config.json"));
    const auto text = json_get<std::string>(choice, "template", files.origin("tokenizer_config.json"));
    const auto plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    std::replace_if(
        name.begin(), name.end(), [&](char c) { return !plain(c); }, '_');
    writer.string(name == "default" ? "tokenizer.chat_template" : "tokenizer.chat_template." + name, text);
    if (name != "default") names.push_back(name);
  }
  if (!names.empty()) writer.pair("tokenizer.chat_templates", {GgufType::string, true, names});
}

}  // namespace

void write_tokenizer(GgufWriter& writer, const std::filesystem::path& directory, const model::ModelSpec& spec) {
  const Files files(directory);
  const bool llama = spec.family == "llama" || spec.family == "mistral" || spec.family == "mixtral";
  const bool spm = data::has_spm_model(directory);
  if (!spm && files.tokenizer.is_null())
    throw FormatError(
        cat(directory.string(), " has neither tokenizer.json nor tokenizer.model; a GGUF file needs the tokenizer"));
  if (llama && files.config.contains("add_prefix_space") && files.config["add_prefix_space"].is_boolean())
    writer.boolean("tokenizer.ggml.add_space_prefix", files.config["add_prefix_space"].get<bool>());

  const bool gemma = spec.family.starts_with("gemma");
  if (gemma && spm) writer.boolean("tokenizer.ggml.add_space_prefix", false);

  const Vocabulary vocabulary =
      spm ? spm_vocabulary(files, spec.vocab, spec.family == "phi3") : bpe_vocabulary(files, spec.vocab);
  writer.string("tokenizer.ggml.model", spm ? "llama" : "gpt2");
  if (spm) {
    writer.string("tokenizer.ggml.pre", "default");
  } else {
    const std::string origin = files.origin("tokenizer.json");
    const Json pre = json_get<Json>(files.tokenizer, "pre_tokenizer", origin);
    writer.string("tokenizer.ggml.pre", data::gguf_name(data::pre_tokenizer_from_json(pre, origin)));
  }
  writer.pair("tokenizer.ggml.tokens", {GgufType::string, true, vocabulary.tokens});
  if (spm) writer.pair("tokenizer.ggml.scores", {GgufType::f32, true, vocabulary.scores});
  std::vector<std::int64_t> types;
  for (const GgufTokenType type : vocabulary.types) types.push_back(static_cast<std::int64_t>(type));
  writer.pair("tokenizer.ggml.token_type", {GgufType::i32, true, std::move(types)});
  if (!spm) writer.pair("tokenizer.ggml.merges", {GgufType::string, true, merges_of(files)});
  write_special(writer, files, spec.vocab, llama);
  write_chat_template(writer, files);
}

}  // namespace graft::exports
