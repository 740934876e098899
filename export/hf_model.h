// A model as a Hugging Face directory (docs/formats.md): safetensors in shards with an index, config, tokenizer and chat
// template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "export/fingerprint.h"
#include "export/merge.h"

namespace graft::exports {

inline constexpr std::uint64_t kMaxShardBytes = 5'000'000'000;  // as save_pretrained's "5GB"

struct StoredTensor {
  std::string name;
  DType type;
  std::vector<std::int64_t> shape;
};

// What a tensor of the model becomes in the file: one tensor, or the parts of a quantized one.
struct Encoding {
  std::function<std::vector<StoredTensor>(const model::TensorSpec& tensor)> layout;
  // Contiguous, in the order and of the sizes that `layout` says. `values`: f32, rows from `begin` on, and encode's to let go of.
  std::function<std::vector<at::Tensor>(const model::TensorSpec& tensor, std::int64_t begin, at::Tensor values)> encode;
  // The dimension of the parts along which rows of the tensor lie, when any rows from a multiple of kRowStep on can be encoded
  // apart, on several threads at once; a part that has its full size for some rows does not depend on them. Empty: `encode` sees
  // whole tensors, in the order of the model.
  std::function<std::optional<int>(const model::TensorSpec& tensor)> rows_along;
  std::function<void(const model::TensorSpec& tensor)> prepare = [](const model::TensorSpec&) {};  // before it is encoded
};
// Both note what is written in `made`, which outlives them. FormatError naming the tensor when a value does not fit.
Encoding bf16_encoding(Fingerprints& made);
Encoding f16_encoding(Fingerprints& made);

std::uint64_t stored_bytes(const model::ModelSpec& spec, const Encoding& encoding);

// One shard when all fits in max_shard_bytes, else model-0000i-of-0000n.safetensors with model.safetensors.index.json. `target`
// is an existing directory.
void write_hf_weights(const MergedModel& source, const Encoding& encoding, const std::filesystem::path& target,
                      Fingerprints& made, std::uint64_t max_shard_bytes = kMaxShardBytes);

// config.json, generation_config.json, tokenizer, chat template, license: copied byte for byte from a Hugging Face base (only the
// dtype in config.json becomes `type`, when it says something else or nothing), rebuilt from the metadata of a GGUF base.
// `stop_ids` (ExportRequest) are among the eos_token_id of generation_config.json, where servers look for what ends an answer.
void write_hf_companions(const model::WeightSource& base, const std::vector<std::int32_t>& stop_ids,
                         const std::filesystem::path& target, DType type = DType::bf16);

// sha256 over all that they are made from: those files, or the metadata of a GGUF base; and stop_ids.
std::string companions_hash(const model::WeightSource& base, const std::vector<std::int32_t>& stop_ids);

double verify_hf_model(const MergedModel& source, const std::filesystem::path& written, const Fingerprints& made);

}  // namespace graft::exports
