// The merged model without a file is what the format hf writes; a base is written by every format as with an adapter of zeros.
#include "export/merged_weights.h"

#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/golden_paths.h"
#include "tests/support/tensors.h"

using namespace graft;
using namespace graft::testing;

namespace {

// Every value and the logits.
void check_is_hf(const exports::ExportRequest& request, const fs::path& directory) {
  const auto written = model::open_weights(write("hf", request, directory).path);
  const exports::MergedWeights merged(request.base, request.adapter, request.storage);
  REQUIRE(merged.weights().size() == written->weights().size());
  for (const model::WeightInfo& weight : written->weights()) {
    INFO(weight.name);
    REQUIRE(merged.has(weight.name));
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      CHECK(same_bits(merged.load(weight.name, type), written->load(weight.name, type)));
  }
  CHECK(!merged.has("model.layers.99.mlp.up_proj.weight"));
  CHECK(merged.identity() != request.base.identity());

  const auto tokens = at::arange(3, 15, at::kLong);
  const model::Packed batch{tokens, at::arange(12), {0, 12}};
  CHECK(same_bits(model::Decoder::load(merged, at::kFloat, at::kFloat)->logits(batch),
                  model::Decoder::load(*written, at::kFloat, at::kFloat)->logits(batch)));
}

}  // namespace

TEST_CASE("the merged model in memory is the one that hf writes", "[export][merged]") {
  for (const char* family : {"llama", "gemma2", "phi3", "mixtral"})
    for (const at::ScalarType storage : {at::kBFloat16, at::kFloat}) {
      INFO(family << ", " << storage);
      const ScratchDirectory scratch;
      const auto base = model::open_weights(golden_model(family));
      const auto adapter = lora::load_peft(golden_model(family) / "adapter");
      check_is_hf({*base, *adapter, storage, "Tiny", ""}, scratch.path());
    }
}

TEST_CASE("the merged model of a base that is quantized itself", "[export][merged]") {
  const ScratchDirectory scratch;
  const AnyFormat any(scratch / "base");
  for (const char* format : {"gguf-q4_0", "ct-w8a8"}) {
    INFO(format);
    const auto base = model::open_weights(write(format, any.request(), scratch.path()).path);
    exports::ExportRequest request{*base, *any.adapter, at::kBFloat16, "Tiny", ""};
    check_is_hf(request, scratch.path());
    // Inputs are rounded where the base is served, not where the merged model is.
    CHECK(exports::MergedWeights(*base, *any.adapter, at::kBFloat16).inputs() == kernels::RowRounding::none);
  }
}

TEST_CASE("without adapters a format holds the base, as with adapters of zeros", "[export][merged]") {
  const ScratchDirectory scratch;
  const AnyFormat any(scratch / "base");
  any.adapter->parameters.zero_();
  const lora::AdapterSet nothing{};
  std::size_t formats = 0;
  for (const std::string& name : any.formats()) {
    const exports::Exporter& exporter = exports::find_exporter(name);
    if (!exporter.merges) continue;
    INFO(name);
    ++formats;
    std::map<std::string, std::string> files[2];
    for (const bool zeros : {true, false}) {
      exports::ExportRequest request{*any.base, zeros ? *any.adapter : nothing, at::kBFloat16, "Tiny", ""};
      const fs::path target = scratch / exports::artifact_name(exporter);
      if (exporter.extension.empty()) fs::create_directories(target);
      exports::Fingerprints made;
      exporter.write(request, target, made);
      exports::Artifact artifact;
      exports::measure(target, artifact);
      for (const auto& file : artifact.files) files[zeros][file.name] = file.sha256;
      fs::remove_all(target);
    }
    CHECK(!files[0].empty());
    CHECK(files[0] == files[1]);
  }
  CHECK(formats > 20);
}
