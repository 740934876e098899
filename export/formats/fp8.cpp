// Merged Hugging Face directories with linears in fp8, as quant_method fp8 and as NVIDIA's ModelOpt writes it (docs/formats.md).
// Activations are rounded to fp8 when served, scaled as they come, or in "-static" by what calibration found.
#include "export/quantize/fp8.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "export/linear_formats.h"
#include "export/pieces.h"
#include "export/quantize/e4m3.h"
#include "export/quantize/range.h"

namespace graft::exports {
namespace {

constexpr model::Fp8Tiles kMatrix = {.rows = 0, .columns = 0, .input_scale = false},
                          kRows = {.rows = 1, .columns = 0, .input_scale = false},
                          kBlocks = {.rows = kFp8Block, .columns = kFp8Block, .input_scale = false};

Json config_of(const model::ModelSpec& spec) {
  return {{"quant_method", "fp8"},
          {"activation_scheme", "dynamic"},
          {"ignored_layers", kept_plain(spec)},           // vLLM
          {"modules_to_not_convert", kept_plain(spec)}};  // transformers
}

LinearFormat matrix_format(const model::ModelSpec& spec, const LinearSchemes&, const RoundLinear&) {
  return tiles_format(kMatrix, "_scale", 0, config_of(spec));
}

LinearFormat block_format(const model::ModelSpec& spec, const LinearSchemes&, const RoundLinear&) {
  Json config = config_of(spec);
  config["weight_block_size"] = {kFp8Block, kFp8Block};
  return tiles_format(kBlocks, "_scale_inv", 2, std::move(config));
}

// Both files: the one of before ModelOpt 0.31 and the one of today say the same.
LinearFormat modelopt(const model::ModelSpec& spec, const char* algorithm, const model::Fp8Tiles& tiles, int scale_dims) {
  const Json producer = {{"name", "graft"}, {"version", GRAFT_VERSION}};
  LinearFormat format = tiles_format(tiles, "_scale", scale_dims,
                                     {{"quant_method", "modelopt"},
                                      {"quant_algo", algorithm},
                                      {"kv_cache_scheme", Json()},
                                      {"ignore", kept_plain(spec)},
                                      {"producer", producer}});
  format.files["hf_quant_config.json"] = {
      {"producer", producer},
      {"quantization", {{"quant_algo", algorithm}, {"kv_cache_quant_algo", Json()}, {"exclude_modules", kept_plain(spec)}}}};
  return format;
}

LinearFormat modelopt_format(const model::ModelSpec& spec, const LinearSchemes&, const RoundLinear&) {
  return modelopt(spec, "FP8_PER_CHANNEL_PER_TOKEN", kRows, 1);
}

LinearFormat modelopt_static_format(const model::ModelSpec& spec, const LinearSchemes&, const RoundLinear&) {
  return modelopt(spec, "FP8", kMatrix, 0);
}

// The layout of `format` with codes that `round` found, on a grid with a scale for each row, which may be one and the same.
template <auto format>
LinearFormat rounded_format(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round) {
  LinearFormat made = format(spec, schemes, round);
  made.encode = [round, layout = made.layout](const model::TensorSpec& linear, const at::Tensor& weight) {
    const Rounded rounded = round(linear, weight);
    const std::vector<std::int64_t> shape = layout(linear).front().shape;
    const at::Tensor scale = shape.empty() ? rounded.grid.scale[0][0] : rounded.grid.scale.view(shape);
    return EncodedLinear{{scale.clone(), rounded.codes.to(at::kFloat8_e4m3fn)}, [rounded] { return rounded.values(); }};
  };
  return made;
}

// What servers join has one name.
std::string joined_name(const model::ModelSpec& spec, const std::string& tensor) {
  const std::string module = model::module_of(tensor);
  const std::size_t last = module.rfind('.') + 1;
  const std::string name = module.substr(last);
  if (name == "q_proj" || name == "k_proj" || name == "v_proj") return module.substr(0, last) + "qkv";
  return name == spec.moe.gate || name == spec.moe.up ? module.substr(0, last) + "gate_up" : module;
}

// The largest weight of all that servers join with a linear.
class JoinedScales {
 public:
  explicit JoinedScales(const MergedModel& source) : source_(source) {
    for (const model::TensorSpec& tensor : source.tensors())
      if (tensor.role == model::TensorRole::linear) joined_[name_of(tensor)].push_back(&tensor);
  }

