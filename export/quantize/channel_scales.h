// Scales for the channels of an input: its linears' weights are multiplied by them, the input divided (export/fold.h).
//
//   AWQ (Lin et al. 2023, arXiv:2306.00978, eq. 5)    s = m^a / sqrt(max m^a * min m^a), m the mean of |x| of a channel; a in 0,
//     0.05 .. 0.95 with the least sum of |(Q(W s) / s - W) x|^2 over the calibration inputs and the linears
//   SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, eq. 4)    s = max|x|^a / max|W|^(1-a) of a channel, a = 1/2
//
// From below m^a is bounded by 1e-4, max|x| and max|W| by 1e-5, as in their authors' code.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "export/quantize/rounding.h"

namespace graft::exports {

// The inputs of linears that read the same x, over all calibration tokens.
struct InputSums {
  std::int64_t rows = 0;    // tokens; those sent to it, for an expert
  at::Tensor sum, largest;  // (in) of |x|: f64, f32
  at::Tensor squares;       // (in) of x^2, f64
  at::Tensor gram;          // (in, in) f32 of x x^T; undefined when nobody asked for it

  void add(const at::Tensor& x, bool with_gram);  // x (rows, in), f32 or bf16
};

struct Reader {
  at::Tensor weight;  // (out, in) f32
  const InputSums* inputs;
};

// Readers of the same channels; the experts of a mixture see different rows of them. f32 (in).
at::Tensor awq_scales(const std::vector<Reader>& readers, const model::CompressedScheme& scheme);
at::Tensor smooth_scales(const std::vector<Reader>& readers);

}  // namespace graft::exports
