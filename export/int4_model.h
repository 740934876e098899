// int4 in the layouts of GPTQ and AWQ (model/layouts/gptq.cpp, awq.cpp), from codes of any rounding: to the nearest point, or by
// calibration. Scales are F16 there, as their first tools write them; values that bf16 holds, so that a server that computes in
// bf16 reads the same numbers. A scale below 2^-17 is not exact in F16: the group gets the scale 2^-17.
#pragma once

#include "export/quantize/rounding.h"
#include "export/quantized_model.h"

namespace graft::exports {

model::CompressedScheme gptq_scheme(std::int64_t group);  // symmetric
model::CompressedScheme awq_scheme(std::int64_t group);   // with zero points

LinearFormat gptq_format(std::int64_t group, const RoundLinear& round);
LinearFormat awq_format(std::int64_t group, const RoundLinear& round);

// Groups that do not divide the rows, or rows that words of 8 codes do not divide.
std::string int4_refusal(const model::ModelSpec& spec, std::int64_t group);

namespace int4 {

template <std::int64_t group>
LinearFormat gptq(const model::ModelSpec&) {
  return gptq_format(group, to_nearest(gptq_scheme(group)));
}
template <std::int64_t group>
LinearFormat awq(const model::ModelSpec&) {
  return awq_format(group, to_nearest(awq_scheme(group)));
}
template <std::int64_t group>
std::string refusal(const model::ModelSpec& spec) {
  return int4_refusal(spec, group);
}

inline constexpr std::string_view kServers = "vLLM, SGLang, transformers with GPTQModel";

}  // namespace int4

// What export/formats/gptq_*.cpp and awq_*.cpp define.
template <std::int64_t group>
constexpr Exporter gptq_exporter(std::string_view name, std::string_view summary) {
  return quantized_exporter<int4::gptq<group>, int4::refusal<group>>(name, summary, int4::kServers);
}
template <std::int64_t group>
constexpr Exporter awq_exporter(std::string_view name, std::string_view summary) {
  return quantized_exporter<int4::awq<group>, int4::refusal<group>>(name, summary, int4::kServers);
}

}  // namespace graft::exports
