// The protobuf wire format, as much of it as SentencePiece's model needs: varints, 32-bit and length-delimited fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace graft::data {

// Walks the fields of one message. FormatError naming origin for a varint or length that does not fit.
class ProtobufReader {
 public:
  ProtobufReader(std::string_view bytes, std::string origin) : bytes_(bytes), origin_(std::move(origin)) {}
  bool next();  // to the next field; false at the end
  std::uint32_t field() const { return field_; }
  // The value of the current field; FormatError when it is of another wire type.
  std::string_view bytes() const;
  std::int64_t integer() const;
  float real() const;

 private:
  std::uint64_t varint();
  std::string_view take(std::uint64_t size);
  [[noreturn]] void malformed(const char* what) const;
  std::string_view bytes_, value_;
  std::string origin_;
  std::uint32_t field_ = 0, wire_ = 0;
  std::uint64_t number_ = 0;
};

class ProtobufWriter {
 public:
  void bytes(std::uint32_t field, std::string_view value);
  void integer(std::uint32_t field, std::int64_t value);
  void real(std::uint32_t field, float value);
  const std::string& text() const { return out_; }

 private:
  void varint(std::uint64_t value);
  std::string out_;
};

}  // namespace graft::data
