// Greedy and sampled continuation with a KV cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace graft::eval {

struct GenerateOptions {
  std::int64_t max_tokens = 128;
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  std::int64_t top_k = 0;  // 0: off
  std::uint64_t seed = 0;
  std::vector<std::int32_t> stop_ids = {};
};
// Returns the new ids without the stop id; on_token is called for each (may be empty).
std::vector<std::int32_t> generate(model::Decoder& decoder, const std::vector<std::int32_t>& prompt,
                                   const GenerateOptions& options, const std::function<void(std::int32_t)>& on_token);

}  // namespace graft::eval
