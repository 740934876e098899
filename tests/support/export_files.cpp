// export_files BASE ADAPTER DIRECTORY FORMAT...: writes the formats of an adapter (a PEFT directory) on a base, and prints what
// was written as JSON. With ADAPTER "-", an adapter of rank 4 on every projection, drawn from a fixed seed, is made and used.
// Formats that look at documents are calibrated with 8 rows of 512 tokens of the corpus that GRAFT_CORPUS names. The program's
// side of the comparisons in tests/peers and tests/engines; not installed.
#include <ATen/ATen.h>

#include <cstdlib>
#include <iostream>
#include <optional>

#include "core/error.h"
#include "export/calibration.h"
#include "export/exporter.h"
#include "model/tensors.h"

namespace {

using namespace graft;

std::unique_ptr<lora::AdapterSet> random_adapter(const model::WeightSource& base) {
  constexpr std::string_view suffix = "_proj.weight";
  lora::LoraConfig config;
  config.rank = 4;
  config.alpha = 8;
  std::vector<lora::AdapterShape> shapes;
  for (const model::TensorSpec& tensor : model::tensors_of(base.spec()))
    if (tensor.name.ends_with(suffix) && tensor.expert < 0)
      shapes.push_back({tensor.name.substr(0, tensor.name.size() - 7), tensor.shape[1], tensor.shape[0]});
  auto set = lora::allocate(config, shapes, false);
  at::manual_seed(1);
  set->parameters.copy_(at::randint(-8, 9, set->parameters.sizes()).to(at::kFloat) / 64);  // products are exact in f32
  return set;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) throw UserError("usage: export_files BASE ADAPTER DIRECTORY FORMAT...");
  const auto base = model::open_weights(argv[1]);
  const auto adapter = std::string(argv[2]) == "-" ? random_adapter(*base) : lora::load_peft(argv[2]);
  exports::ExportRequest request = {*base, *adapter, at::kBFloat16, "Tiny", ""};
  std::optional<exports::Calibration> calibration;
  if (const char* corpus = std::getenv("GRAFT_CORPUS"))
    request.calibration = &calibration.emplace(exports::MergedModel(*base, adapter.get(), request.storage),
                                               exports::CalibrationRows{corpus, {}, {}, 8, 512}, at::kFloat);
  Json written = Json::array();
  for (const exports::Artifact& artifact : exports::export_all({argv + 4, argv + argc}, request, argv[3]))
    written.push_back(artifact.json());
  std::cout << written.dump(2) << "\n";
  return kDone;
} catch (const graft::Error& error) {
  std::cerr << "export_files: " << error.what() << "\n";
  return error.exit_code();
}
