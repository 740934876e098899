// A corpus in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "data/corpus.h"

namespace graft::testing {

class Documents final : public data::Corpus {
 public:
  struct Text {
    std::vector<std::int32_t> tokens;
    std::vector<std::uint8_t> loss;  // empty: all
    std::uint64_t bytes;
  };
  explicit Documents(std::vector<Text> texts) : texts_(std::move(texts)) {}
  std::int64_t documents() const override { return static_cast<std::int64_t>(texts_.size()); }
  std::int64_t tokens() const override {
    std::int64_t count = 0;
    for (const Text& text : texts_) count += static_cast<std::int64_t>(text.tokens.size());
    return count;
  }
  data::Document document(std::int64_t index) const override {
    const Text& text = texts_.at(static_cast<std::size_t>(index));
    return {0, text.bytes, static_cast<std::int64_t>(text.tokens.size())};
  }
  void read(std::int64_t index, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const override {
    const Text& text = texts_.at(static_cast<std::size_t>(index));
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t at = static_cast<std::size_t>(begin) + i;
      out[i] = text.tokens.at(at);
      if (!loss.empty()) loss[i] = text.loss.empty() ? 1 : text.loss.at(at);
    }
  }
  const std::string& snapshot() const override { return snapshot_; }
  const std::vector<Text>& texts() const { return texts_; }

 private:
  std::vector<Text> texts_;
  std::string snapshot_ = "memory";
};

inline std::vector<std::int32_t> made_up(std::size_t count, std::uint64_t seed) {
  const Random random(seed, Stream::split);
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<std::int32_t>(3 + random.bits(i) % 90);
  return tokens;
}

}  // namespace graft::testing
