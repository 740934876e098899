#include "data/tokenizer_spm.h"

#include <sentencepiece_processor.h>

#include "core/error.h"
#include "core/file.h"
#include "data/unicode.h"

namespace graft::data {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581 stands for a space
constexpr std::uint32_t kSpaceCode = 0x2581;
constexpr std::ptrdiff_t kMaxSegment = 1 << 14;

std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 32 | right; }

std::string with_plain_spaces(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool space = text.starts_with(kSpace);
    out += space ? ' ' : text.front();
    text.remove_prefix(space ? kSpace.size() : 1);
  }
  return out;
}

int byte_of(std::string_view piece) {  // "<0x0A>"
  const auto digit = [&](std::size_t i) {
    const char c = piece.size() == 6 ? piece[i] : '\0';
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  return digit(3) < 0 || digit(4) < 0 ? -1 : digit(3) * 16 + digit(4);
}

}  // namespace

SpmTokenizer::~SpmTokenizer() = default;

SpmTokenizer::SpmTokenizer(SpmModel model, std::vector<AddedToken> added, SpecialTokens special, std::string chat_template,
                           std::filesystem::path origin)
    : unk_surface_(model.unk_surface),
      dummy_prefix_(model.add_dummy_prefix),
      trims_(model.remove_extra_whitespaces),
      unk_(model.unk) {
  special_ = special;
  chat_template_ = std::move(chat_template);
  origin_ = std::move(origin);
  place_added_tokens(model, std::move(added));
  check(model);
  for (std::size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::unknown) unk_ = static_cast<std::int32_t>(id);
  fuses_unknown_ = !model.byte_fallback;

  Sha256 hash;
  hash.update("sentencepiece bpe\n");
  hash.update(serialize(model));
  for (std::size_t id = model.pieces.size(); id < pieces_.size(); ++id)
    if (!pieces_[id].text.empty())
      hash.update(cat("\n", id, " ", static_cast<int>(pieces_[id].type), " ", pieces_[id].text.size(), " ", pieces_[id].text));
  hash_ = hash.hex();

  in_segments_ = model.charsmap.empty() && !trims_ && !model.treat_whitespace_as_suffix && model.escape_whitespaces;
  if (in_segments_) {
    model.add_dummy_prefix = false;  // encode_text() puts it in front of the first segment
    find_neighbours(model);
  }
  library_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
  std::string reason;
  try {
    const auto status = library_->LoadFromSerializedProto(serialize(model));
    if (!status.ok()) reason = status.ToString();
  } catch (const std::exception& error) {  // of the library's own containers
    reason = error.what();
  }
  if (!reason.empty()) throw FormatError(cat(model.origin, ": SentencePiece refuses this model: ", quote(reason)));
}

void SpmTokenizer::place_added_tokens(SpmModel& model, std::vector<AddedToken> added) {
  for (const SpmPiece& piece : model.pieces) pieces_.push_back({piece.text, piece.type, false});
  std::vector<AddedToken> in_content;
  for (AddedToken& token : added) {
    if (token.id < 0 || token.id >= kMaxVocabulary)
      throw FormatError(cat(model.origin, ": added token has id ", token.id, ", outside 0 to ", kMaxVocabulary - 1));
    const auto id = static_cast<std::size_t>(token.id);
    if (id < model.pieces.size()) {
      const std::string& text = model.pieces[id].text;
      if (text != token.content && with_plain_spaces(text) != token.content)
        throw UnsupportedError(cat(model.origin, ": id ", id, " is ", quote(text), " in tokenizer.model but ",
                                   quote(token.content), " in tokenizer_config.json"));
      const PieceType type = model.pieces[id].type;
      if (token.special && (type == PieceType::normal || type == PieceType::user_defined))
        pieces_[id].type = model.pieces[id].type = PieceType::control;
      continue;
    }
    if (id >= pieces_.size()) pieces_.resize(id + 1, {"", PieceType::unused, true});
    if (!pieces_[id].text.empty()) throw FormatError(cat(model.origin, ": id ", id, " is given to two added tokens"));
    pieces_[id] = {token.content, token.special ? PieceType::control : PieceType::user_defined, true};
    if (!token.special) in_content.push_back(std::move(token));
  }
  added_ = AddedTokenMatcher(std::move(in_content));
}

