// quant_method modelopt: the fp8 algorithms of NVIDIA's unified Hugging Face checkpoints (Model-Optimizer
// modelopt/torch/export/quant_utils.py).
#include "core/error.h"
#include "model/fp8_layout.h"

namespace graft::model {
namespace {

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  const std::string algorithm = text_or_empty(quantization, "quant_algo");
  if (algorithm == "FP8") return fp8_layout({.rows = 0, .columns = 0, .input_scale = true}, "_scale");
  if (algorithm == "FP8_PER_CHANNEL_PER_TOKEN") return fp8_layout({.rows = 1, .columns = 0, .input_scale = false}, "_scale");
  if (algorithm == "FP8_PB_WO" || algorithm == "fp8_pb_wo")
    return fp8_layout({.rows = 128, .columns = 128, .input_scale = false}, "_scale");
  throw UnsupportedError(
      cat(origin, ": quant_algo is ", quote(algorithm), "; graft reads FP8, FP8_PER_CHANNEL_PER_TOKEN and FP8_PB_WO"));
}

}  // namespace

extern const LayoutReader modelopt;
const LayoutReader modelopt = {.method = "modelopt", .read = read};

}  // namespace graft::model
