// A family of export formats is one file in export/formats/: how it stores a model, and a table of its Exporters. Every artifact
// is written beside its final name, reopened by our own reader, compared with its source tensor by tensor, put before the
// caller's gate, and only then moved into place: the name holds the old artifact or the new one, verified and let through. The
// formats: docs/formats.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "export/fingerprint.h"
#include "export/manifest.h"
#include "lora/adapter.h"
#include "model/tensors.h"
#include "model/weights.h"

namespace graft::exports {

class Calibration;  // export/calibration.h
class Folds;        // export/fold.h

struct ExportRequest {
  const model::WeightSource& base;
  const lora::AdapterSet& adapter;
  at::ScalarType storage;   // bf16: the run rounded the base to bf16 before training, so the merge does too; f32: as in the file
  std::string name;         // of the model, for metadata
  std::string config_hash;  // sha256 of the run's config, for the manifest; may be empty
  Calibration* calibration = nullptr;  // for the formats that look at documents
  std::string corpus = {};             // snapshot of what the adapter was trained on, for the manifest; may be empty
  std::string started_from = {};       // train/run_dir.h, for the manifest; may be empty
  bool keeps = true;  // what the manifest records may stay; else all is written anew, and nothing else stays in it
  std::vector<std::int32_t> stop_ids = {};  // tokens that end an answer, where conversations were trained on
};

struct Exporter {
  std::string_view name;       // what the user writes: "gguf-q8_0"
  std::string_view summary;    // one line for --help
  std::string_view loads_in;   // "vLLM, transformers, TensorRT-LLM"
  std::string_view extension;  // ".gguf"; empty: the artifact is a directory
  bool merges;                 // false: the adapter alone, or the base alone
  bool quantizes = false;      // weights in 8 bits or fewer: part of what was learned may be lost
  bool calibrates = false;     // looks at ExportRequest::calibration
  // Why this base and adapter cannot be written so, or empty. Asked before training starts; needs no weights.
  std::string (*refusal)(const model::ModelSpec& spec, const lora::LoraConfig& config);
  // Bytes of its tensors, of which nearly all of an artifact is. Null: an adapter's, in f32.
  std::uint64_t (*bytes)(const model::ModelSpec& spec) = nullptr;
  // Writes the whole artifact at `target`, which does not exist and that nobody else sees. Polls throw_if_stopped() per tensor.
  // `made`: what is written of each tensor, for verify.
  void (*write)(const ExportRequest& request, const std::filesystem::path& target, Fingerprints& made);
  // Reopens `written` and compares it with the source. Returns the largest |written - source| / max |source| over tensors;
  // FormatError naming the tensor when a value is further off than the type's rounding allows.
  double (*verify)(const ExportRequest& request, const std::filesystem::path& written, const Fingerprints& made);
  // What a reader gets back for rows of a merged matrix, f32 (n, columns) as MergedModel::load gives them, from a multiple of 128
  // on. Null: it takes more than these rows to say. For training on what will be served (train/merge_aware.h).
  at::Tensor (*served)(const model::ModelSpec& spec, const model::TensorSpec& tensor, const at::Tensor& rows) = nullptr;
  // The scales that are moved between tensors before that (served is then of the folded rows); they do not depend on the adapter.
  // Null: none are.
  const Folds& (*folds)(Calibration& calibration) = nullptr;
};

using FormatFamily = std::span<const Exporter>;  // what a file in export/formats/ defines
std::span<const FormatFamily* const> format_families();

std::span<const Exporter* const> all_formats();          // by name
bool same_format(std::string a, std::string b);          // '-' and '_' are one: "gguf_q8_0" is "gguf-q8_0"
const Exporter& find_exporter(const std::string& name);  // ConfigError with the nearest known name
std::string artifact_name(const Exporter& exporter);     // file or directory name inside the export directory

// Refusals of every format at once; ConfigError listing them. For the check before training and for export_all.
void check_formats(const std::vector<std::string>& formats, const model::ModelSpec& spec, const lora::LoraConfig& config);

// Asked of each verified artifact, before it takes its name where it is new: Artifact::path is where it lies. False: it is not to
// be served. May say in Artifact::heldout what it found.
using Gate = std::function<bool(Artifact& artifact)>;

// Writes, verifies and publishes one artifact in `directory`; nothing where the gate does not let it through, and what had the
// name keeps it. Does not touch the manifest.
std::optional<Artifact> export_one(const Exporter& exporter, const ExportRequest& request, const std::filesystem::path& directory,
                                   const Gate& gate = {});

// Writes `formats` in order into `directory` (created, locked meanwhile) and records each in its manifest.json as soon as it is
// done. What the manifest already records for an equal Source, and whose files still have the recorded hashes, is not written
// again (Artifact::reused); one of these that the gate does not let through is taken out of the manifest and off the disk.
// Returns what was let through. Interrupted when asked to stop; what is published stays.
std::vector<Artifact> export_all(const std::vector<std::string>& formats, const ExportRequest& request,
                                 const std::filesystem::path& directory, const Gate& gate = {});

}  // namespace graft::exports
