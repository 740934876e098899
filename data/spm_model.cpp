#include "data/spm_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "core/utf8.h"
#include "data/protobuf.h"

namespace graft::data {
namespace {

constexpr int kBpe = 2;
constexpr std::size_t kMaxCharsmap = 1 << 20;   // four times that of NFKC
constexpr int kMaxRuleBytes = 32;               // the library has room for so many matches at one place
constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581

// Markers that Google's tokenizer.model holds as user-defined pieces although they are control tokens.
constexpr const char* kTurnMarkers[] = {"<start_of_turn>", "<end_of_turn>"};

SpmPiece parse_piece(std::string_view bytes, const std::string& origin) {
  SpmPiece piece;
  ProtobufReader reader(bytes, origin);
  while (reader.next()) {
    if (reader.field() == 1) piece.text = reader.bytes();
    if (reader.field() == 2) piece.score = reader.real();
    if (reader.field() == 3) {
      if (reader.integer() < 1 || reader.integer() > 6)
        throw FormatError(cat(origin, ": a piece has type ", reader.integer(), ", not 1 to 6"));
      piece.type = static_cast<PieceType>(reader.integer());
    }
  }
  return piece;
}

void parse_trainer_spec(std::string_view bytes, SpmModel& model) {
  std::int64_t type = 1;
  const auto id = [](const ProtobufReader& reader) { return static_cast<std::int32_t>(reader.integer()); };
  ProtobufReader reader(bytes, model.origin);
  while (reader.next()) {
    switch (reader.field()) {
      case 3:
        type = reader.integer();
        break;
      case 24:
        model.treat_whitespace_as_suffix = reader.integer() != 0;
        break;
      case 35:
        model.byte_fallback = reader.integer() != 0;
        break;
      case 40:
        model.unk = id(reader);
        break;
      case 41:
        model.bos = id(reader);
        break;
      case 42:
        model.eos = id(reader);
        break;
      case 43:
        model.pad = id(reader);
        break;
      case 44:
        model.unk_surface = reader.bytes();
        break;
      default:
        break;
    }
  }
  if (type != kBpe)
    throw UnsupportedError(cat(model.origin, ": a SentencePiece model of type ", type,
                               "; graft has BPE (type 2), which Llama, Mistral "
                               "and Gemma use"));
}

void parse_normalizer_spec(std::string_view bytes, SpmModel& model) {
  ProtobufReader reader(bytes, model.origin);
  while (reader.next()) {
    switch (reader.field()) {
      case 2:
        model.charsmap = reader.bytes();
        break;
      case 3:
        model.add_dummy_prefix = reader.integer() != 0;
        break;
      case 4:
        model.remove_extra_whitespaces = reader.integer() != 0;
        break;
      case 5:
        model.escape_whitespaces = reader.integer() != 0;
        break;
      default:
        break;
    }
  }
}

std::string spaces_escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (c == ' ')
      out += kSpace;
    else
      out += c;
  return out;
}

// The library walks the compiled rules, a double-array trie (Darts-clone), without looking at its bounds: from unit u at position
// p it goes to (p ^ offset(u)) ^ byte. Every such step must stay inside the array, and every value inside the replacements.
void check_charsmap(const SpmModel& model) {
  const auto fail = [&] { throw FormatError(cat(model.origin, ": the normalization rules (precompiled_charsmap) are damaged")); };
  const std::string& map = model.charsmap;
  if (map.empty()) return;
  std::uint32_t size = 0;
  if (map.size() <= sizeof size || map.size() > kMaxCharsmap) fail();
  std::memcpy(&size, map.data(), sizeof size);
  if (size < 1024 || size % 1024 != 0 || size >= map.size() - sizeof size || map.back() != '\0') fail();
  const std::uint32_t units = size / 4;
  const std::size_t replacements = map.size() - sizeof size - size;
  const auto unit = [&](std::uint32_t at) {
    std::uint32_t value;
    std::memcpy(&value, map.data() + 4 + std::size_t{at} * 4, 4);
    return value;
  };
  const auto base = [&](std::uint32_t at) { return at ^ (unit(at) >> 10) << ((unit(at) & (1u << 9)) >> 6); };
  const auto label = [&](std::uint32_t at) { return unit(at) & (1u << 31 | 0xFF); };
  std::vector<std::uint8_t> reached(units);  // the last level at which a unit was seen
  std::vector<std::uint32_t> level{0}, deeper;
  for (std::uint8_t depth = 1; !level.empty(); ++depth, level.swap(deeper)) {
    if (depth > kMaxRuleBytes) fail();
    deeper.clear();
    for (const std::uint32_t at : level) {
      const std::uint32_t to = base(at);
      if ((to | 0xFF) >= units) fail();
      if ((unit(at) >> 8 & 1) && (unit(to) & 0x7FFFFFFF) >= replacements) fail();
      for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const std::uint32_t next = to ^ byte;
        if (label(next) != byte || reached[next] == depth) continue;
        reached[next] = depth;
        deeper.push_back(next);
      }
    }
  }
}

bool is_one_character(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }) == 1;
}

}  // namespace

