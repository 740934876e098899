// int4 in the layouts of GPTQ and AWQ (model/layouts/gptq.cpp, awq.cpp), from codes of any rounding: to the nearest point, or by
// calibration. Scales are F16 there, as their first tools write them; values that bf16 holds, so that a server that computes in
// bf16 reads the same numbers. A scale below 2^-17 is not exact in F16: the group gets the scale 2^-17.
#pragma once

#include "export/calibration.h"
#include "export/quantize/rounding.h"
#include "export/quantized_model.h"

namespace graft::exports {

model::CompressedScheme gptq_scheme(std::int64_t group);  // symmetric
model::CompressedScheme awq_scheme(std::int64_t group);   // with zero points

LinearFormat gptq_format(std::int64_t group, const RoundLinear& round);
LinearFormat awq_format(std::int64_t group, const RoundLinear& round);

// Groups that do not divide the rows, or rows that words of 8 codes do not divide.
std::string int4_refusal(const model::ModelSpec& spec, std::int64_t group);

struct Int4Target {
  bool awq = false;  // the layout; else GPTQ's
  std::int64_t group = 128;
  Quantizer quantizer = Quantizer::nearest;
};

void write_int4_model(const ExportRequest& request, const Int4Target& target, const std::filesystem::path& directory);
double verify_int4_model(const ExportRequest& request, const Int4Target& target, const std::filesystem::path& written);

// What export/formats/gptq_*.cpp and awq_*.cpp define.
template <Int4Target target>
constexpr Exporter int4_exporter(std::string_view name, std::string_view summary) {
  return {
      .name = name,
      .summary = summary,
      .loads_in = "vLLM, SGLang, transformers with GPTQModel",
      .extension = "",
      .merges = true,
      .quantizes = true,
      .calibrates = target.quantizer != Quantizer::nearest,
      .refusal = [](const model::ModelSpec& spec, const lora::LoraConfig&) { return int4_refusal(spec, target.group); },
      .write = [](const ExportRequest& request,
                  const std::filesystem::path& directory) { write_int4_model(request, target, directory); },
      .verify = [](const ExportRequest& request,
                   const std::filesystem::path& written) { return verify_int4_model(request, target, written); },
  };
}

}  // namespace graft::exports
