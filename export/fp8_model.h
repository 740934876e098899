// fp8 in the layouts of several servers (model/fp8_layout.h). Activations are rounded to fp8 when served, scaled as they come, so
// that nothing is calibrated.
#pragma once

#include "export/quantized_model.h"
#include "model/fp8_layout.h"

namespace graft::exports {

inline constexpr std::int64_t kFp8Block = 128;

LinearFormat fp8_format(const model::ModelSpec& spec);                   // quant_method fp8, one scale for each linear
LinearFormat fp8_block_format(const model::ModelSpec& spec);             // quant_method fp8, blocks of 128 x 128
LinearFormat compressed_fp8_block_format(const model::ModelSpec& spec);  // compressed-tensors FP8_BLOCK
LinearFormat modelopt_fp8_format(const model::ModelSpec& spec);          // ModelOpt FP8_PER_CHANNEL_PER_TOKEN, both config files

// Servers join q, k and v, and gate and up, and need whole blocks there.
std::string fp8_block_refusal(const model::ModelSpec& spec);
std::string fp8_refusal(const model::ModelSpec& spec);

}  // namespace graft::exports
