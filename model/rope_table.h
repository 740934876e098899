// The angles of rotary position embedding for the tokens of a batch, with the frequency scalings of long-context models.
//
//   f_i = theta^(-2i/d), i < d/2;  linear: f / factor
//   llama3 (Llama 3.1): wavelengths above original_context / low_freq_factor are divided by factor, below .../high_freq_factor
//     kept, in between interpolated
//   yarn (Peng et al. 2023, arXiv:2309.00071): ramp between f / factor and f over the dimensions that turn beta_slow to beta_fast
//     times within original_context
//   longrope (Ding et al. 2024, arXiv:2402.13753): f_i / short_factors[i]; f_i / long_factors[i] for a document longer than
//     original_context
//
// cos and sin carry attention_factor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "model/spec.h"

namespace graft::model {

struct RopeRows {
  at::Tensor cos, sin;  // (T, dims/2) f32
};

std::vector<double> rope_frequencies(const RopeSpec& spec, bool beyond_original_context);

// positions (T) int32 or int64; starts: the segments they belong to, each ascending.
RopeRows rope_rows(const RopeSpec& spec, const at::Tensor& positions, std::span<const std::int32_t> starts);

}  // namespace graft::model
