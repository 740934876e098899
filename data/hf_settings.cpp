#include "data/hf_settings.h"

#include <charconv>

#include "core/error.h"
#include "core/file.h"
#include "data/special_tokens.h"

namespace graft::data {
namespace {

constexpr std::uint64_t kMaxTemplate = 4 << 20;

// "<s>", or {"content": "<s>", ...}, or null.
std::string token_literal(const Json& config, const char* key, const std::string& origin) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return "";
  if (found->is_object()) return json_get<std::string>(*found, "content", origin);
  return json_get<std::string>(config, key, origin);
}

// A string, or a list of {"name", "template"} of which "default" counts.
std::string chat_template_of(const Json& config, const std::string& origin) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return "";
  if (!found->is_array()) return json_get<std::string>(config, "chat_template", origin);
  for (const Json& entry : *found)
    if (json_get<std::string>(entry, "name", origin) == "default") return json_get<std::string>(entry, "template", origin);
  return "";
}

}  // namespace

AddedToken added_token_from_json(const Json& node, std::int32_t id, const std::string& origin) {
  AddedToken token;
  token.id = id;
  token.content = json_get<std::string>(node, "content", origin);
  token.special = json_get_or<bool>(node, "special", false, origin);
  token.normalized = json_get_or<bool>(node, "normalized", !token.special, origin);
  token.strip_left = json_get_or<bool>(node, "lstrip", false, origin);
  token.strip_right = json_get_or<bool>(node, "rstrip", false, origin);
  if (token.content.empty()) throw FormatError(cat(origin, ": added token ", id, " is empty"));
  if (!token.special && json_get_or<bool>(node, "single_word", false, origin))
    throw UnsupportedError(cat(origin, ": added token ", id, " matches whole words only (single_word), which graft does not do"));
  return token;
}

HfSettings read_hf_settings(const std::filesystem::path& directory) {
  HfSettings out;
  const auto file = directory / "tokenizer_config.json";
  if (std::filesystem::exists(file)) {
    const std::string origin = file.string();
    const Json config = read_json(file);
    if (!config.is_object()) throw FormatError(cat(origin, ": not an object"));
    out.bos = token_literal(config, "bos_token", origin);
    out.eos = token_literal(config, "eos_token", origin);
    out.pad = token_literal(config, "pad_token", origin);
    out.unknown = token_literal(config, "unk_token", origin);
    for (const auto& [key, target] : {std::pair{"add_bos_token", &out.add_bos}, {"add_eos_token", &out.add_eos}})
      if (config.contains(key) && !config[key].is_null()) *target = json_get<bool>(config, key, origin);
    out.chat_template = chat_template_of(config, origin);
    if (const auto decoder = config.find("added_tokens_decoder"); decoder != config.end() && decoder->is_object()) {
      for (const auto& [key, node] : decoder->items()) {
        std::int32_t id = -1;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc() || end != key.data() + key.size() || id < 0)
          throw FormatError(cat(origin, ": added_tokens_decoder has the key \"", key, "\" where a token id is expected"));
        out.added.push_back(added_token_from_json(node, id, origin));
      }
    }
  }
  const auto jinja = directory / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) out.chat_template = read_file(jinja, kMaxTemplate);
  return out;
}

void drop_unembedded(std::vector<AddedToken>& added, const HfSettings& settings, const std::filesystem::path& directory) {
  const auto file = directory / "config.json";
  if (!std::filesystem::exists(file)) return;
  const Json config = read_json(file);
  if (!config.is_object() || !config.contains("vocab_size")) return;
  const auto rows = json_get<std::int64_t>(config, "vocab_size", file.string());
  std::erase_if(added, [&](const AddedToken& token) {
    const bool named = token.content == settings.bos || token.content == settings.eos || token.content == settings.pad ||
                       token.content == settings.unknown;
    return token.special && token.id >= rows && !named;
  });
}

SpecialTokens special_tokens(const HfSettings& settings, const TokenLookup& find) {
  const auto id_of = [&](const std::string& literal) { return literal.empty() ? -1 : find(literal).value_or(-1); };
  SpecialTokens out;
  out.bos = id_of(settings.bos);
  out.eos = id_of(settings.eos);
  out.pad = id_of(settings.pad);
  out.unknown = id_of(settings.unknown);
  for (const char* name : kEndOfTurn)
    if (out.eot < 0) out.eot = id_of(name);
  out.add_bos = settings.add_bos.value_or(false) && out.bos >= 0;
  out.add_eos = settings.add_eos.value_or(false) && out.eos >= 0;
  return out;
}

}  // namespace graft::data
