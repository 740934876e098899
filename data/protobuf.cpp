#include "data/protobuf.h"

#include <cstring>

#include "core/error.h"

namespace graft::data {
namespace {

enum Wire : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

}  // namespace

void ProtobufReader::malformed(const char* what) const { throw FormatError(cat(origin_, ": malformed protobuf: ", what)); }

std::uint64_t ProtobufReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (bytes_.empty()) malformed("it ends inside a number");
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  malformed("a number of more than ten bytes");
}

std::string_view ProtobufReader::take(std::uint64_t size) {
  if (size > bytes_.size()) malformed("a field is longer than what holds it");
  const std::string_view out = bytes_.substr(0, size);
  bytes_.remove_prefix(size);
  return out;
}

bool ProtobufReader::next() {
  if (bytes_.empty()) return false;
  const std::uint64_t tag = varint();
  field_ = static_cast<std::uint32_t>(tag >> 3);
  wire_ = tag & 7;
  if (tag >> 3 == 0 || tag >> 32 != 0) malformed("a field number out of range");
  switch (wire_) {
    case kVarint:
      number_ = varint();
      break;
    case kFixed64:
      value_ = take(8);
      break;
    case kBytes:
      value_ = take(varint());
      break;
    case kFixed32:
      value_ = take(4);
      break;
    default:
      malformed("an unknown wire type");
  }
  return true;
}

std::string_view ProtobufReader::bytes() const {
  if (wire_ != kBytes) malformed("a field is not the text it should be");
  return value_;
}

std::int64_t ProtobufReader::integer() const {
  if (wire_ != kVarint) malformed("a field is not the integer it should be");
  return static_cast<std::int64_t>(number_);
}

float ProtobufReader::real() const {
  if (wire_ != kFixed32) malformed("a field is not the number it should be");
  float out;
  std::memcpy(&out, value_.data(), sizeof out);
  return out;
}

void ProtobufWriter::varint(std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
  out_ += static_cast<char>(value);
}

void ProtobufWriter::bytes(std::uint32_t field, std::string_view value) {
  varint(field << 3 | kBytes);
  varint(value.size());
  out_ += value;
}

void ProtobufWriter::integer(std::uint32_t field, std::int64_t value) {
  varint(field << 3 | kVarint);
  varint(static_cast<std::uint64_t>(value));
}

void ProtobufWriter::real(std::uint32_t field, float value) {
  varint(field << 3 | kFixed32);
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  out_.append(raw, sizeof raw);
}

}  // namespace graft::data
