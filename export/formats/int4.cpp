// Merged Hugging Face directories with linears in int4, in the layouts of GPTQ and AWQ (docs/formats.md).
#include <ATen/ATen.h>

#include "core/error.h"
#include "export/linear_formats.h"
#include "model/awq_words.h"
#include "model/compressed_tensors.h"
#include "model/linear_layout.h"
#include "model/tensors.h"

namespace graft::exports {
namespace {

constexpr std::string_view kLoadsIn = "vLLM, SGLang, transformers with GPTQModel";
constexpr std::int64_t kPerWord = 8;
constexpr double kSmallestScale = 0x1p-17, kLargestScale = 65504;  // bf16's 8 bits are exact in F16 between these

// The same values, or nearest to them, on scales that F16 holds.
Rounded in_half(Rounded rounded) {
  if (rounded.grid.scale.gt(kLargestScale).any().item<bool>()) throw DataError("a scale does not fit f16; choose a ct- format");
  const at::Tensor tiny = rounded.grid.scale.lt(kSmallestScale);
  if (!tiny.any().item<bool>()) return rounded;
  const std::int64_t rows = rounded.codes.size(0), groups = rounded.grid.scale.size(1);
  const at::Tensor zero = rounded.grid.zero.defined() ? rounded.grid.zero : at::zeros_like(rounded.grid.scale);
  const at::Tensor wide =
      at::round(rounded.values().view({rows, groups, -1}) / kSmallestScale).add(zero.unsqueeze(2)).clamp(-8, 7);
  rounded.codes = at::where(tiny.unsqueeze(2), wide, rounded.codes.view({rows, groups, -1})).view(rounded.codes.sizes());
  rounded.grid.scale = rounded.grid.scale.masked_fill(tiny, kSmallestScale);
  return rounded;
}

at::Tensor awq_words(const at::Tensor& codes) { return model::pack_awq(codes.to(at::kChar)).t().contiguous(); }

at::Tensor scales_of(const Rounded& rounded) { return rounded.grid.scale.t().to(at::kHalf).contiguous(); }

template <std::int64_t group, bool symmetric>
constexpr model::CompressedScheme kScheme = {model::CompressedFormat::packed, 4, group, symmetric};

std::string refusal(const model::ModelSpec& spec) {
  for (const model::TensorSpec& tensor : model::tensors_of(spec))
    if (tensor.role == model::TensorRole::linear && tensor.shape[0] % kPerWord != 0)
      return cat(tensor.name, " has ", tensor.shape[0], " rows, which words of ", kPerWord, " codes do not divide");
  return "";
}

// Routers are linears too, to tools that quantize every linear: each reader has its own way to be told that they are not.
LinearFormat gptq_of(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round) {
  LinearFormat format = gptq_format(schemes.all.group, round);
  if (spec.moe.experts > 0) format.config["dynamic"] = {{cat("-:.*\\.", spec.moe.block, "\\.gate$"), Json::object()}};
  return format;
}
LinearFormat awq_of(const model::ModelSpec& spec, const LinearSchemes& schemes, const RoundLinear& round) {
  LinearFormat format = awq_format(schemes.all.group, round);
  if (spec.moe.experts > 0) format.config["modules_to_not_convert"] = kept_plain(spec);
  return format;
}

template <auto format, std::int64_t group, bool symmetric, Quantizer quantizer>
constexpr Exporter exporter(std::string_view name, std::string_view summary) {
  Exporter made =
      quantized_exporter<format, refusal, LinearRounding{kScheme<group, symmetric>, quantizer}>(name, summary, kLoadsIn);
  if constexpr (!by_gptq(quantizer))
    made.served = [](const model::ModelSpec&, const model::TensorSpec& tensor, const at::Tensor& rows) {
      if (tensor.role != model::TensorRole::linear) return rows.to(at::kBFloat16).to(at::kFloat);
      return in_half(rounded_to_nearest(rows, kScheme<group, symmetric>)).values();
    };
  if constexpr (quantizer == Quantizer::awq)
    made.folds = [](Calibration& calibration) -> const Folds& { return calibration.folds(quantizer, kScheme<group, symmetric>); };
  return made;
}

template <std::int64_t group, Quantizer quantizer = Quantizer::nearest>
constexpr Exporter gptq(std::string_view name, std::string_view summary) {
  return exporter<gptq_of, group, true, quantizer>(name, summary);
}
template <std::int64_t group, Quantizer quantizer = Quantizer::nearest>
constexpr Exporter awq(std::string_view name, std::string_view summary) {
  return exporter<awq_of, group, false, quantizer>(name, summary);
}

constexpr Exporter kFormats[] = {
    gptq<32>("gptq-g32",
             "merged model as a Hugging Face directory, linears in int4 by groups of 32, rounded to nearest (GPTQ's layout)"),
    gptq<64>("gptq-g64",
             "merged model as a Hugging Face directory, linears in int4 by groups of 64, rounded to nearest (GPTQ's layout)"),
    gptq<128>("gptq-g128",
              "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded to nearest (GPTQ's layout)"),
    gptq<32, Quantizer::gptq>(
        "gptq-g32-gptq",
        "merged model as a Hugging Face directory, linears in int4 by groups of 32, rounded by GPTQ (GPTQ's layout)"),
    gptq<64, Quantizer::gptq>(
        "gptq-g64-gptq",
        "merged model as a Hugging Face directory, linears in int4 by groups of 64, rounded by GPTQ (GPTQ's layout)"),
    gptq<128, Quantizer::gptq>(
        "gptq-g128-gptq",
        "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded by GPTQ (GPTQ's layout)"),
    gptq<32, Quantizer::awq_gptq>("gptq-g32-awq-gptq",
                                  "merged model as a Hugging Face directory, linears in int4 by groups of 32, scaled by AWQ, "
                                  "rounded by GPTQ (GPTQ's layout)"),
    gptq<64, Quantizer::awq_gptq>("gptq-g64-awq-gptq",
                                  "merged model as a Hugging Face directory, linears in int4 by groups of 64, scaled by AWQ, "
                                  "rounded by GPTQ (GPTQ's layout)"),
    gptq<128, Quantizer::awq_gptq>("gptq-g128-awq-gptq",
                                   "merged model as a Hugging Face directory, linears in int4 by groups of 128, scaled by AWQ, "
                                   "rounded by GPTQ (GPTQ's layout)"),
    awq<32>("awq-g32",
            "merged model as a Hugging Face directory, linears in int4 by groups of 32, rounded to nearest (AWQ's layout)"),
    awq<64>("awq-g64",
            "merged model as a Hugging Face directory, linears in int4 by groups of 64, rounded to nearest (AWQ's layout)"),
    awq<128>("awq-g128",
             "merged model as a Hugging Face directory, linears in int4 by groups of 128, rounded to nearest (AWQ's layout)"),
    awq<32, Quantizer::awq>(
        "awq-g32-awq", "merged model as a Hugging Face directory, linears in int4 by groups of 32, scaled by AWQ (AWQ's layout)"),
    awq<64, Quantizer::awq>(
        "awq-g64-awq", "merged model as a Hugging Face directory, linears in int4 by groups of 64, scaled by AWQ (AWQ's layout)"),
    awq<128, Quantizer::awq>(
        "awq-g128-awq",
        "merged model as a Hugging Face directory, linears in int4 by groups of 128, scaled by AWQ (AWQ's layout)"),
    awq<32, Quantizer::awq_gptq>("awq-g32-awq-gptq",
                                 "merged model as a Hugging Face directory, linears in int4 by groups of 32, scaled by AWQ, "
                                 "rounded by GPTQ (AWQ's layout)"),
    awq<64, Quantizer::awq_gptq>("awq-g64-awq-gptq",
                                 "merged model as a Hugging Face directory, linears in int4 by groups of 64, scaled by AWQ, "
                                 "rounded by GPTQ (AWQ's layout)"),
    awq<128, Quantizer::awq_gptq>("awq-g128-awq-gptq",
                                  "merged model as a Hugging Face directory, linears in int4 by groups of 128, scaled by AWQ, "
                                  "rounded by GPTQ (AWQ's layout)"),
};

}  // namespace

LinearFormat gptq_format(std::int64_t group, const RoundLinear& round) {
  return {
      .stored_as = [group](const model::TensorSpec&) { return cat("GPTQ INT4 by ", group); },
      .config = {{"quant_method", "gptq"},
                 {"bits", 4},
                 {"group_size", group},
                 {"desc_act", false},
                 {"sym", true},
                 {"lm_head", false},
                 {"checkpoint_format", "gptq"}},
      .layout =
          [group](const model::TensorSpec& linear) {
            const std::int64_t out = linear.shape[0], in = linear.shape[1];
            const std::string module = model::module_of(linear.name);
            return std::vector<StoredTensor>{{module + ".qweight", DType::i32, {in / kPerWord, out}},
                                             {module + ".qzeros", DType::i32, {in / group, out / kPerWord}},
                                             {module + ".g_idx", DType::i32, {in}},
                                             {module + ".scales", DType::f16, {in / group, out}}};
          },
      .encode =
          [group, round](const model::TensorSpec& linear, const at::Tensor& weight) {
            const Rounded rounded = in_half(round(linear, weight));
            const std::int64_t out = weight.size(0), in = weight.size(1);
            const at::Tensor seven = at::full({in / group, out}, -1, at::kChar);  // zero point 8, stored less one
            return EncodedLinear{{model::pack_codes(rounded.codes.to(at::kChar), 4).t().contiguous(), model::pack_codes(seven, 4),
                                  at::floor_divide(at::arange(in, at::kInt), group), scales_of(rounded)},
                                 [rounded] { return rounded.values(); }};
          },
      .rows_along = [](const model::TensorSpec&) { return std::optional(1); },
  };
}

LinearFormat awq_format(std::int64_t group, const RoundLinear& round) {
  return {
      .stored_as = [group](const model::TensorSpec&) { return cat("AWQ INT4 by ", group); },
      .config = {{"quant_method", "awq"},
                 {"bits", 4},
                 {"group_size", group},
                 {"zero_point", true},
                 {"version", "gemm"},
                 {"modules_to_not_convert", Json()}},
      .layout =
          [group](const model::TensorSpec& linear) {
            const std::int64_t out = linear.shape[0], in = linear.shape[1];
            const std::string module = model::module_of(linear.name);
            return std::vector<StoredTensor>{{module + ".qweight", DType::i32, {in, out / kPerWord}},
                                             {module + ".qzeros", DType::i32, {in / group, out / kPerWord}},
                                             {module + ".scales", DType::f16, {in / group, out}}};
          },
      .encode =
          [round](const model::TensorSpec& linear, const at::Tensor& weight) {
            const Rounded rounded = in_half(round(linear, weight));
            return EncodedLinear{{awq_words(rounded.codes), awq_words(rounded.grid.zero), scales_of(rounded)},
                                 [rounded] { return rounded.values(); }};
          },
      .rows_along = [](const model::TensorSpec&) { return std::optional(1); },
  };
}

extern const FormatFamily int4;
const FormatFamily int4 = kFormats;

}  // namespace graft::exports
