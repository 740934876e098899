// quant_method fp8: one scale for a linear ("weight_scale"), or for each block of weight_block_size ("weight_scale_inv", a factor
// all the same). vLLM model_executor/layers/quantization/fp8.py, transformers integrations/finegrained_fp8.py.
#include "model/fp8_layout.h"

#include "core/error.h"

namespace graft::model {
namespace {

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  const std::string activations = text_or_empty(quantization, "activation_scheme");
  if (activations != "dynamic" && activations != "static")
    throw UnsupportedError(cat(origin, ": activation_scheme is ", quote(activations)));
  const auto block = quantization.find("weight_block_size");
  if (block != quantization.end() && !block->is_null()) return fp8_layout(block_tiles(*block, origin), "_scale_inv");
  return fp8_layout({.rows = 0, .columns = 0, .input_scale = activations == "static"}, "_scale");
}

}  // namespace

extern const LayoutReader fp8;
const LayoutReader fp8 = {.method = "fp8", .read = read};

}  // namespace graft::model
