// The adapter as a GGUF LoRA (docs/formats.md; llama.cpp convert_lora_to_gguf.py, src/llama-adapter.cpp).
//
//   <weight>.lora_a (r, in) f32    <weight>.lora_b (out, r) f32, rows in the base tensor's order
//   llama.cpp scales by adapter.lora.alpha / r; it knows no rsLoRA, so alpha is written such that this is the trained scale
#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/gguf.h"
#include "export/exporter.h"
#include "export/gguf_metadata.h"
#include "export/gguf_model.h"
#include "lora/targets.h"
#include "model/rotary_rows.h"
#include "model/tensors.h"

namespace graft::exports {
namespace {

struct Placed {
  std::string name;  // of the base tensor in GGUF
  at::Tensor a, b;
};

std::vector<Placed> place(const ExportRequest& request) {
  lora::check_base(request.adapter, request.base);
  const model::ModelSpec& spec = request.base.spec();
  const auto tensors = model::tensors_of(spec);
  const bool interleave = interleaves_rotary_rows(spec);
  std::vector<Placed> placed;
  for (const auto& adapter : request.adapter.adapters) {
    const auto tensor = std::find_if(tensors.begin(), tensors.end(),
                                     [&](const model::TensorSpec& t) { return t.name == adapter->module + ".weight"; });
    if (tensor == tensors.end() || tensor->expert >= 0)
      throw UnsupportedError(cat("a GGUF LoRA has no place for the adapter of ", adapter->module));
    at::Tensor b = adapter->low_rank.b;
    if (interleave && tensor->rotary_heads > 0) b = model::interleaved_rows(b, tensor->rotary_heads);
    placed.push_back({tensor->gguf, adapter->low_rank.a.contiguous(), b.contiguous()});
  }
  return placed;
}

float written_alpha(const lora::LoraConfig& config) {
  return static_cast<float>(config.scale() * static_cast<double>(config.rank));
}

void write(const ExportRequest& request, const std::filesystem::path& target, Fingerprints&) {
  const std::vector<Placed> placed = place(request);
  GgufWriter writer(target);
  writer.string("general.architecture", request.base.is_gguf() ? GgufFile(request.base.path()).string("general.architecture")
                                                               : gguf_architecture(request.base.spec()));
  writer.string("general.type", "adapter");
  writer.string("adapter.type", "lora");
  writer.string("general.name", request.name);
  writer.f32("adapter.lora.alpha", written_alpha(request.adapter.config));
  writer.u32("general.quantization_version", 2);
  const auto each = [&](const auto& visit) {
    for (const Placed& pair : placed) {
      visit(pair.name + ".lora_a", pair.a);
      visit(pair.name + ".lora_b", pair.b);
    }
  };
  each([&](const std::string& name, const at::Tensor& t) { writer.tensor(name, t.sizes().vec(), GgmlType::f32); });
  each([&](const std::string& name, const at::Tensor& t) { writer.data(name, t.const_data_ptr(), t.nbytes()); });
  writer.commit();
}

double verify(const ExportRequest& request, const std::filesystem::path& written, const Fingerprints&) {
  const GgufFile file(written);
  const std::vector<Placed> placed = place(request);
  if (file.tensors().size() != 2 * placed.size())
    throw FormatError(cat(written.string(), ": reopened, it has ", file.tensors().size(), " tensors where ", 2 * placed.size(),
                          " were written"));
  const auto same = [&](const std::string& name, const at::Tensor& source) {
    const GgufTensor* tensor = file.find(name);
    if (!tensor || tensor->shape != source.sizes().vec())
      throw FormatError(cat(written.string(), ": tensor ", name, " is missing or of another shape"));
    const auto bytes = file.data(*tensor);
    if (bytes.size() != source.nbytes() ||
        !std::equal(bytes.begin(), bytes.end(), static_cast<const std::byte*>(source.const_data_ptr())))
      throw FormatError(cat(written.string(), ": the values of tensor ", name, " read back differently"));
  };
  for (const Placed& pair : placed) {
    same(pair.name + ".lora_a", pair.a);
    same(pair.name + ".lora_b", pair.b);
  }
  if (file.number("adapter.lora.alpha") != static_cast<double>(written_alpha(request.adapter.config)))
    throw FormatError(cat(written.string(), ": adapter.lora.alpha reads back as ", file.number("adapter.lora.alpha")));
  return 0;
}

std::string refusal(const model::ModelSpec& spec, const lora::LoraConfig& config) {
  if (std::string reason = gguf_refusal(spec); !reason.empty()) return reason;
  const bool head = std::any_of(config.target_modules.begin(), config.target_modules.end(),
                                [](const std::string& target) { return target == "lm_head" || target.ends_with(".lm_head"); });
  if (head && spec.tied_head)
    return "the head is tied to the embedding, so that GGUF has no output tensor for the adapter of lm_head; remove lm_head from "
           "lora.target_modules or export a merged format";
  const std::vector<model::LinearSpec> linears = model::linears_of(spec);
  const bool experts = std::any_of(linears.begin(), linears.end(), [&](const model::LinearSpec& linear) {
    return linear.expert >= 0 && lora::is_target(config, linear.module);
  });
  if (experts)
    return "adapters of single experts have no place in a GGUF LoRA; choose attention modules in lora.target_modules or export a "
           "merged format";
  return "";
}

constexpr Exporter kFormats[] = {{
    .name = "gguf-lora",
    .summary = "the adapter alone as a GGUF LoRA",
    .loads_in = "llama.cpp (--lora), Ollama (ADAPTER)",
    .extension = ".gguf",
    .merges = false,
    .refusal = refusal,
    .write = write,
    .verify = verify,
}};

}  // namespace

extern const FormatFamily gguf_lora;
const FormatFamily gguf_lora = kFormats;

}  // namespace graft::exports