SpmModel parse_spm_model(std::string_view bytes, const std::string& origin) {
  SpmModel model;
  model.origin = origin;
  std::string_view trainer;
  ProtobufReader reader(bytes, origin);
  while (reader.next()) {
    if (reader.field() == 1) {
      if (model.pieces.size() == static_cast<std::size_t>(kMaxVocabulary))
        throw FormatError(cat(origin, ": more than the ", kMaxVocabulary, " pieces that graft reads"));
      model.pieces.push_back(parse_piece(reader.bytes(), origin));
    }
    if (reader.field() == 2) trainer = reader.bytes();
    if (reader.field() == 3) parse_normalizer_spec(reader.bytes(), model);
  }
  if (model.pieces.empty()) throw FormatError(cat(origin, ": no pieces; this is not a SentencePiece model"));
  parse_trainer_spec(trainer, model);
  for (SpmPiece& piece : model.pieces)
    for (const char* marker : kTurnMarkers)
      if (piece.text == marker) piece.type = PieceType::control;
  return model;
}

SpmModel spm_model_from_gguf(const GgufFile& file) {
  SpmModel model;
  model.origin = file.path().string();
  if (const std::string& kind = file.string("tokenizer.ggml.model"); kind != "llama")
    throw UnsupportedError(cat(model.origin, ": tokenizer.ggml.model = \"", kind, "\" is not SentencePiece BPE (\"llama\")"));
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  const auto types = gguf_token_types(file);
  const auto& scores = file.numbers("tokenizer.ggml.scores");
  if (scores.size() != tokens.size())
    throw FormatError(cat(model.origin, ": ", tokens.size(), " tokens but ", scores.size(), " entries in tokenizer.ggml.scores"));
  const SpecialTokens special = special_tokens_from_gguf(file);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    // User-defined tokens are stored with plain spaces.
    const bool plain = types[id] == PieceType::user_defined;
    model.pieces.push_back({plain ? spaces_escaped(tokens[id]) : tokens[id], static_cast<float>(scores[id]), types[id]});
    model.byte_fallback |= types[id] == PieceType::byte;
  }
  // llama.cpp's converter writes Hugging Face's "special" over the type of the unknown token; id 0 is llama.cpp's own default.
  model.unk = std::max(special.unknown, 0);
  const bool has_unknown = std::find(types.begin(), types.end(), PieceType::unknown) != types.end();
  if (const auto unk = static_cast<std::size_t>(model.unk);
      !has_unknown && unk < types.size() && (special.unknown >= 0 || types[unk] == PieceType::control))
    model.pieces[unk].type = PieceType::unknown;
  model.bos = special.bos;
  model.eos = special.eos;
  model.pad = special.pad;
  model.add_dummy_prefix = file.boolean_or("tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces = file.boolean_or("tokenizer.ggml.remove_extra_whitespaces", false);
  return model;
}

void check(const SpmModel& model) {
  const auto fail = [&](std::size_t id, const char* what) { throw FormatError(cat(model.origin, ": piece ", id, " ", what)); };
  std::unordered_set<std::string_view> normal;
  for (const SpmPiece& piece : model.pieces)
    if (piece.type == PieceType::normal || piece.type == PieceType::user_defined || piece.type == PieceType::unused)
      normal.insert(piece.text);
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SpmPiece& piece = model.pieces[id];
    if (piece.text.empty()) fail(id, "is empty");
    if (!is_utf8(piece.text)) fail(id, "is not UTF-8");
    if (!std::isfinite(piece.score)) fail(id, "has a score that is not a finite number");
    if (piece.type == PieceType::user_defined && piece.text.find('\0') != std::string::npos) fail(id, "has a zero byte");
    // The library looks such text up among the control pieces first.
    if (piece.type == PieceType::control && (is_one_character(piece.text) || normal.contains(piece.text)))
      throw UnsupportedError(cat(model.origin, ": piece ", id, " is a control token that ordinary text can spell"));
  }
  for (const std::int32_t id : {model.unk, model.bos, model.eos, model.pad})
    if (id >= static_cast<std::int32_t>(model.pieces.size()))
      throw FormatError(cat(model.origin, ": special id ", id, " but there are ", model.pieces.size(), " pieces"));
  check_charsmap(model);
}

std::string serialize(const SpmModel& model) {
  ProtobufWriter out, trainer, normalizer;
  for (const SpmPiece& piece : model.pieces) {
    ProtobufWriter one;
    one.bytes(1, piece.text);
    one.real(2, piece.score);
    one.integer(3, static_cast<int>(piece.type));
    out.bytes(1, one.text());
  }
  trainer.integer(3, kBpe);
  trainer.integer(24, model.treat_whitespace_as_suffix);
  trainer.integer(35, model.byte_fallback);
  trainer.integer(40, model.unk);
  trainer.integer(41, model.bos);
  trainer.integer(42, model.eos);
  trainer.integer(43, model.pad);
  trainer.bytes(44, model.unk_surface);
  out.bytes(2, trainer.text());
  normalizer.bytes(1, model.charsmap.empty() ? "identity" : "user_defined");
  normalizer.bytes(2, model.charsmap);
  normalizer.integer(3, model.add_dummy_prefix);
  normalizer.integer(4, model.remove_extra_whitespaces);
  normalizer.integer(5, model.escape_whitespaces);
  out.bytes(3, normalizer.text());
  return out.text();
}

}  // namespace graft::data