  // Before the first of them is encoded: its rows are read twice, the second time from memory.
  void find(const model::TensorSpec& linear) {
    const std::string name = name_of(linear);
    if (largest_.contains(name)) return;
    float& of_all = largest_[name];
    for (const model::TensorSpec* tensor : joined_.at(name)) {
      const float largest = largest_of(*tensor);
      if (!std::isfinite(largest)) throw DataError(cat("tensor ", tensor->name, ": a weight is not finite"));
      of_all = std::max(of_all, largest);
    }
  }
  float of(const model::TensorSpec& linear) const { return largest_.at(name_of(linear)); }  // that was found

 private:
  std::string name_of(const model::TensorSpec& tensor) const { return joined_name(source_.spec(), tensor.name); }

  float largest_of(const model::TensorSpec& tensor) const {
    const std::vector<RowRange> pieces = pieces_of(tensor);
    std::vector<float> found(pieces.size());
    on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
      const auto [begin, end] = pieces[static_cast<std::size_t>(i)];
      const at::Tensor rows = source_.rows(tensor, begin, end);
      found[static_cast<std::size_t>(i)] = largest_magnitude(rows.const_data_ptr<float>(), rows.numel());
    });
    return *std::max_element(found.begin(), found.end());
  }

  const MergedModel& source_;
  std::map<std::string, std::vector<const model::TensorSpec*>> joined_;
  std::map<std::string, float> largest_;
};

// vLLM's ModelOptFp8MoEMethod.
std::string modelopt_refusal(const model::ModelSpec& spec) {
  return spec.moe.experts > 0 ? "of ModelOpt's experts vLLM reads those with one scale each alone; choose modelopt-fp8-static"
                              : "";
}

// With what training rounds to: rows from a multiple of 128 on have whole tiles.
template <model::Fp8Tiles tiles>
constexpr Exporter by_tiles(Exporter exporter) {
  exporter.served = [](const model::ModelSpec&, const model::TensorSpec& tensor, const at::Tensor& rows) {
    if (tensor.role != model::TensorRole::linear) return rows.to(at::kBFloat16).to(at::kFloat);
    return round_to_fp8(rows, tiles).values(tiles);
  };
  return exporter;
}

constexpr Exporter kFormats[] = {
    quantized_exporter<matrix_format, nullptr, LinearRounding{.joined_scales = true}>(
        "fp8", "merged model as a Hugging Face directory, linears in fp8, one scale each; activations in fp8", "vLLM, SGLang"),
    quantized_exporter<rounded_format<matrix_format>, nullptr,
                       LinearRounding{kFp8ByRow, Quantizer::gptq, /*input_scales=*/false, /*joined_scales=*/true}>(
        "fp8-gptq", "as fp8, rounded by GPTQ for the training documents", "vLLM, SGLang"),
    by_tiles<kBlocks>(quantized_exporter<block_format, fp8_block_refusal>(
        "fp8-block", "merged model as a Hugging Face directory, linears in fp8 by blocks of 128 x 128; activations in fp8",
        "vLLM, SGLang, TensorRT-LLM, transformers")),
    by_tiles<kRows>(quantized_exporter<modelopt_format, modelopt_refusal>(
        "modelopt-fp8", "merged model as ModelOpt's unified directory, linears in fp8 by rows, activations by tokens",
        "TensorRT-LLM, vLLM")),
    quantized_exporter<rounded_format<modelopt_format>, modelopt_refusal, LinearRounding{kFp8ByRow, Quantizer::gptq}>(
        "modelopt-fp8-gptq", "as modelopt-fp8, rounded by GPTQ for the training documents", "TensorRT-LLM, vLLM"),
    quantized_exporter<modelopt_static_format, nullptr, LinearRounding{.input_scales = true, .joined_scales = true}>(
        "modelopt-fp8-static",
        "merged model as ModelOpt's unified directory, linears and activations in fp8, one scale each, found in the training "
        "documents",
        "TensorRT-LLM, vLLM, SGLang"),
    quantized_exporter<rounded_format<modelopt_static_format>, nullptr,
                       LinearRounding{kFp8ByRow, Quantizer::gptq, /*input_scales=*/true, /*joined_scales=*/true}>(
        "modelopt-fp8-static-gptq", "as modelopt-fp8-static, rounded by GPTQ for the training documents",
        "TensorRT-LLM, vLLM, SGLang"),
};

}  // namespace

