// The angles of rotary position embedding for the tokens of a batch, with the frequency scalings of long-context models.
//
//   f_i = theta^(-2i/d), i < d/2;  linear: f / factor
//   llama3 (Llama 3.1): wavelengths above original_context / low_freq_factor are divided by factor, below .../high_freq_factor
//     kept, in between interpolated
//   yarn (Peng et al. 2023, arXiv:2309.00071): ramp between f / factor and f over the dimensions that turn beta_slow to beta_fast
//     times within original_context
//   longrope (Ding et al. 2024, arXiv:2402.13753): f_i / short_factors[i], or long_factors once positions pass original_context
//   short_factors with any other scaling: explicit divisors (GGUF's rope_freqs), which replace the scaling's formula.
//
// cos and sin carry attention_factor.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/spec.h"

namespace graft::model {

struct RopeRows {
  at::Tensor cos, sin;  // (T, dims/2) f32
};

std::vector<double> rope_frequencies(const RopeSpec& spec, std::int64_t positions);  // positions: largest position + 1

// positions (T) int32 or int64.
RopeRows rope_rows(const RopeSpec& spec, const at::Tensor& positions);

}  // namespace graft::model
