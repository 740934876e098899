#include "model/linear_layout.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"

namespace graft::model {
namespace {

constexpr const char* kKey = "quantization_config";

}  // namespace

std::unique_ptr<LinearLayout> read_layout(const Json& config, const std::string& file) {
  const auto at = config.is_object() ? config.find(kKey) : config.end();
  if (at == config.end() || at->is_null()) return nullptr;
  const std::string origin = cat(file, ": ", kKey);
  if (!at->is_object()) throw FormatError(origin + " is not an object");
  const std::string method = text_or_empty(*at, "quant_method");
  std::string known;
  for (const LayoutReader* layout : all_layouts()) {
    if (layout->method == method) return layout->read(*at, origin);
    known += cat(known.empty() ? "" : ", ", layout->method);
  }
  throw UnsupportedError(cat(origin, ": quant_method is ", quote(method), "; graft reads ", known));
}

Json without_quantization(const Json& config) {
  Json plain = config;
  if (plain.is_object()) plain.erase(kKey);
  return plain;
}

LayoutPart input_scale_part(const TensorSpec& linear) {
  return {.name = module_of(linear.name) + ".input_scale",
          .types = {DType::f32, DType::bf16, DType::f16},
          .shape = {1},
          .checked = true};
}

float input_scale_of(const at::Tensor& part) {
  const auto scale = part.to(at::kFloat).item<float>();
  if (!std::isfinite(scale) || scale <= 0) throw FormatError(cat("input_scale is ", scale, "; it must be a positive number"));
  return scale;
}

std::string text_or_empty(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

at::ScalarType scalar_type(DType type) {
  switch (type) {
    case DType::f64:
      return at::kDouble;
    case DType::f32:
      return at::kFloat;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
    case DType::f8_e4m3:
      return at::kFloat8_e4m3fn;
    case DType::i64:
      return at::kLong;
    case DType::i32:
      return at::kInt;
    case DType::i8:
      return at::kChar;
    case DType::u8:
      return at::kByte;
    default:
      throw UnsupportedError(cat("tensors of ", name_of(type), " are not read"));
  }
}

}  // namespace graft::model
