// What a format says that a reader will get is what a reader gets.
#include "export/merge.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using namespace graft::testing;

namespace {

// Adapters on linears of both layers, rows of 32 and of 256, the latter for formats with blocks of 256.
struct Case {
  ScratchDirectory directory;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;

  Case() {
    write_tiny_base(directory / "base", {.ffn = 256});
    base = model::open_weights(directory / "base");
    adapter = lora::allocate({},
                             {{"model.layers.0.self_attn.q_proj", 32, 32},
                              {"model.layers.0.mlp.down_proj", 256, 32},
                              {"model.layers.1.mlp.down_proj", 256, 32},
                              {"model.layers.1.mlp.up_proj", 32, 256}},
                             false);
    adapter->parameters.copy_(testing::random(adapter->parameters.sizes(), 1, at::kFloat, 0.05));
  }
};

}  // namespace

TEST_CASE("the rows that a quantized format says it serves are those of its file", "[export][merge_aware]") {
  const Case c;
  std::size_t formats = 0;
  for (const at::ScalarType storage : {at::kBFloat16, at::kFloat})
    for (const exports::Exporter* exporter : exports::all_formats()) {
      if (exporter->served == nullptr || exporter->folds != nullptr) continue;  // the latter: calibration_test.cpp
      if (!exporter->refusal(c.base->spec(), c.adapter->config).empty()) continue;
      INFO(exporter->name);
      ++formats;
      const exports::ExportRequest request = {*c.base, *c.adapter, storage, "Tiny", ""};
      const exports::Artifact artifact = exports::export_one(*exporter, request, c.directory.path()).value();
      const auto written = model::open_weights(artifact.path);
      const exports::MergedModel merged(*c.base, c.adapter.get(), storage);
      bool changed = false;
      for (const model::TensorSpec& tensor : merged.tensors()) {
        if (tensor.shape.size() != 2) continue;
        INFO(tensor.name);
        const at::Tensor values = merged.load(tensor.name), read = written->load(tensor.name, at::kFloat);
        CHECK(at::equal(exporter->served(c.base->spec(), tensor, values), read));
        for (std::int64_t row = 0; row < values.size(0); row += 128) {  // whatever rows it is asked for
          const std::int64_t rows = std::min<std::int64_t>(128, values.size(0) - row);
          CHECK(at::equal(exporter->served(c.base->spec(), tensor, values.narrow(0, row, rows)), read.narrow(0, row, rows)));
        }
        changed = changed || !at::equal(values, read);
      }
      CHECK((changed || !exporter->quantizes));
      std::filesystem::remove_all(artifact.path);
    }
  CHECK(formats >= 2 * 17);
}
