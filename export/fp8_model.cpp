#include "export/fp8_model.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "export/quantize/fp8.h"
#include "model/tensors.h"

namespace graft::exports {
namespace {

constexpr model::Fp8Tiles kMatrix = {.rows = 0, .columns = 0, .input_scale = false},
                          kRows = {.rows = 1, .columns = 0, .input_scale = false},
                          kBlocks = {.rows = kFp8Block, .columns = kFp8Block, .input_scale = false};

// scale_dims: 0, 1 or 2 dimensions, as the server's own tools write it. Scales first: they need the larger alignment.
LinearFormat format_of(const model::Fp8Tiles& tiles, const std::string& suffix, int scale_dims, Json config) {
  return {
      .stored_as = tiles.stored_as(),
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
            return EncodedLinear{{rounded.scale.contiguous(), rounded.codes.contiguous()}, rounded.values(tiles)};
          },
  };
}

Json kept_plain(const model::ModelSpec& spec) {
  Json names = {"lm_head"};
  for (const std::string& router : routers_of(spec)) names.push_back(router);
  return names;
}

Json fp8_config(const model::ModelSpec& spec) {
  return {{"quant_method", "fp8"},
          {"activation_scheme", "dynamic"},
          {"ignored_layers", kept_plain(spec)},           // vLLM
          {"modules_to_not_convert", kept_plain(spec)}};  // transformers
}

Json arguments(const char* strategy) {
  return {{"num_bits", 8},        {"type", "float"},
          {"symmetric", true},    {"strategy", strategy},
          {"group_size", Json()}, {"block_structure", Json()},
          {"dynamic", false},     {"actorder", Json()},
          {"observer", Json()},   {"observer_kwargs", Json::object()}};
}

}  // namespace

LinearFormat fp8_format(const model::ModelSpec& spec) { return format_of(kMatrix, "_scale", 0, fp8_config(spec)); }

LinearFormat fp8_block_format(const model::ModelSpec& spec) {
  Json config = fp8_config(spec);
  config["weight_block_size"] = {kFp8Block, kFp8Block};
  return format_of(kBlocks, "_scale_inv", 2, std::move(config));
}

LinearFormat compressed_fp8_block_format(const model::ModelSpec& spec) {
  Json weights = arguments("block"), activations = arguments("group");
  weights["block_structure"] = {kFp8Block, kFp8Block};
  weights["observer"] = "minmax";
  activations["group_size"] = kFp8Block;
  activations["dynamic"] = true;
  return format_of(kBlocks, "_scale", 2,
                   {{"quant_method", "compressed-tensors"},
                    {"format", "float-quantized"},
                    {"quantization_status", "compressed"},
                    {"global_compression_ratio", Json()},
                    {"kv_cache_scheme", Json()},
                    {"ignore", kept_plain(spec)},
                    {"config_groups",
                     {{"group_0",
                       {{"targets", Json::array({"Linear"})},
                        {"weights", weights},
                        {"input_activations", activations},
                        {"output_activations", Json()},
                        {"format", "float-quantized"}}}}}});
}

// Both files: the one of before ModelOpt 0.31 and the one of today say the same.
LinearFormat modelopt_fp8_format(const model::ModelSpec& spec) {
  constexpr const char* kAlgorithm = "FP8_PER_CHANNEL_PER_TOKEN";
  const Json producer = {{"name", "graft"}, {"version", GRAFT_VERSION}};
  LinearFormat format = format_of(kRows, "_scale", 1,
                                  {{"quant_method", "modelopt"},
                                   {"quant_algo", kAlgorithm},
                                   {"kv_cache_scheme", Json()},
                                   {"ignore", kept_plain(spec)},
                                   {"producer", producer}});
  format.files["hf_quant_config.json"] = {
      {"producer", producer},
      {"quantization", {{"quant_algo", kAlgorithm}, {"kv_cache_quant_algo", Json()}, {"exclude_modules", kept_plain(spec)}}}};
  return format;
}

std::string fp8_refusal(const model::ModelSpec& spec) { return alignment_refusal(spec, fp8_format(spec)); }

std::string fp8_block_refusal(const model::ModelSpec& spec) {
  const std::int64_t ffn = spec.moe.experts > 0 ? spec.moe.ffn : spec.ffn;
  for (const auto& [what, rows] :
       {std::pair{"q", spec.heads * spec.head_dim}, {"k", spec.kv_heads * spec.head_dim}, {"gate", ffn}})
    if (rows % kFp8Block != 0)
      return cat("blocks of ", kFp8Block, " do not divide the ", rows, " rows of ", what,
                 ", which servers join with others; choose ct-fp8");
  return alignment_refusal(spec, fp8_block_format(spec));
}

}  // namespace graft::exports
