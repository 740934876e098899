#include "export/gguf_model.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/stop.h"
#include "export/gguf_metadata.h"
#include "export/merge.h"
#include "export/pieces.h"
#include "export/quantize/ggml.h"
#include "export/quantize/rounding.h"
#include "export/verify.h"
#include "model/family.h"
#include "model/rotary_rows.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

struct Planned {
  std::string name;  // in GGUF
  std::vector<std::int64_t> shape;
  GgmlType type;
  std::vector<model::TensorSpec> parts;  // one tensor, or the experts of a stack in order
  at::Tensor values;                     // for a tensor that is no weight of the model (rotary factors)
};

std::int64_t elements(const Planned& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
}

// Llama 3's long-context scaling is not a key in GGUF but a divisor per rotated pair (conversion/llama.py). In f32 as there.
at::Tensor llama3_divisors(const model::RopeSpec& rope) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const float dims = static_cast<float>(rope.dims);
  const at::Tensor frequency = at::reciprocal(at::pow(rope.theta, at::arange(0, rope.dims, 2, options) / dims));
  at::Tensor divisors = at::empty_like(frequency);
  const auto context = static_cast<float>(rope.original_context), factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_freq_factor), high = static_cast<float>(rope.high_freq_factor);
  for (std::int64_t i = 0; i < frequency.numel(); ++i) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency[i].item<float>();
    const float smooth = (context / wavelength - low) / (high - low);
    divisors[i] = wavelength < context / high  ? 1.0f
                  : wavelength > context / low ? factor
                                               : 1.0f / ((1.0f - smooth) / factor + smooth);
  }
  return divisors;
}

// Tensors beside the weights.
std::vector<Planned> extra_tensors(const model::WeightSource& base) {
  std::vector<Planned> extras;
  const auto add = [&](const std::string& name, at::Tensor values) {
    extras.push_back({name, values.sizes().vec(), GgmlType::f32, {}, std::move(values)});
  };
  if (base.is_gguf()) {
    const GgufFile file(base.path());
    for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
      if (const GgufTensor* tensor = file.find(name)) {
        at::Tensor values = at::empty(tensor->shape, at::kFloat);
        dequantize(tensor->type, file.data(*tensor).data(), values.numel(), values.mutable_data_ptr<float>());
        add(name, values);
      }
  } else if (const model::RopeSpec& rope = base.spec().rope; rope.scaling == model::RopeScaling::llama3) {
    add("rope_freqs.weight", llama3_divisors(rope));
  } else if (rope.scaling == model::RopeScaling::longrope) {
    add("rope_factors_long.weight", at::tensor(rope.long_factors, at::kFloat));
    add("rope_factors_short.weight", at::tensor(rope.short_factors, at::kFloat));
  }
  return extras;
}

std::vector<Planned> plan(const MergedModel& source, GgufFileType file, bool importance) {
  std::vector<Planned> tensors = extra_tensors(source.base());
  std::map<std::string, std::size_t> index;
  for (const model::TensorSpec& tensor : source.tensors()) {
    const auto [at, added] = index.emplace(tensor.gguf, tensors.size());
    if (added)
      tensors.push_back({tensor.gguf,
                         tensor.shape,
                         gguf_tensor_type(file, source.spec(), tensor.gguf, tensor.shape.back(), tensor.shape.size(), importance),
                         {},
                         {}});
    tensors[at->second].parts.push_back(tensor);
  }
  for (Planned& tensor : tensors)
    if (!tensor.parts.empty() && tensor.parts[0].expert >= 0)
      tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(tensor.parts.size()));
  return tensors;
}

// Which layers are which kind is code in llama.cpp for these families, and no key says otherwise.
bool as_built_in(const model::ModelSpec& spec, std::size_t i) {
  const model::LayerSpec& layer = spec.layers[i];
  if (spec.family == "gemma2") return (layer.window > 0) == (i % 2 == 0);
  if (spec.family == "gemma3") return (layer.window > 0) == ((i + 1) % 6 != 0);
  if (spec.family == "smollm3") return layer.rope == ((i + 1) % 4 != 0);
  return true;
}

