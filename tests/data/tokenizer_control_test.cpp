// No text becomes a control id, whatever it spells; texts that do spell control tokens are counted.
#include <algorithm>
#include <random>

#include "data/control_literals.h"
#include "data/tokenizer.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;
using namespace std::string_literals;

namespace {

constexpr const char* kFamilies[] = {"gpt2",   "smollm",  "llama3", "qwen2",   "tekken",
                                     "llama2", "mistral", "gemma",  "folding", "bytes_missing"};

std::unique_ptr<Tokenizer> family(const char* name) { return load_tokenizer(golden(cat("tokenizers/", name))); }

// Whether a control id comes out of encode() or encode_after().
bool escapes(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::int32_t> ids;
  tokenizer.encode(text, ids);
  tokenizer.encode_after(text, ids);
  return std::ranges::any_of(ids,
                             [&](std::int32_t id) { return id < 0 || id >= tokenizer.vocab_size() || tokenizer.is_control(id); });
}

}  // namespace

TEST_CASE("control tokens in text, whole, cut, nested, with other characters inside", "[tokenizer][control]") {
  for (const char* name : kFamilies) {
    const auto tokenizer = family(name);
    const std::vector<std::string> literals = tokenizer->control_literals();
    CHECK(literals.size() >= 1);
    for (const std::string& literal : literals) {
      INFO(name << ' ' << literal);
      CHECK_FALSE(escapes(*tokenizer, literal));
      for (const std::string& around : {" "s, "\n"s, "\0"s, "x"s, literal, "\u2581"s, "\u200b"s, "\u00a0"s})
        CHECK_FALSE(escapes(*tokenizer, around + literal + around));
      for (std::size_t at = 0; at <= literal.size(); ++at) {
        CHECK_FALSE(escapes(*tokenizer, literal.substr(0, at)));
        CHECK_FALSE(escapes(*tokenizer, literal.substr(at)));
        for (const std::string& inside : {"\0"s, literal, "\u200d"s, "\xCC\x81"s})
          CHECK_FALSE(escapes(*tokenizer, literal.substr(0, at) + inside + literal.substr(at)));
      }
    }
  }
}

TEST_CASE("control tokens that the embedding has no row for are left out", "[tokenizer][control]") {
  const TempDir dir;
  fs::copy(golden("tokenizers/gemma/tokenizer.model"), dir.path / "tokenizer.model");
  const std::int32_t pieces = load_tokenizer(dir.path)->vocab_size();
  const auto loaded = [&](const char* token, bool special, std::int32_t rows) {
    const Json added = {{std::to_string(pieces), {{"content", token}, {"special", special}}}};
    put(dir.path / "tokenizer_config.json", Json{{"eos_token", "<end>"}, {"added_tokens_decoder", added}}.dump());
    put(dir.path / "config.json", rows > 0 ? Json{{"vocab_size", rows}}.dump() : "{}");
    return load_tokenizer(dir.path);
  };
  const auto without = loaded("<image_soft_token>", true, pieces);
  CHECK(without->vocab_size() == pieces);
  CHECK_FALSE(without->find_token("<image_soft_token>"));
  CHECK(loaded("<image_soft_token>", true, pieces + 1)->find_token("<image_soft_token>") == pieces);
  CHECK(loaded("<image_soft_token>", true, 0)->vocab_size() == pieces + 1);
  CHECK(loaded("<word>", false, pieces)->vocab_size() == pieces + 1);  // text becomes it
  CHECK(loaded("<end>", true, pieces)->vocab_size() == pieces + 1);    // texts end with it
}

TEST_CASE("look-alikes that a normalization could fold into control tokens", "[tokenizer][control]") {
  // Full-width forms, which the folding family's rules turn into ASCII; letters with marks; other brackets.
  const auto full_width = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c <= ' ' || c >= 127) {
        out += c;
        continue;
      }
      const int code = 0xFF01 + c - '!';
      out += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
              static_cast<char>(0x80 | (code & 63))};
    }
    return out;
  };
  for (const char* name : kFamilies) {
    const auto tokenizer = family(name);
    for (const std::string& literal : tokenizer->control_literals()) {
      INFO(name << ' ' << literal);
      CHECK_FALSE(escapes(*tokenizer, full_width(literal)));
      for (std::size_t at = 0; at < literal.size(); ++at)
        CHECK_FALSE(escapes(*tokenizer, literal.substr(0, at) + full_width(literal.substr(at, 1)) + literal.substr(at + 1)));
    }
    for (const char* text :
         {"<0x0A>", "<0x00><0x3C>", "<unused0>", "<pad>", "\u2329s\u232a", "<\u017f>", "<|im\u005fstart|>", "\uFF1Cs\uFF1E"})
      CHECK_FALSE(escapes(*tokenizer, text));
  }
}

TEST_CASE("random strings of markers and their pieces", "[tokenizer][control]") {
  for (const char* name : kFamilies) {
    const auto tokenizer = family(name);
    const std::vector<std::string> literals = tokenizer->control_literals();
    std::mt19937 random(5);
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      for (int n = 0; n < 6; ++n) {
        const std::string& literal = literals[random() % literals.size()];
        const std::size_t from = random() % 3 ? 0 : random() % literal.size();
        text += literal.substr(from, random() % 3 ? std::string::npos : random() % literal.size());
        if (random() % 2) text += " \0\n<|>_"[random() % 7];
      }
      if (escapes(*tokenizer, text)) FAIL(name << ": " << quote(text));
    }
  }
}

TEST_CASE("every single token's text stays text", "[tokenizer][control]") {
  for (const char* name : kFamilies) {
    const auto tokenizer = family(name);
    for (std::int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
      std::string valid;  // a token may be a part of a character
      const std::string bytes = tokenizer->decode(std::span(&id, 1), true);
      if (std::any_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) continue;
      if (escapes(*tokenizer, bytes)) FAIL(name << ": id " << id);
    }
  }
}

TEST_CASE("spelled control tokens are counted once each, the longest first", "[tokenizer][control]") {
  struct Overlapping : ByteTokenizer {
    std::vector<std::string> control_literals() const override { return {"<|im|>", "<|im|>x", "<s>", "[INST]", "ab", ""}; }
  };
  const ControlLiterals literals{Overlapping()};
  CHECK(literals.count("") == 0);
  CHECK(literals.count("<|im|>") == 1);
  CHECK(literals.count("<|im|>x<|im|>") == 2);
  CHECK(literals.count("<s><s>[INST]<s[INST") == 3);
  CHECK(literals.count("<|im|") == 0);
  CHECK(literals.count("abab") == 0);  // too short to mean anything
  CHECK(literals.count("<|i\0m|><s\0>"s) == 0);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "<s>";
  CHECK(literals.count(many) == 1000);
}
