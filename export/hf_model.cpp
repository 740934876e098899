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
#include "export/behind.h"
#include "export/verify.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

std::uint64_t bytes_of(const StoredTensor& tensor) {
  return static_cast<std::uint64_t>(std::accumulate(tensor.shape.begin(), tensor.shape.end(),
                                                    static_cast<std::int64_t>(size_of(tensor.type)), std::multiplies<>()));
}

struct Planned {
  model::TensorSpec tensor;
  std::vector<StoredTensor> parts;
};

// Consecutive tensors, each shard within the limit; a tensor above it has a shard of its own.
std::vector<std::vector<Planned>> split(const std::vector<model::TensorSpec>& tensors, const Encoding& encoding,
                                        std::uint64_t max_shard_bytes) {
  std::vector<std::vector<Planned>> shards(1);
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : tensors) {
    Planned planned = {tensor, encoding.layout(tensor)};
    std::uint64_t size = 0;
    for (const StoredTensor& part : planned.parts) size += bytes_of(part);
    if (!shards.back().empty() && bytes + size > max_shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(std::move(planned));
    bytes += size;
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

Encoding bf16_encoding() {
  return {[](const model::TensorSpec& tensor) {
            return std::vector<StoredTensor>{{tensor.name, DType::bf16, tensor.shape}};
          },
          [](const model::TensorSpec&, const at::Tensor& values) {
            return std::vector<at::Tensor>{values.to(at::kBFloat16).contiguous()};
          }};
}

void write_hf_weights(const MergedModel& source, const Encoding& encoding, const fs::path& target,
                      std::uint64_t max_shard_bytes) {
  const auto shards = split(source.tensors(), encoding, max_shard_bytes);
  Progress progress("write safetensors", source.tensors().size(), "tensors");
  Json map = Json::object();
  std::uint64_t total = 0, done = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    SafetensorsWriter writer(target / name);
    for (const Planned& planned : shards[i])
      for (const StoredTensor& part : planned.parts) writer.tensor(part.name, part.type, part.shape);
    Behind behind;
    for (const Planned& planned : shards[i]) {
      throw_if_stopped();
      const auto append = [&](const at::Tensor& values) {
        std::vector<at::Tensor> encoded = encoding.encode(planned.tensor, values);
        behind.run([&writer, &planned, encoded = std::move(encoded)] {
          for (std::size_t k = 0; k < encoded.size(); ++k)
            writer.data(planned.parts[k].name, encoded[k].const_data_ptr(), encoded[k].nbytes());
        });
      };
      if (planned.parts.size() == 1)
        source.visit_rows(planned.tensor, [&](std::int64_t, const at::Tensor& rows) { append(rows); });
      else
        append(source.load(planned.tensor.name));
      for (const StoredTensor& part : planned.parts) {
        map[part.name] = name;
        total += bytes_of(part);
      }
      progress.update(++done);
    }
    behind.wait();
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