at::Tensor importance_of(const ExportRequest& request, Quantizer quantizer, const std::string& tensor) {
  return quantizer == Quantizer::importance ? request.calibration->importance(tensor) : at::Tensor();
}

// Of the rows [begin, end), each in the place that `turn` gives it.
template <class Turn>
std::vector<std::byte> blocks_of(const Rounded& whole, std::int64_t begin, std::int64_t end, Turn turn) {
  const auto rows = [&](const at::Tensor& of) { return turn(of.narrow(0, begin, end - begin)); };
  return q4_0_blocks({{rows(whole.grid.scale), {}}, rows(whole.codes)});
}

}  // namespace

bool has_betas_of_its_own(const model::RopeSpec& rope) {
  return rope.scaling == model::RopeScaling::yarn && (rope.beta_fast != 32 || rope.beta_slow != 1);
}

bool interleaves_rotary_rows(const model::ModelSpec& spec) { return model::family_named(spec.family).gguf_permutes_qk; }

std::string gguf_refusal(const model::ModelSpec& spec, Quantizer quantizer) {
  if (gguf_architecture(spec).empty()) return cat("GGUF has no architecture for ", spec.architecture);
  if (spec.rope.scaling == model::RopeScaling::longrope && spec.family != "phi3")
    return cat("GGUF has no longrope scaling for ", spec.architecture);
  if (spec.moe.experts > 0 && !spec.moe.normalize_weights)
    return cat("llama.cpp divides the weights of a token's experts by their sum, ", spec.architecture,
               " with norm_topk_prob: false does not");
  for (std::size_t i = 0; i < spec.layers.size(); ++i)
    if (!as_built_in(spec, i))
      return cat("layer ", i, " of this ", spec.architecture,
                 " is of another kind (local or global, with or without position embedding) than llama.cpp has there");
  if (by_gptq(quantizer))
    for (const model::TensorSpec& tensor : model::tensors_of(spec))
      if (tensor.role == model::TensorRole::linear && tensor.shape[1] % kQ4_0Grid.group != 0)
        return cat("GPTQ needs whole blocks of ", kQ4_0Grid.group, ", and rows of ", tensor.name, " have ", tensor.shape[1],
                   " columns; choose gguf-q8_0 or gguf-q4_0-imatrix, which leave such tensors in f16");
  return "";
}

std::uint64_t gguf_bytes(const model::ModelSpec& spec, GgufFileType file, Quantizer quantizer) {
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(spec)) {
    const GgmlTypeInfo& type = info_of(
        gguf_tensor_type(file, spec, tensor.gguf, tensor.shape.back(), tensor.shape.size(), quantizer == Quantizer::importance));
    const auto rows = tensor.shape.size() == 1 ? 1 : static_cast<std::uint64_t>(tensor.shape[0]);
    bytes += rows * static_cast<std::uint64_t>(tensor.shape.back() / type.block * type.bytes);
  }
  return bytes;
}

