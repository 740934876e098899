// Tokenizer files that were cut, flipped or made to harm: refused with the file's name and a reason, or read as what they then
// say; no crash, no control id from content, no memory beyond the file's own size by a factor.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/gguf.h"
#include "core/json.h"
#include "data/byte_alphabet.h"
#include "data/html_entities.h"
#include "data/spm_model.h"
#include "data/tokenizer.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

// Of a byte, in the byte-level alphabet.
std::string spelling(int byte) {
  for (std::uint32_t code = '!';; ++code) {
    std::string character;
    append_utf8(code, character);
    if (bytes_of_spelling(character) == std::string(1, static_cast<char>(byte))) return character;
  }
}

// Small files with everything in them, so that every byte can be tried.
std::string small_json() {
  Json vocab = {{"<s>", 0}, {"</s>", 1}};
  for (int byte = 0; byte < 256; byte += byte == 9 ? 23 : byte == 32 ? 65 : byte == 122 ? 150 : 1)
    vocab[spelling(byte)] = vocab.size();
  vocab["ab"] = vocab.size();
  vocab["abc"] = vocab.size();
  const Json json = {
      {"version", "1.0"},
      {"added_tokens",
       {{{"id", 0}, {"content", "<s>"}, {"special", true}}, {{"id", vocab.size()}, {"content", "<t>"}, {"special", false}}}},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", {{"type", "ByteLevel"}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c"}}}}};
  return json.dump();
}

SpmModel small_spm() {
  SpmModel model;
  model.pieces = {{"<unk>", 0, PieceType::unknown}, {"<s>", 0, PieceType::control}, {"</s>", 0, PieceType::control}};
  model.byte_fallback = true;
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    model.pieces.push_back({text, 0, PieceType::byte});
  }
  for (const char* text : {"\u2581", "a", "b", "c", "ab", "abc", "\u2581a", "<", ">"})
    model.pieces.push_back({text, -static_cast<float>(model.pieces.size()), PieceType::normal});
  model.pieces.push_back({"<t>", 0, PieceType::user_defined});
  return model;
}

void write_gguf(const fs::path& file, bool spm) {
  std::vector<std::string> tokens, merges;
  std::vector<std::int64_t> types;
  std::vector<double> scores;
  if (spm) {
    for (const SpmPiece& piece : small_spm().pieces) {
      tokens.push_back(piece.text);
      types.push_back(static_cast<int>(piece.type));
      scores.push_back(piece.score);
    }
  } else {
    tokens = {"<s>", "</s>"};
    for (int byte = 'a'; byte <= 'z'; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
    tokens.insert(tokens.end(), {"\u0120", "<", ">", "ab", "abc", "<t>"});
    types.assign(tokens.size(), 1);
    types[0] = types[1] = 3;
    types.back() = 4;
    merges = {"a b", "ab c"};
  }
  GgufWriter out(file);
  out.string("general.architecture", "llama");
  out.string("tokenizer.ggml.model", spm ? "llama" : "gpt2");
  out.string("tokenizer.ggml.pre", "smollm");
  out.pair("tokenizer.ggml.tokens", {GgufType::string, true, tokens});
  out.pair("tokenizer.ggml.token_type", {GgufType::i32, true, types});
  if (spm)
    out.pair("tokenizer.ggml.scores", {GgufType::f32, true, scores});
  else
    out.pair("tokenizer.ggml.merges", {GgufType::string, true, merges});
  out.u32("tokenizer.ggml.bos_token_id", 0);
  out.u32("tokenizer.ggml.eos_token_id", 1);
  out.string("tokenizer.chat_template", "{{ x }}");
  out.commit();
}

long peak_kib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Loads and uses the file. "" when it was read, else the reason for refusing it.
std::string outcome(const fs::path& file) {
  try {
    const auto tokenizer = load_tokenizer(file);
    std::vector<std::int32_t> ids;
    for (const char* text : {"abc abcab <s></s><t> <0x0A>", "", "\u00e9\u0301\u65e5 x",
                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"})
      tokenizer->encode(text, ids);
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= tokenizer->vocab_size()) return "an id outside of the vocabulary";
      if (tokenizer->is_control(id)) return "a control id from content";
    }
    tokenizer->decode(ids, true);
    tokenizer->control_literals();
    return "";
  } catch (const UserError& error) {
    const std::string message = error.what();
    if (message.find(file.filename().string()) == std::string::npos) return "no file named in: " + message;
    if (message.size() > 600) return "too long: " + message;
    return "refused";
  }
}

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kEvery = 3;  // byte of a small file: SentencePiece is slow under the sanitizers
#else
constexpr std::size_t kEvery = 1;
#endif

// Truncations, and bits flipped, at every step-th byte.
void damage(const fs::path& file, bool must_refuse_cuts, std::size_t step) {
  const std::string whole = get(file);
  const auto outcome_of = [&](const std::string& bytes) {
    fs::remove(file);
    put(file, bytes);
    return outcome(file);
  };
  REQUIRE(outcome_of(whole) == "");
  const long memory = peak_kib();
  std::map<std::string, int> outcomes;
  for (std::size_t size = 0; size < whole.size(); size += step) {
    const std::string result = outcome_of(whole.substr(0, size));
    const bool allowed = !must_refuse_cuts || size + 32 > whole.size();  // a GGUF file may lose the padding behind its metadata
    ++outcomes[result.empty() && !allowed ? cat("read when cut at ", size) : result];
  }
  std::mt19937 random(3);
  for (std::size_t at = 0; at < whole.size(); at += step) {
    std::string bytes = whole;
    bytes[at] ^= static_cast<char>(1 << random() % 8);
    ++outcomes[outcome_of(bytes)];
    bytes[at] = random() % 2 ? '\xFF' : '\0';
    ++outcomes[outcome_of(bytes)];
  }
  for (const auto& [result, count] : outcomes) {
    INFO(file << ": " << count << " times " << result);
    CHECK((result.empty() || result == "refused"));
  }
  CHECK(outcomes["refused"] > 100);
#ifndef __SANITIZE_ADDRESS__
  CHECK(peak_kib() - memory < 64 << 10);
#else
  (void)memory;
#endif
}

}  // namespace

