#include "data/bpe_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "data/byte_alphabet.h"
#include "data/unicode.h"

namespace graft::data {
namespace {

enum TokenKind : std::uint8_t { kAbsent, kNormal, kAdded, kControl };

// A field of the hash: its length, then its bytes, so that no two different lists of fields look alike.
void feed(Sha256& hash, std::string_view field) {
  const auto size = static_cast<std::uint64_t>(field.size());
  hash.update(&size, sizeof size);
  hash.update(field);
}
template <class Integer>
void feed_number(Sha256& hash, Integer value) {
  feed(hash, std::to_string(value));
}

}  // namespace

BpeTokenizer::BpeTokenizer(BpeSource source, SpecialTokens special, std::string chat_template, std::filesystem::path origin)
    : scan_(piece_scanner(source.pre_tokenizer)), nfc_(source.nfc), ignore_merges_(source.ignore_merges) {
  special_ = special;
  chat_template_ = std::move(chat_template);
  origin_ = std::move(origin);
  if (source.tokens.size() > static_cast<std::size_t>(kMaxVocabulary))
    throw FormatError(
        cat(source.origin, ": ", source.tokens.size(), " tokens, more than the ", kMaxVocabulary, " that graft reads"));
  std::unordered_map<std::string_view, std::int32_t> index;
  index.reserve(source.tokens.size());
  bytes_.resize(source.tokens.size());
  control_.resize(source.tokens.size());
  byte_ids_.fill(kNoToken);
  for (std::size_t id = 0; id < source.tokens.size(); ++id) {
    const std::string& spelled = source.tokens[id];
    if (spelled.empty()) continue;
    if (!index.emplace(spelled, static_cast<std::int32_t>(id)).second)
      throw FormatError(cat(source.origin, ": ids ", index[spelled], " and ", id, " are the same token"));
    const auto bytes = bytes_of_spelling(spelled);
    if (bytes && bytes->size() == 1) byte_ids_[static_cast<unsigned char>(bytes->front())] = static_cast<std::int32_t>(id);
    bytes_[id] = bytes.value_or(spelled);
  }
  place_added_tokens(source);
  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte)
    if (const std::int32_t id = byte_ids_[byte]; id != kNoToken && control_[static_cast<std::size_t>(id)])
      throw UnsupportedError(cat(source.origin, ": id ", id, " is a control token and also the plain byte ", byte));
  resolve_merges(source, index);
  if (ignore_merges_)
    for (std::size_t id = 0; id < source.tokens.size(); ++id)
      if (!source.tokens[id].empty() && !control_[id] && bytes_of_spelling(source.tokens[id]))
        words_.emplace(bytes_[id], static_cast<std::int32_t>(id));
  const bool bytes_missing = std::count(byte_ids_.begin(), byte_ids_.end(), kNoToken) > 0;
  if (bytes_missing && source.unknown != kNoToken && !is_control(source.unknown))
    std::replace(byte_ids_.begin(), byte_ids_.end(), kNoToken, source.unknown);
}

void BpeTokenizer::place_added_tokens(const BpeSource& source) {
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : source.added) {
    if (token.id < 0 || token.id >= kMaxVocabulary)
      throw FormatError(cat(source.origin, ": added token has id ", token.id, ", outside 0 to ", kMaxVocabulary - 1));
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= bytes_.size()) {
      bytes_.resize(id + 1);
      control_.resize(id + 1);
    }
    const bool in_vocabulary = id < source.tokens.size() && !source.tokens[id].empty();
    if ((in_vocabulary && source.tokens[id] != token.content) || (!in_vocabulary && !bytes_[id].empty()))
      throw FormatError(cat(source.origin, ": id ", token.id, " is given to two different tokens"));
    bytes_[id] = token.content;
    control_[id] = token.special;
    if (!token.special) (token.normalized && nfc_ ? normalized : raw).push_back(token);
  }
  raw_ = AddedTokenMatcher(std::move(raw));
  normalized_ = AddedTokenMatcher(std::move(normalized));
}

void BpeTokenizer::resolve_merges(const BpeSource& source, const std::unordered_map<std::string_view, std::int32_t>& index) {
  std::vector<Merge> merges;
  merges.reserve(source.merges.size());
  std::string joined;
  for (std::size_t i = 0; i < source.merges.size(); ++i) {
    const auto& [left, right] = source.merges[i];
    joined = left + right;
    const auto l = index.find(left), r = index.find(right), both = index.find(joined);
    if (l == index.end() || r == index.end() || both == index.end())
      throw FormatError(cat(source.origin, ": merge ", i, " refers to a token that is not in the vocabulary"));
    if (control_[static_cast<std::size_t>(both->second)]) continue;
    merges.push_back({l->second, r->second, both->second});
  }
  merges_ = MergeTable(merges);
  compute_hash(source, merges);
}

