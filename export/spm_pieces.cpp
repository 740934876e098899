#include "export/spm_pieces.h"

#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/file.h"

namespace graft::exports {
namespace {

constexpr std::uint64_t kMaxFile = 256ull << 20;
constexpr std::size_t kMaxPieces = 1 << 24;
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// One message; every read is bounded by its end.
class Message {
 public:
  Message(std::string_view bytes, const std::string& origin, std::size_t offset) : bytes_(bytes), origin_(origin), offset_(offset) {}
  bool done() const { return at_ == bytes_.size(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (!(byte & 0x80)) return value;
    }
    fail("a number is longer than 64 bits");
  }
  std::string_view bytes() { return take(varint()); }
  float fixed32() {
    float value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  void skip(std::uint64_t wire_type) {
    switch (wire_type) {
      case kVarint: varint(); break;
      case kFixed64: take(8); break;
      case kBytes: bytes(); break;
      case kFixed32: take(4); break;
      default: fail("an unknown wire type");
    }
  }
  std::size_t offset() const { return offset_ + at_; }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) fail("a field is longer than what holds it");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  [[noreturn]] void fail(const char* what) const {
    throw FormatError(cat(origin_, ": byte ", offset(), ": ", what, "; it is not a SentencePiece model"));
  }

  std::string_view bytes_;
  const std::string& origin_;
  std::size_t offset_, at_ = 0;
};

SpmPiece read_piece(Message message) {
  SpmPiece piece;
  while (!message.done()) {
    const std::uint64_t tag = message.varint(), field = tag >> 3, type = tag & 7;
    if (field == 1 && type == kBytes) piece.text = message.bytes();
    else if (field == 2 && type == kFixed32) piece.score = message.fixed32();
    else if (field == 3 && type == kVarint) piece.type = static_cast<std::int64_t>(message.varint());
    else message.skip(type);
  }
  return piece;
}

}  // namespace

std::vector<SpmPiece> read_spm_pieces(const std::filesystem::path& tokenizer_model) {
  const std::string bytes = read_file(tokenizer_model, kMaxFile), origin = tokenizer_model.string();
  std::vector<SpmPiece> pieces;
  Message model(bytes, origin, 0);
  while (!model.done()) {
    const std::uint64_t tag = model.varint(), field = tag >> 3, type = tag & 7;
    if (field != 1 || type != kBytes) {
      model.skip(type);
      continue;
    }
    const std::string_view piece = model.bytes();
    pieces.push_back(read_piece(Message(piece, origin, model.offset() - piece.size())));
    if (pieces.back().type < 1 || pieces.back().type > 6)
      throw FormatError(cat(origin, ": piece ", pieces.size() - 1, " has type ", pieces.back().type, ", outside 1 to 6"));
    if (pieces.size() > kMaxPieces) throw FormatError(cat(origin, ": more than ", kMaxPieces, " pieces"));
  }
  if (pieces.empty()) throw FormatError(cat(origin, ": holds no pieces; it is not a SentencePiece model"));
  return pieces;
}

}  // namespace graft::exports