void SpmTokenizer::find_neighbours(const SpmModel& model) {
  ascii_neighbours_.assign(128 * 128, 0);
  for (const SpmPiece& piece : model.pieces) {
    if (piece.type == PieceType::control || piece.type == PieceType::byte || piece.type == PieceType::unknown) continue;
    const char *p = piece.text.data(), *end = p + piece.text.size();
    for (std::uint32_t left = 0; p < end;) {
      const CodePoint point = decode_utf8(p, end);
      const std::uint32_t right = point.value == ' ' ? kSpaceCode : point.value;
      if (p != piece.text.data()) {
        neighbours_.insert(pair_of(left, right));
        const std::uint32_t a = left == kSpaceCode ? ' ' : left, b = right == kSpaceCode ? ' ' : right;
        if (a < 128 && b < 128) ascii_neighbours_[a * 128 + b] = 1;
      }
      left = right;
      p += point.bytes;
    }
  }
}

bool SpmTokenizer::may_join(std::uint32_t left, std::uint32_t right) const {
  if (left < 128 && right < 128) return ascii_neighbours_[left * 128 + right] != 0;
  const auto escaped = [](std::uint32_t code) { return code == ' ' ? kSpaceCode : code; };
  return neighbours_.contains(pair_of(escaped(left), escaped(right)));
}

void SpmTokenizer::call_library(std::string_view text, State& state) const {
  const auto status = library_->Encode(text, &state.ids);
  if (!status.ok()) throw DataError(cat("SentencePiece cannot encode a text of ", text.size(), " bytes: ", status.ToString()));
}

void SpmTokenizer::append(const std::int32_t* begin, std::size_t count, bool first, std::vector<std::int32_t>& ids) const {
  // Unknown characters side by side are one unknown token, across segments too.
  if (count && !first && fuses_unknown_ && *begin == unk_ && !ids.empty() && ids.back() == unk_) ++begin, --count;
  ids.insert(ids.end(), begin, begin + count);
}

void SpmTokenizer::encode_segment(std::string_view segment, const char* readable_end, State& state,
                                  std::vector<std::int32_t>& ids) const {
  const bool first = ids.empty();
  if (segment.size() > WordCache::kMaxBytes) {
    call_library(segment, state);
    return append(state.ids.data(), state.ids.size(), first, ids);
  }
  const WordCache::Key key = WordCache::key_of(segment.data(), segment.size(), readable_end);
  WordCache::Slot& slot = state.cache.slot(key);
  if (WordCache::holds(slot, key)) return append(slot.ids, slot.count, first, ids);
  call_library(segment, state);
  WordCache::store(slot, key, state.ids);
  append(state.ids.data(), state.ids.size(), first, ids);
}

void SpmTokenizer::encode_text(std::string_view text, bool space_in_front, State& state, std::vector<std::int32_t>& ids) const {
  if (text.empty()) return;
  if (!in_segments_) {
    call_library(text, state);
    return append(state.ids.data(), state.ids.size(), true, ids);
  }
  const char *p = text.data(), *end = p + text.size(), *begin = p;
  std::vector<std::int32_t> out;  // apart from what the caller has, so that unknowns are only joined within this text
  std::string front = space_in_front ? " " : "";
  CodePoint left = decode_utf8(p, end);
  if (space_in_front && !may_join(' ', left.value)) {
    encode_segment(front, front.data() + front.size(), state, out);
    front.clear();
  }
  for (p += left.bytes;;) {
    const CodePoint right = p < end ? decode_utf8(p, end) : CodePoint{0, 0};
    if (p == end || !may_join(left.value, right.value) || p - begin >= kMaxSegment) {
      const std::string_view segment(begin, static_cast<std::size_t>(p - begin));
      if (front.empty()) {
        encode_segment(segment, end, state, out);
      } else {
        front += segment;
        encode_segment(front, front.data() + front.size(), state, out);
        front.clear();
      }
      begin = p;
      if (p == end) break;
    }
    left = right;
    p += right.bytes;
  }
  ids.insert(ids.end(), out.begin(), out.end());
}

void SpmTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const { encode_parts(text, dummy_prefix_, ids); }

void SpmTokenizer::encode_after(std::string_view text, std::vector<std::int32_t>& ids) const { encode_parts(text, false, ids); }