void BpeTokenizer::compute_hash(const BpeSource& source, const std::vector<Merge>& merges) {
  std::vector<std::uint8_t> kinds(bytes_.size(), kAbsent);
  for (std::size_t id = 0; id < source.tokens.size(); ++id)
    if (!source.tokens[id].empty()) kinds[id] = kNormal;
  Sha256 hash;
  feed(hash, "byte-level bpe");
  for (const AddedToken& token : source.added) {
    kinds[static_cast<std::size_t>(token.id)] = token.special ? kControl : kAdded;
    if (token.special || !(token.strip_left || token.strip_right || (token.normalized && nfc_))) continue;
    feed_number(hash, token.id);
    feed_number(hash, token.strip_left + 2 * token.strip_right + 4 * (token.normalized && nfc_));
  }
  feed(hash, gguf_name(source.pre_tokenizer));
  feed_number(hash, nfc_);
  feed_number(hash, ignore_merges_);
  for (std::size_t id = 0; id < bytes_.size(); ++id) {
    if (kinds[id] == kAbsent) continue;
    feed_number(hash, id);
    feed_number(hash, int{kinds[id]});
    feed(hash, bytes_[id]);
  }
  for (const Merge& merge : merges) {
    feed_number(hash, merge.left);
    feed_number(hash, merge.right);
  }
  hash_ = hash.hex();
}

std::unique_ptr<BpeTokenizer::State> BpeTokenizer::take_state() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto state = std::move(idle_.back());
      idle_.pop_back();
      return state;
    }
  }
  return std::make_unique<State>();
}

void BpeTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::unique_ptr<State> state = take_state();
  if (raw_.empty()) {
    encode_text(text, *state, ids);
  } else {
    raw_.split(
        text, [&](std::string_view part) { encode_text(part, *state, ids); }, [&](std::int32_t id) { ids.push_back(id); });
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(state));
}

void BpeTokenizer::encode_text(std::string_view text, State& state, std::vector<std::int32_t>& ids) const {
  if (nfc_ && compose_nfc(text, state.composed)) text = state.composed;
  if (normalized_.empty()) return encode_pieces(text, state, ids);
  normalized_.split(
      text, [&](std::string_view part) { encode_pieces(part, state, ids); }, [&](std::int32_t id) { ids.push_back(id); });
}

void BpeTokenizer::encode_pieces(std::string_view text, State& state, std::vector<std::int32_t>& ids) const {
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const char* next = scan_(p, end);
    const auto size = static_cast<std::size_t>(next - p);
    if (size > WordCache::kMaxBytes) {
      encode_piece({p, size}, state);
      ids.insert(ids.end(), state.piece.begin(), state.piece.end());
    } else {
      const WordCache::Key key = WordCache::key_of(p, size, end);
      WordCache::Slot& slot = state.cache.slot(key);
      if (WordCache::holds(slot, key)) {
        ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
      } else {
        encode_piece({p, size}, state);
        WordCache::store(slot, key, state.piece);
        ids.insert(ids.end(), state.piece.begin(), state.piece.end());
      }
    }
    p = next;
  }
}

void BpeTokenizer::encode_piece(std::string_view piece, State& state) const {
  state.piece.clear();
  if (ignore_merges_)
    if (const auto word = words_.find(piece); word != words_.end()) return state.piece.push_back(word->second);
  for (const char c : piece)
    if (const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)]; id != kNoToken) state.piece.push_back(id);
  if (state.piece.size() >= MergeTable::kNone)
    throw DataError(cat("a document has ", piece.size(), " bytes without a place to cut; split it into shorter ones"));
  merge(merges_, state.piece, state.merge);
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids, bool with_control) const {
  std::string out;
  for (const std::int32_t id : ids)
    if (id >= 0 && id < vocab_size() && (with_control || !control_[static_cast<std::size_t>(id)]))
      out += bytes_[static_cast<std::size_t>(id)];
  return out;
}

std::string BpeTokenizer::token_bytes(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && !is_control(id) ? bytes_[static_cast<std::size_t>(id)] : std::string();
}

bool BpeTokenizer::is_control(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && control_[static_cast<std::size_t>(id)] != 0;
}

std::optional<std::int32_t> BpeTokenizer::find_token(std::string_view literal) const {
  if (literal.empty()) return std::nullopt;
  for (const bool control : {true, false})  // a plain token may read like a control token
    for (std::size_t id = 0; id < bytes_.size(); ++id)
      if ((control_[id] != 0) == control && bytes_[id] == literal) return static_cast<std::int32_t>(id);
  return std::nullopt;
}

std::vector<std::string> BpeTokenizer::control_literals() const {
  std::vector<std::string> out;
  for (std::size_t id = 0; id < bytes_.size(); ++id)
    if (control_[id] && !bytes_[id].empty()) out.push_back(bytes_[id]);
  return out;
}

}  // namespace graft::data
