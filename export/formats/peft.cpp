// The adapter as PEFT writes it (docs/formats.md).
#include <ATen/ATen.h>

#include "core/error.h"
#include "export/exporter.h"

namespace graft::exports {
namespace {

// Values are stored in f32: nothing may differ.
double verify(const ExportRequest& request, const std::filesystem::path& written, const Fingerprints&) {
  const auto reopened = lora::load_peft(written);
  if (reopened->adapters.size() != request.adapter.adapters.size())
    throw FormatError(cat(written.string(), ": reopened, it has ", reopened->adapters.size(),
                          " adapted modules where the source has ", request.adapter.adapters.size()));
  for (const auto& source : request.adapter.adapters) {
    const lora::Adapter* found = reopened->find(source->module);
    if (!found) throw FormatError(cat(written.string(), ": module ", source->module, " is missing"));
    if (found->low_rank.scale != source->low_rank.scale)
      throw FormatError(cat(written.string(), ": module ", source->module, " has scale ", found->low_rank.scale,
                            " where the source has ", source->low_rank.scale));
    if (!at::equal(found->low_rank.a, source->low_rank.a) || !at::equal(found->low_rank.b, source->low_rank.b))
      throw FormatError(cat(written.string(), ": the values of module ", source->module, " read back differently"));
  }
  return 0;
}

constexpr Exporter kFormats[] = {{
    .name = "peft",
    .summary = "the adapter alone as a PEFT directory",
    .loads_in = "vLLM, peft, TensorRT-LLM, SGLang",
    .extension = "",
    .merges = false,
    .refusal = [](const model::ModelSpec&, const lora::LoraConfig&) { return std::string(); },
    .write = [](const ExportRequest& request, const std::filesystem::path& target,
                Fingerprints&) { lora::save_peft(request.adapter, target, request.base.path().string()); },
    .verify = verify,
}};

}  // namespace

extern const FormatFamily peft;
const FormatFamily peft = kFormats;

}  // namespace graft::exports
