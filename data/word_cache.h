// Ids of pieces seen before. Text repeats: nearly every piece is found here. One slot per hash value, the newest wins, so the
// size is fixed and nothing is ever evicted in bulk.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace graft::data {

class WordCache {
 public:
  static constexpr std::size_t kMaxBytes = 32, kMaxIds = 6;
  struct Key {
    std::uint64_t words[4];
    std::uint32_t size;
  };
  struct alignas(64) Slot {
    Key key{{0, 0, 0, 0}, ~0u};
    std::uint16_t count = 0;
    std::int32_t ids[kMaxIds];
  };

  // size of piece: 1 to kMaxBytes; `end`, at or after its end, is where the readable text ends.
  static Key key_of(const char* piece, std::size_t size, const char* end) {
    char padded[kMaxBytes];
    if (static_cast<std::size_t>(end - piece) < kMaxBytes) {
      std::memcpy(padded, piece, size);
      piece = padded;
    }
    Key key{{0, 0, 0, 0}, static_cast<std::uint32_t>(size)};
    for (std::size_t i = 0; i * 8 < size; ++i) {
      std::memcpy(&key.words[i], piece + i * 8, 8);
      if (const std::size_t left = size - i * 8; left < 8) key.words[i] &= ~std::uint64_t{0} >> (64 - left * 8);
    }
    return key;
  }
  Slot& slot(const Key& key) {
    std::uint64_t hash = key.words[0] * 0x9E3779B97F4A7C15u;
    if (key.size > 8) hash = (hash ^ key.words[1] ^ key.words[2] * 3 ^ key.words[3] * 5) * 0xD6E8FEB86659FD93u;
    return slots_[(hash + key.size * 0xA24BAED4963EE407u) >> (64 - kBits)];
  }
  static bool holds(const Slot& slot, const Key& key) {
    return slot.key.size == key.size && slot.key.words[0] == key.words[0] &&
           (key.size <= 8 ||
            (slot.key.words[1] == key.words[1] && slot.key.words[2] == key.words[2] && slot.key.words[3] == key.words[3]));
  }
  static void store(Slot& slot, const Key& key, const std::vector<std::int32_t>& ids) {
    if (ids.size() > kMaxIds) return;
    slot.key = key;
    slot.count = static_cast<std::uint16_t>(ids.size());
    std::memcpy(slot.ids, ids.data(), ids.size() * sizeof(std::int32_t));
  }

 private:
  static constexpr int kBits = 15;
  std::vector<Slot> slots_ = std::vector<Slot>(std::size_t{1} << kBits);
};

}  // namespace graft::data
