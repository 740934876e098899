// How files name the pre-tokenizers.
#include "data/pretokenizer.h"

#include "core/error.h"

namespace graft::data {
namespace {

struct Pattern {
  PreTokenizer kind;
  const char* regex;  // of the Split component in tokenizer.json
};
constexpr Pattern kPatterns[] = {
    {PreTokenizer::gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {PreTokenizer::llama3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {PreTokenizer::qwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {PreTokenizer::tekken, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                           R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                           R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

struct Name {
  const char* name;
  PreTokenizer kind;
};
constexpr Name kNames[] = {
    {"gpt-2", PreTokenizer::gpt2},
    {"smollm", PreTokenizer::smollm},
    {"llama-bpe", PreTokenizer::llama3},
    {"llama3", PreTokenizer::llama3},
    {"llama-v3", PreTokenizer::llama3},
    {"qwen2", PreTokenizer::qwen2},
    {"deepseek-r1-qwen", PreTokenizer::qwen2},
    {"tekken", PreTokenizer::tekken},
};

constexpr const char* kKnown = "graft has the pre-tokenizers of GPT-2, SmolLM, Llama 3, Qwen2/Qwen3 and Tekken";

[[noreturn]] void refuse(const std::string& origin, const std::string& what) {
  throw UnsupportedError(cat(origin, ": pre-tokenizer ", what, " is not one that graft has (", kKnown, ")"));
}

std::string type_of(const Json& node, const std::string& origin) {
  if (!node.is_object()) refuse(origin, "null");
  return json_get<std::string>(node, "type", origin);
}

PreTokenizer from_split(const Json& split, const std::string& origin) {
  const auto pattern = split.find("pattern");
  if (pattern == split.end() || !pattern->is_object() || !pattern->contains("Regex")) refuse(origin, "Split on a plain string");
  const auto regex = json_get<std::string>(*pattern, "Regex", origin);
  const auto behavior = json_get_or<std::string>(split, "behavior", "Isolated", origin);
  const bool invert = json_get_or<bool>(split, "invert", false, origin);
  // Matches cover the whole text, so keeping the matches and removing what lies between them is the same.
  const bool keeps_matches = (behavior == "Isolated" && !invert) || (behavior == "Removed" && invert);
  for (const Pattern& known : kPatterns)
    if (keeps_matches && regex == known.regex) return known.kind;
  refuse(origin, cat("Split (", behavior, invert ? ", inverted" : "", ") on \"", regex, "\""));
}

}  // namespace

PreTokenizer pre_tokenizer_from_gguf_name(const std::string& name, const std::string& origin) {
  for (const Name& known : kNames)
    if (name == known.name) return known.kind;
  refuse(origin, cat("tokenizer.ggml.pre = \"", name, "\""));
}

const char* gguf_name(PreTokenizer kind) {
  for (const Name& known : kNames)
    if (known.kind == kind) return known.name;
  return "";
}

PreTokenizer pre_tokenizer_from_json(const Json& node, const std::string& origin) {
  const std::string type = type_of(node, origin);
  const auto plain_byte_level = [&](const Json& part, bool regex) {
    if (json_get_or<bool>(part, "add_prefix_space", true, origin)) refuse(origin, "ByteLevel with add_prefix_space");
    return json_get_or<bool>(part, "use_regex", true, origin) == regex;
  };
  if (type == "ByteLevel" && plain_byte_level(node, true)) return PreTokenizer::gpt2;
  if (type != "Sequence") refuse(origin, type);
  const auto parts = node.find("pretokenizers");
  if (parts == node.end() || !parts->is_array() || parts->size() != 2 || type_of((*parts)[1], origin) != "ByteLevel")
    refuse(origin, "Sequence of parts other than Split, ByteLevel or Digits, ByteLevel");
  const std::string first = type_of((*parts)[0], origin);
  if (first == "Split" && plain_byte_level((*parts)[1], false)) return from_split((*parts)[0], origin);
  if (first == "Digits" && json_get_or<bool>((*parts)[0], "individual_digits", false, origin) &&
      plain_byte_level((*parts)[1], true))
    return PreTokenizer::smollm;
  refuse(origin, cat("Sequence of ", first, " and ByteLevel with these settings"));
}

Json to_json(PreTokenizer kind) {
  const auto byte_level = [](bool regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", regex}};
  };
  const auto sequence = [](Json first, Json second) {
    return Json{{"type", "Sequence"}, {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
  };
  if (kind == PreTokenizer::gpt2) return byte_level(true);
  if (kind == PreTokenizer::smollm) return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  Json regex;
  for (const Pattern& known : kPatterns)
    if (known.kind == kind) regex = known.regex;
  Json split{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  return sequence(std::move(split), byte_level(false));
}

}  // namespace graft::data
