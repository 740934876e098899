// What a Hugging Face model directory says about its tokenizer outside tokenizer.json and tokenizer.model.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "data/added_tokens.h"
#include "data/tokenizer.h"

namespace graft::data {

struct HfSettings {
  std::string bos, eos, pad, unknown;  // literals, empty where not given
  std::optional<bool> add_bos, add_eos;
  std::string chat_template;      // chat_template.jinja, else the one in tokenizer_config.json
  std::vector<AddedToken> added;  // added_tokens_decoder
};

// From tokenizer_config.json and chat_template.jinja in `directory`, both optional.
HfSettings read_hf_settings(const std::filesystem::path& directory);

// One entry of added_tokens (tokenizer.json) or added_tokens_decoder (tokenizer_config.json). UnsupportedError for single_word on
// a token that is looked for in content.
AddedToken added_token_from_json(const Json& node, std::int32_t id, const std::string& origin);

// Takes out control tokens that the embedding has no row for by the config.json in `directory`, as Gemma 3's <image_soft_token>:
// no document becomes one. Those that `settings` names stay, so that it is told that they do not fit.
void drop_unembedded(std::vector<AddedToken>& added, const HfSettings& settings, const std::filesystem::path& directory);

using TokenLookup = std::function<std::optional<std::int32_t>(std::string_view)>;
// Ids of the named tokens; the end of a turn is found by the names that model families use.
SpecialTokens special_tokens(const HfSettings& settings, const TokenLookup& find);

}  // namespace graft::data
