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
#include "export/pieces.h"
#include "export/quantize/halves.h"
#include "export/verify.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPlacedBytes = 8 << 20;

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

// The parts of a tensor on their way into the file, `first` being their index there.
class Placing {
 public:
  Placing(const MergedModel& source, const Encoding& encoding, const Planned& planned, SafetensorsWriter& writer,
          std::size_t first)
      : source_(source), encoding_(encoding), planned_(planned), writer_(writer), first_(first) {}

  void run() {
    const model::TensorSpec& tensor = planned_.tensor;
    encoding_.prepare(tensor);
    const std::optional<int> along = encoding_.rows_along(tensor);
    if (!along) return put(0, encoding_.encode(tensor, 0, source_.load(tensor.name)));
    const std::vector<RowRange> pieces = pieces_of(tensor);
    std::vector<std::vector<at::Tensor>> encoded(pieces.size());
    on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
      const RowRange& piece = pieces[static_cast<std::size_t>(i)];
      std::vector<at::Tensor> parts = encoding_.encode(tensor, piece.begin, source_.rows(tensor, piece.begin, piece.end));
      if (*along == 0)
        put(piece.begin, parts);
      else
        encoded[static_cast<std::size_t>(i)] = std::move(parts);
    });
    if (*along > 0) put(0, joined(encoded, *along));
  }

 private:
  std::uint64_t size_of_part(std::size_t k) const { return bytes_of(planned_.parts[k]); }

  std::vector<at::Tensor> joined(const std::vector<std::vector<at::Tensor>>& pieces, int along) const {
    std::vector<at::Tensor> whole = pieces[0];
    for (std::size_t k = 0; k < whole.size(); ++k) {
      if (whole[k].nbytes() == size_of_part(k)) continue;
      std::vector<at::Tensor> parts;
      for (const std::vector<at::Tensor>& piece : pieces) parts.push_back(piece[k]);
      whole[k] = at::cat(parts, along);
    }
    return whole;
  }

  void put(std::int64_t begin, const std::vector<at::Tensor>& encoded) {
    const std::int64_t rows = planned_.tensor.shape[0];
    for (std::size_t k = 0; k < encoded.size(); ++k) {
      const std::uint64_t whole = size_of_part(k), size = encoded[k].nbytes();
      if (size == whole && begin > 0) continue;
      const std::uint64_t offset = whole * static_cast<std::uint64_t>(begin) / static_cast<std::uint64_t>(rows);
      place(first_ + k, offset, static_cast<const std::byte*>(encoded[k].const_data_ptr()), size);
    }
  }

  // A tensor that came whole goes by pieces on all threads; a piece is one, and its thread one of them.
  void place(std::size_t index, std::uint64_t offset, const std::byte* data, std::uint64_t size) {
    const std::uint64_t count = (size + kPlacedBytes - 1) / kPlacedBytes;
    on_all_threads(static_cast<std::int64_t>(count), [&](std::int64_t i) {
      const std::uint64_t begin = static_cast<std::uint64_t>(i) * kPlacedBytes;
      writer_.place(index, offset + begin, data + begin, std::min(kPlacedBytes, size - begin));
    });
  }

  const MergedModel& source_;
  const Encoding& encoding_;
  const Planned& planned_;
  SafetensorsWriter& writer_;
  std::size_t first_;
};

Encoding encoding_in(DType type, at::ScalarType rounded, const char* stored_as, Fingerprints& made) {
  return {[=](const model::TensorSpec& tensor) {
            return std::vector<StoredTensor>{{tensor.name, type, tensor.shape}};
          },
          [=, &made](const model::TensorSpec& tensor, std::int64_t begin, at::Tensor values) {
            Halves halves = to_halves(values, rounded);
            made.add(tensor.name, begin, halves.values, values, stored_as);
            return std::vector<at::Tensor>{std::move(halves.stored)};
          },
          [](const model::TensorSpec&) { return std::optional(0); }};
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 48> name;
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name.data();
}

}  // namespace

Encoding bf16_encoding(Fingerprints& made) { return encoding_in(DType::bf16, at::kBFloat16, "BF16", made); }
Encoding f16_encoding(Fingerprints& made) { return encoding_in(DType::f16, at::kHalf, "F16", made); }

std::uint64_t stored_bytes(const model::ModelSpec& spec, const Encoding& encoding) {
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(spec))
    for (const StoredTensor& part : encoding.layout(tensor)) bytes += bytes_of(part);
  return bytes;
}

void write_hf_weights(const MergedModel& source, const Encoding& encoding, const fs::path& target, Fingerprints& made,
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
    writer.start();
    std::size_t first = 0;  // of the tensor's parts
    for (const Planned& planned : shards[i]) {
      throw_if_stopped();
      Placing(source, encoding, planned, writer, first).run();
      first += planned.parts.size();
      for (const StoredTensor& part : planned.parts) {
        map[part.name] = name;
        total += bytes_of(part);
      }
      progress.update(++done);
    }
    made.summed(target / name, writer.commit());
  }
  if (shards.size() > 1)
    write_file(target / "model.safetensors.index.json",
               Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n");
}

double verify_hf_model(const MergedModel& source, const fs::path& written, const Fingerprints& made) {
  return verify_model(source, *model::open_weights(written), made);
}

}  // namespace graft::exports