// Scales first: they need the larger alignment.
LinearFormat tiles_format(const model::Fp8Tiles& tiles, const std::string& suffix, int scale_dims, Json config) {
  return {
      .stored_as = [tiles](const model::TensorSpec&) { return tiles.stored_as(); },
      .config = std::move(config),
      .layout =
          [=](const model::TensorSpec& linear) {
            std::vector<std::int64_t> shape = {tiles.down(linear.shape[0]), tiles.across(linear.shape[1])};
            shape.resize(static_cast<std::size_t>(scale_dims));
            return std::vector<StoredTensor>{{linear.name + suffix, DType::f32, shape},
                                             {linear.name, DType::f8_e4m3, linear.shape}};
          },
      .encode =
          [=](const model::TensorSpec&, const at::Tensor& weight) {
            const Fp8Weight rounded = round_to_fp8(weight, tiles);
            return EncodedLinear{{rounded.scale.contiguous(), rounded.codes.contiguous()}, [=] { return rounded.values(tiles); }};
          },
      .rows_along =
          [tiles](const model::TensorSpec& linear) {
            const bool apart = tiles.rows > 0 && kRowStep % tiles.rows == 0 && linear.shape[0] % tiles.rows == 0;
            return apart ? std::optional(0) : std::nullopt;
          },
  };
}

LinearFormat with_joined_scales(LinearFormat format, const MergedModel& source) {
  const auto scales = std::make_shared<JoinedScales>(source);
  format.prepare = [scales](const model::TensorSpec& linear) { scales->find(linear); };
  format.encode = [scales](const model::TensorSpec& linear, const at::Tensor& weight) {
    const Fp8Weight rounded = round_to_fp8(weight, kMatrix, scales->of(linear));
    return EncodedLinear{{rounded.scale, rounded.codes}, [=] { return rounded.values(kMatrix); }};
  };
  format.rows_along = [](const model::TensorSpec&) { return std::optional(0); };
  return format;
}

FindGrid joined_grids(const MergedModel& source) {
  return [scales = std::make_shared<JoinedScales>(source)](const model::TensorSpec& linear) {
    scales->find(linear);
    const float scale = scales->of(linear) / kLargestE4M3;
    return Grid{at::full({linear.shape[0], 1}, scale == 0 ? kScaleOfZeros : scale, at::kFloat), {}};
  };
}

std::string fp8_block_refusal(const model::ModelSpec& spec) {
  const std::int64_t ffn = spec.moe.experts > 0 ? spec.moe.ffn : spec.ffn, q = spec.heads * spec.head_dim;
  for (const auto& [what, rows] : {std::pair{"q", q}, {"k", spec.kv_heads * spec.head_dim}, {"gate", ffn}})
    if (rows % kFp8Block != 0)
      return cat("blocks of ", kFp8Block, " do not divide the ", rows, " rows of ", what,
                 ", which servers join with others; choose ct-fp8");
  for (const auto& [what, columns] : {std::pair{"q", spec.hidden}, {"o", q}, {"down", ffn}})
    if (columns % kFp8Block != 0)
      return cat("blocks of ", kFp8Block, " do not divide the ", columns, " columns of ", what,
                 ", and servers round its inputs by as many; choose ct-fp8");
  return "";
}

extern const FormatFamily fp8;
const FormatFamily fp8 = kFormats;

}  // namespace graft::exports