TEST_CASE("tokenizer.json, cut and flipped at every byte", "[tokenizer][hostile]") {
  TempDir dir;
  put(dir / "tokenizer.json", small_json());
  damage(dir / "tokenizer.json", true, 1);
}

TEST_CASE("tokenizer.model, cut and flipped at every byte", "[tokenizer][hostile]") {
  TempDir dir;
  put(dir / "tokenizer.model", serialize(small_spm()));
  damage(dir / "tokenizer.model", false, kEvery);  // what is cut between two pieces is a model of fewer pieces
  fs::copy_file(golden("tokenizers/folding/tokenizer.model"), dir / "folding.model");  // with normalization rules
  damage(dir / "folding.model", false, 61);
}

TEST_CASE("vocabularies in GGUF files, cut and flipped at every byte", "[tokenizer][hostile]") {
  TempDir dir;
  for (const bool spm : {false, true}) {
    write_gguf(dir / "a.gguf", spm);
    damage(dir / "a.gguf", true, kEvery);
    fs::remove(dir / "a.gguf");
  }
}

TEST_CASE("tokenizer.json that contradicts itself, lies or asks for much", "[tokenizer][hostile]") {
  TempDir dir;
  const fs::path file = dir / "tokenizer.json";
  const auto with = [&](auto change) {
    Json json = Json::parse(small_json());
    change(json);
    put(file, json.dump());
    const std::string message = message_of<UserError>([&] { load_tokenizer(file); });
    REQUIRE(message.starts_with(file.string() + ": "));
    return message.substr(file.string().size() + 2);
  };
  CHECK(with([](Json& j) { j["model"]["vocab"]["far"] = 1 << 30; }) ==
        "model.vocab has an id that is not a number from 0 to 2097151");
  CHECK(with([](Json& j) { j["model"]["vocab"]["far"] = -1; }) == "model.vocab has an id that is not a number from 0 to 2097151");
  CHECK(with([](Json& j) { j["model"]["vocab"]["far"] = "1"; }) ==
        "model.vocab has an id that is not a number from 0 to 2097151");
  CHECK(with([](Json& j) { j["model"]["vocab"]["twice"] = 3; }) == "model.vocab gives id 3 to two tokens");
  CHECK(with([](Json& j) { j["model"]["vocab"] = Json::object(); }) == "model.vocab is missing or empty");
  CHECK(with([](Json& j) { j["model"]["merges"].push_back("x nowhere"); }) ==
        "merge 2 refers to a token that is not in the vocabulary");
  CHECK(with([](Json& j) { j["model"]["merges"].push_back("a b c"); }) == "model.merges[2] is not a pair of tokens");
  CHECK(with([](Json& j) { j["model"]["merges"].push_back({"a"}); }) == "model.merges[2] is not a pair of tokens");
  CHECK(with([](Json& j) { j["added_tokens"][1]["id"] = 1 << 22; }) == "added token has id 4194304, outside 0 to 2097151");
  CHECK(with([](Json& j) { j["added_tokens"][1]["id"] = 5; }) == "id 5 is given to two different tokens");
  CHECK(with([](Json& j) { j["added_tokens"][1]["content"] = ""; }).find(" is empty") != std::string::npos);
  CHECK(with([](Json& j) { j["model"]["type"] = "Unigram"; }) == "model Unigram is not something graft's byte-level BPE has");
  CHECK(with([](Json& j) { j["model"]["byte_fallback"] = true; }).starts_with("byte_fallback"));
  CHECK(with([](Json& j) { j["normalizer"]["type"] = "NFKC"; }) == "normalizer NFKC is not something graft's byte-level BPE has");
  CHECK(with([](Json& j) {
          j["pre_tokenizer"] = {{"type", "Whitespace"}};
        }).starts_with("pre-tokenizer Whitespace is not one that graft has"));
  // The plain byte "<" as a control token would turn text into a control id.
  CHECK(with([](Json& j) {
          j["added_tokens"].push_back({{"id", j["model"]["vocab"]["a"]}, {"content", "a"}, {"special", true}});
        }).ends_with("is a control token and also the plain byte 97"));
  put(file, std::string(10'000'000, '['));
  CHECK(outcome(file) == "refused");
  put(file, "{\"model\":{\"vocab\":{" + std::string(100'000, '"'));
  CHECK(outcome(file) == "refused");
}

TEST_CASE("tokenizer.model that lies is refused", "[tokenizer][hostile]") {
  TempDir dir;
  const fs::path file = dir / "tokenizer.model";
  const auto with = [&](auto change) {
    SpmModel model = small_spm();
    change(model);
    put(file, serialize(model));
    const std::string message = message_of<UserError>([&] { load_tokenizer(file); });
    REQUIRE(message.starts_with(file.string() + ": "));
    return message.substr(file.string().size() + 2);
  };
  CHECK(with([](SpmModel& m) { m.bos = 1000; }) == cat("special id 1000 but there are ", small_spm().pieces.size(), " pieces"));
  CHECK(with([](SpmModel& m) { m.pieces[260].text = ""; }) == "piece 260 is empty");
  CHECK(with([](SpmModel& m) { m.pieces[260].text = "\xFF"; }) == "piece 260 is not UTF-8");
  CHECK(with([](SpmModel& m) { m.pieces[260].score = NAN; }) == "piece 260 has a score that is not a finite number");
  CHECK(with([](SpmModel& m) { m.pieces[261].type = PieceType::control; }) ==
        "piece 261 is a control token that ordinary text can spell");
  CHECK(with([](SpmModel& m) { m.charsmap = std::string(4096, '\xFF'); }) ==
        "the normalization rules (precompiled_charsmap) are damaged");
  CHECK(with([](SpmModel& m) { m.charsmap = std::string("\0\4\0\0", 4) + std::string(1024, '\xFF') + std::string(8, '\0'); }) ==
        "the normalization rules (precompiled_charsmap) are damaged");
  put(file, "");
  CHECK(outcome(file) == "refused");
  // A length of nearly 2^64, and one of a gigabyte.
  put(file, "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");
  CHECK(outcome(file) == "refused");
  put(file, "\x0A\x80\x80\x80\x80\x04x");
  CHECK(outcome(file) == "refused");
}