void write_gguf_model(const ExportRequest& request, GgufFileType file, Quantizer quantizer, const fs::path& target,
                      Fingerprints& made) {
  const MergedModel source = source_for(request, quantizer, kQ4_0Grid);
  const std::vector<Planned> tensors = plan(source, file, quantizer == Quantizer::importance);
  const RoundLinear round = by_gptq(quantizer) ? rounding_for(request, quantizer, kQ4_0Grid) : RoundLinear();
  const bool interleave = interleaves_rotary_rows(source.spec());
  std::int64_t parameters = 0;
  for (const Planned& tensor : tensors) parameters += elements(tensor);

  const float offset = static_cast<float>(source.spec().norm_gain_offset);
  GgufWriter writer(target);
  write_model_metadata(writer, request, file, parameters);
  for (const Planned& tensor : tensors) writer.tensor(tensor.name, tensor.shape, tensor.type);

  writer.start();
  Progress progress("write " + target.filename().string(), tensors.size(), "tensors");
  for (std::size_t k = 0; k < tensors.size(); ++k) {
    throw_if_stopped();
    const Planned& tensor = tensors[k];
    const auto put = [&](std::int64_t row, std::int64_t rows, const std::vector<std::byte>& bytes) {
      writer.place(k, static_cast<std::uint64_t>(row) * bytes.size() / static_cast<std::uint64_t>(rows), bytes.data(),
                   bytes.size());
    };
    if (tensor.parts.empty()) put(0, tensor.values.size(0), quantize_rows(tensor.values, tensor.type));
    std::int64_t above = 0;  // rows of the parts before
    for (const model::TensorSpec& part : tensor.parts) {
      const at::Tensor importance = importance_of(request, quantizer, part.name);
      const bool turned = interleave && part.rotary_heads > 0, shifted = part.role == model::TensorRole::norm && offset != 0;
      std::optional<Rounded> rounded;
      if (round && part.role == model::TensorRole::linear && tensor.type == GgmlType::q4_0) rounded = round(part, {});
      const bool bounded = !rounded && !importance.defined() && !is_searched(tensor.type) && !shifted;
      const std::int64_t head = turned ? part.shape[0] / part.rotary_heads : kRowStep;  // rows of it change places
      const std::vector<RowRange> pieces = pieces_of(part, head);
      on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
        const auto [begin, end] = pieces[static_cast<std::size_t>(i)];
        const auto turn = [&](const at::Tensor& rows) {
          return turned ? model::interleaved_rows(rows, rows.size(0) / head) : rows;
        };
        const at::Tensor rows = source.rows(part, begin, end);
        const at::Tensor values = shifted ? turn(rows) + offset : turn(rows);
        const std::vector<std::byte> bytes =
            rounded ? blocks_of(*rounded, begin, end, turn) : quantize_rows(values.contiguous(), tensor.type, importance);
        put(above + begin, end - begin, bytes);
        at::Tensor stored = dequantized(bytes, tensor.type, values.sizes());
        if (shifted) stored -= offset;  // as a reader does, which rounds once more
        made.add(part.name, begin, turned ? model::separated_rows(stored, (end - begin) / head) : stored, rows,
                 bounded ? info_of(tensor.type).name : "");
      });
      above += part.shape[0];
    }
    progress.update(k + 1);
  }
  made.summed(target, writer.commit());
}

at::Tensor gguf_rows(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows, GgufFileType file) {
  return quantized(rows, gguf_tensor_type(file, spec, tensor.gguf, tensor.shape.back(), tensor.shape.size()));
}

double verify_gguf_model(const ExportRequest& request, Quantizer quantizer, const fs::path& written, const Fingerprints& made) {
  const auto reopened = model::open_weights(written);
  for (std::size_t i = 0; i < reopened->spec().layers.size(); ++i)
    if (const std::int64_t window = request.base.spec().layers.at(i).window;
        window > 0 && reopened->spec().layers[i].window == 0) {
      log::warn("export", "GGUF has no sliding window for ", request.base.spec().architecture, ": beyond ", window,
                " tokens llama.cpp attends to more than the model was trained on");
      break;
    }
  if (const model::RopeSpec& rope = request.base.spec().rope; has_betas_of_its_own(rope))
    log::warn("export", "llama.cpp scales YaRN with beta_fast 32 and beta_slow 1, whatever a file says; ",
              request.base.spec().architecture, " has ", rope.beta_fast, " and ", rope.beta_slow,
              ", with which it was trained and scored here");
  return verify_model(source_for(request, quantizer, kQ4_0Grid), *reopened, made);
}

}  // namespace graft::exports
