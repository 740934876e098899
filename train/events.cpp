#include "train/events.h"

#include <array>
#include <cstring>

namespace graft::train {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);  // 0x1edc6f41 reflected
    table[i] = crc;
  }
  return table;
}

template <class T>
std::string little_endian(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);  // x86 and ARM are little-endian
  return bytes;
}

std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string tf_record(const std::string& event) {
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  return length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
}

// Protobuf wire format: key = field << 3 | type; types 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(int field, int type) { return varint(static_cast<std::uint64_t>(field << 3 | type)); }
std::string number(int field, double value) { return key(field, 1) + little_endian(value); }
std::string number(int field, float value) { return key(field, 5) + little_endian(value); }
std::string integer(int field, std::int64_t value) { return key(field, 0) + varint(static_cast<std::uint64_t>(value)); }
std::string bytes(int field, const std::string& value) { return key(field, 2) + varint(value.size()) + value; }

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = crc_table();
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<std::uint8_t>(c)) & 0xff];
  return ~crc;
}

std::string version_record(double wall_time) { return tf_record(number(1, wall_time) + bytes(3, "brain.Event:2")); }

std::string scalars_record(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, float>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) summary += bytes(1, bytes(1, tag) + number(2, value));
  // proto3 leaves a field at its default out: step 0 is not written.
  return tf_record(number(1, wall_time) + (step ? integer(2, step) : "") + bytes(5, summary));
}

}  // namespace graft::train
