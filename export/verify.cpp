#include "export/verify.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/progress.h"
#include "core/stop.h"
#include "export/quantize/ggml.h"

namespace graft::exports {
namespace {

constexpr double kHalfUlpBf16 = 0x1p-8, kHalfUlpF16 = 0x1p-11, kHalfSubnormalF16 = 0x1p-25, kHalfSubnormalBf16 = 0x1p-134;
constexpr std::int64_t kBlock = 32;
// The rounding of the decoded product or sum itself, in f32.
constexpr double kDecoding = 1 + 0x1p-20;

void same_number(const model::WeightSource& written, const char* what, double found, double expected) {
  // GGUF keeps real numbers as f32.
  if (found == expected || static_cast<float>(found) == static_cast<float>(expected)) return;
  throw FormatError(cat(written.path().string(), ": reopened, the model's ", what, " is ", found, " where the base has ",
                        expected, "; the file is not usable"));
}

void compare_specs(const model::ModelSpec& source, const model::WeightSource& written) {
  const model::ModelSpec& spec = written.spec();
  same_number(written, "number of layers", spec.layers.size(), source.layers.size());
  same_number(written, "vocabulary", spec.vocab, source.vocab);
  same_number(written, "hidden size", spec.hidden, source.hidden);
  same_number(written, "MLP size", spec.ffn, source.ffn);
  same_number(written, "number of heads", spec.heads, source.heads);
  same_number(written, "number of key and value heads", spec.kv_heads, source.kv_heads);
  same_number(written, "head size", spec.head_dim, source.head_dim);
  same_number(written, "rotated dimensions", spec.rope.dims, source.rope.dims);
  same_number(written, "rope theta", spec.rope.theta, source.rope.theta);
  same_number(written, "norm epsilon", spec.norm_eps, source.norm_eps);
  same_number(written, "attention scale", spec.attention_scale, source.attention_scale);
  same_number(written, "soft cap of attention", spec.attention_softcap, source.attention_softcap);
  same_number(written, "soft cap of the logits", spec.final_softcap, source.final_softcap);
  same_number(written, "number of experts", spec.moe.experts, source.moe.experts);
  same_number(written, "head tying", spec.tied_head, source.tied_head);
}

// f16 holds a scale or minimum within this.
at::Tensor half_error(const at::Tensor& d) { return d.abs() * kHalfUlpF16 + kHalfSubnormalF16; }
// What `codes` times a scale in f16 may be off by; x/d itself is computed within 3 roundings of f32.
at::Tensor codes_error(const at::Tensor& step, double codes) { return codes * (half_error(step) + step * 0x1p-22); }

// Per block of 32 (a row of `blocks`); undefined for a type with other blocks.
at::Tensor block_bound(const std::string& type, const at::Tensor& blocks) {
  if (type == "Q8_0") {
    const at::Tensor step = blocks.abs().amax(1, true) / 127;
    return step / 2 + codes_error(step, 127);
  }
  if (type == "Q4_0" || type == "Q5_0") {
    const double codes = type == "Q4_0" ? 8 : 16;
    const at::Tensor largest = blocks.gather(1, blocks.abs().argmax(1, true)), step = largest.abs() / codes;
    const at::Tensor beyond = -blocks * largest.sgn() - (codes - 1) * step;  // on the side of the shorter range
    return at::maximum(step / 2, beyond) + codes_error(step, codes);
  }
  if (type == "Q4_1" || type == "Q5_1") {
    const double codes = type == "Q4_1" ? 15 : 31;
    const at::Tensor low = blocks.amin(1, true), step = (blocks.amax(1, true) - low) / codes;
    // The sum of two products: relative to them, not to what is left of it.
    return step / 2 + codes_error(step, codes) + half_error(low) + (low.abs() + codes * step) * 0x1p-22;
  }
  return {};
}

// What must be read back: the source, or what the quantizers that search make of it.
at::Tensor searched_values(const std::string& stored_as, const at::Tensor& source) {
  if (stored_as == "Q4_K") return quantized(source, GgmlType::q4_k);
  if (stored_as == "Q5_K") return quantized(source, GgmlType::q5_k);
  if (stored_as == "Q6_K") return quantized(source, GgmlType::q6_k);
  return {};
}

double compare_tensor(const std::string& name, const std::string& stored_as, const at::Tensor& source, const at::Tensor& written,
                      const at::Tensor& exact, const std::string& file) {
  const at::Tensor difference = (written - source).abs();
  const at::Tensor good =
      exact.defined() ? written.eq(exact).logical_and(exact.isfinite()) : difference.le(rounding_bound(stored_as, source));
  const at::Tensor outside = good.logical_not();  // true for NaN too
  if (outside.any().item<bool>()) {
    const std::int64_t at = outside.flatten().nonzero()[0].item<std::int64_t>();
    throw FormatError(cat(file, ": tensor ", name, " (", stored_as, ") reads back as ", written.flatten()[at].item<float>(),
                          " at element ", at, " where the source has ", source.flatten()[at].item<float>(),
                          !std::isfinite(written.flatten()[at].item<float>())
                              ? "; the value does not fit f16, choose a bf16 format"
                              : "; that is more than rounding"));
  }
  const double largest = source.abs().max().item<double>();
  return largest > 0 ? difference.max().item<double>() / largest : 0;
}

}  // namespace

at::Tensor rounding_bound(const std::string& stored_as, const at::Tensor& x) {
  const at::Tensor size = x.abs();
  if (stored_as == "F32") return at::zeros_like(size);
  if (stored_as == "BF16") return at::clamp_min(size * kHalfUlpBf16, kHalfSubnormalBf16);
  if (stored_as == "F16") return at::clamp_min(size * kHalfUlpF16, kHalfSubnormalF16);
  if (stored_as == "Q8_0" || stored_as.starts_with("Q4_") || stored_as.starts_with("Q5_")) {
    const at::Tensor blocks = x.reshape({-1, kBlock});
    if (const at::Tensor bound = block_bound(stored_as, blocks); bound.defined())
      return (bound * kDecoding).expand_as(blocks).reshape(x.sizes());
  }
  throw UnsupportedError(cat("no rounding bound is known for tensors stored as ", stored_as));
}

double verify_model(const MergedModel& source, const model::WeightSource& written, const ExpectedValues& expected) {
  const std::string file = written.path().string();
  compare_specs(source.spec(), written);
  if (written.weights().size() != source.tensors().size())
    throw FormatError(
        cat(file, ": reopened, it has ", written.weights().size(), " tensors where the source has ", source.tensors().size()));
  Progress progress("verify", source.tensors().size(), "tensors");
  double worst = 0;
  std::uint64_t done = 0;
  for (const model::TensorSpec& tensor : source.tensors()) {
    throw_if_stopped();
    const auto stored = std::find_if(written.weights().begin(), written.weights().end(),
                                     [&](const model::WeightInfo& other) { return other.name == tensor.name; });
    if (stored == written.weights().end()) throw FormatError(cat(file, ": tensor ", tensor.name, " is missing"));
    if (stored->shape != tensor.shape)
      throw FormatError(cat(file, ": tensor ", tensor.name, " has shape ", at::IntArrayRef(stored->shape),
                            " where the source has ", at::IntArrayRef(tensor.shape)));
    const at::Tensor values = source.load(tensor.name);
    at::Tensor exact = expected ? expected(tensor, stored->stored_as, values) : at::Tensor();
    if (!exact.defined()) exact = searched_values(stored->stored_as, values);
    worst = std::max(worst,
                     compare_tensor(tensor.name, stored->stored_as, values, written.load(tensor.name, at::kFloat), exact, file));
    progress.update(++done);
  }
  return worst;
}

}  // namespace graft::exports
