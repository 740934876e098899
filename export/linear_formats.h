// Layouts of quantized linears that stand by themselves, without a row of a table: defined in the files of export/formats/.
#pragma once

#include "export/quantized_model.h"
#include "model/fp8_layout.h"

namespace graft::exports {

// int4.cpp: model/layouts/gptq.cpp and awq.cpp, from codes of any rounding. Scales are F16 there, as their first tools write
// them; values that bf16 holds, so that a server that computes in bf16 reads the same numbers. A scale below 2^-17 is not exact
// in F16: the group gets the scale 2^-17.
LinearFormat gptq_format(std::int64_t group, const RoundLinear& round);  // of symmetric grids
LinearFormat awq_format(std::int64_t group, const RoundLinear& round);   // of grids with zero points

// fp8.cpp: model/fp8_layout.h. Activations are rounded to fp8 when served. scale_dims: 0, 1 or 2 dimensions of the scale, as the
// server's own tools write it.
inline constexpr std::int64_t kFp8Block = 128;
inline constexpr model::CompressedScheme kFp8ByRow = {model::CompressedFormat::floating, 8, 0, true};
LinearFormat tiles_format(const model::Fp8Tiles& tiles, const std::string& suffix, int scale_dims, Json config);
// A format with one scale for each matrix, and one for all that servers join when they load them (q, k and v; gate and up): the
// largest weight of all over 448. They round what has a smaller one a second time; so there is nothing to round, and what was
// scored is what is served. Reads the linears of `source`, which must outlive it.
LinearFormat with_joined_scales(LinearFormat format, const MergedModel& source);
// That scale, f32 (out, 1) of each linear, for codes of another rounding; 2^-7 where all weights are zero. DataError naming a
// tensor that is not finite. `source` must outlive the function.
FindGrid joined_grids(const MergedModel& source);
// Servers join q, k and v, and gate and up, and need whole blocks there; and of the inputs, which they round by as many columns.
std::string fp8_block_refusal(const model::ModelSpec& spec);

}  // namespace graft::exports