void SpmTokenizer::encode_parts(std::string_view text, bool space_in_front, std::vector<std::int32_t>& ids) const {
  std::unique_ptr<State> state;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      state = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!state) state = std::make_unique<State>();
  added_.split(
      text, [&](std::string_view part) { encode_text(part, space_in_front && part.data() == text.data(), *state, ids); },
      [&](std::int32_t id) { ids.push_back(id); });
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(state));
}

std::string SpmTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || id >= vocab_size()) return "";
  const Piece& piece = pieces_[static_cast<std::size_t>(id)];
  if (piece.type == PieceType::control) return "";
  if (piece.added) return piece.text;
  if (piece.type == PieceType::unknown) return unk_surface_;
  if (piece.type == PieceType::byte) return std::string(1, static_cast<char>(byte_of(piece.text)));
  return with_plain_spaces(piece.text);
}

std::string SpmTokenizer::decode(std::span<const std::int32_t> ids, bool with_control) const {
  std::string out;
  bool in_front = dummy_prefix_ || trims_;  // the space that encode() put there is to be taken away
  for (const std::int32_t id : ids) {
    if (is_control(id)) {
      if (with_control) out += pieces_[static_cast<std::size_t>(id)].text;
      continue;
    }
    std::string bytes = token_bytes(id);
    if (in_front && !bytes.empty()) {
      const bool leading = bytes.front() == ' ' && pieces_[static_cast<std::size_t>(id)].type != PieceType::unknown;
      if (leading) bytes.erase(0, 1);
      in_front = trims_ && bytes.empty();
    }
    out += bytes;
  }
  return out;
}

bool SpmTokenizer::is_control(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && pieces_[static_cast<std::size_t>(id)].type == PieceType::control;
}

std::optional<std::int32_t> SpmTokenizer::find_token(std::string_view literal) const {
  if (literal.empty()) return std::nullopt;
  for (const bool control : {true, false})  // a plain piece may read like a control token
    for (std::size_t id = 0; id < pieces_.size(); ++id)
      if ((pieces_[id].type == PieceType::control) == control && pieces_[id].text == literal)
        return static_cast<std::int32_t>(id);
  return std::nullopt;
}

std::vector<std::string> SpmTokenizer::control_literals() const {
  std::vector<std::string> out;
  for (const Piece& piece : pieces_)
    if (piece.type == PieceType::control && !piece.text.empty()) out.push_back(piece.text);
  return out;
}

namespace {

constexpr std::uint64_t kMaxModelBytes = 64 << 20;

}  // namespace

std::unique_ptr<Tokenizer> load_spm_model(const std::filesystem::path& tokenizer_model) {
  SpmModel model = parse_spm_model(read_file(tokenizer_model, kMaxModelBytes), tokenizer_model.string());
  HfSettings settings = read_hf_settings(tokenizer_model.parent_path());
  const auto literal = [&](std::int32_t id) {
    return id >= 0 && id < static_cast<std::int32_t>(model.pieces.size()) ? model.pieces[static_cast<std::size_t>(id)].text
                                                                          : std::string();
  };
  for (const auto& [target, id] : {std::pair{&settings.bos, model.bos},
                                   {&settings.eos, model.eos},
                                   {&settings.pad, model.pad},
                                   {&settings.unknown, model.unk}})
    if (target->empty()) *target = literal(id);
  drop_unembedded(settings.added, settings, tokenizer_model.parent_path());
  if (!settings.add_bos) settings.add_bos = true;  // as transformers does for Llama and Gemma
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) ids.emplace(model.pieces[id].text, static_cast<std::int32_t>(id));
  for (const AddedToken& token : settings.added) ids.emplace(token.content, token.id);
  const SpecialTokens special = special_tokens(settings, [&](std::string_view name) {
    const auto found = ids.find(name);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  });
  ids.clear();  // its keys are views into model and settings
  return std::make_unique<SpmTokenizer>(std::move(model), std::move(settings.added), special, std::move(settings.chat_template),
                                        tokenizer_model);
}

std::unique_ptr<Tokenizer> load_spm_gguf(const std::filesystem::path& gguf) {
  const GgufFile file(gguf);
  return std::make_unique<SpmTokenizer>(spm_model_from_gguf(file), std::vector<AddedToken>(), special_tokens_from_gguf(file),
                                        file.string_or("tokenizer.chat_template", ""), gguf);
}

}  // namespace graft::data
