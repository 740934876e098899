#include "export/hf_model.h"

#include <ATen/ATen.h>

#include <array>
#include <cstdio>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "core/progress.h"
#include "core/safetensors.h"
#include "core/stop.h"
#include "export/verify.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

std::uint64_t bf16_bytes(const model::TensorSpec& tensor) {
  return static_cast<std::uint64_t>(
      std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{2}, std::multiplies<>()));
}

// Consecutive tensors, each shard within the limit; a tensor above it has a shard of its own.
std::vector<std::vector<model::TensorSpec>> split(const std::vector<model::TensorSpec>& tensors, std::uint64_t max_shard_bytes) {
  std::vector<std::vector<model::TensorSpec>> shards(1);
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : tensors) {
    if (!shards.back().empty() && bytes + bf16_bytes(tensor) > max_shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += bf16_bytes(tensor);
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 48> name;
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name.data();
}

}  // namespace

void write_hf_weights(const MergedModel& source, const fs::path& target, std::uint64_t max_shard_bytes) {
  const auto shards = split(source.tensors(), max_shard_bytes);
  Progress progress("write safetensors", source.tensors().size(), "tensors");
  Json map = Json::object();
  std::uint64_t total = 0, done = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    SafetensorsWriter writer(target / name);
    for (const model::TensorSpec& tensor : shards[i]) writer.tensor(tensor.name, DType::bf16, tensor.shape);
    for (const model::TensorSpec& tensor : shards[i]) {
      throw_if_stopped();
      const at::Tensor values = source.load(tensor.name).to(at::kBFloat16).contiguous();
      writer.data(tensor.name, values.const_data_ptr(), values.nbytes());
      map[tensor.name] = name;
      total += bf16_bytes(tensor);
      progress.update(++done);
    }
    writer.commit();
  }
  if (shards.size() > 1)
    write_file(target / "model.safetensors.index.json",
               Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n");
}

double verify_hf_model(const MergedModel& source, const fs::path& written) {
  return verify_model(source, *model::open_weights(written));
}

}  // namespace graft::exports
