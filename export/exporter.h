// An export format is one file in export/formats/ that defines one Exporter. Every written artifact is reopened by our own reader
// and compared with its source before it is announced.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "lora/adapter.h"
#include "model/weights.h"

namespace graft::exports {

struct ExportRequest {
  const model::WeightSource& base;
  const lora::AdapterSet& adapter;
  std::filesystem::path target;     // the directory or file to create (whole or not at all)
  std::string name;                 // of the model, for metadata
};

struct Artifact {
  std::filesystem::path path;       // file or directory
  std::uint64_t bytes = 0;
  std::string sha256;               // of the file; of the sorted "sha256  name" lines for a directory
  double max_error = 0;             // largest |written - source| / max |source| over tensors, found on reopening
  Json json() const;
};

struct Exporter {
  std::string_view name;            // file name, '_' for '-': "gguf_q8_0" is asked for as "gguf-q8_0"
  std::string_view summary;         // one line for --help
  std::string_view loads_in;        // "vLLM, transformers, TensorRT-LLM"
  bool directory;                   // the artifact is a directory
  bool merges;                      // false: adapter only
  std::string_view extension;       // ".gguf" or ""
  // Why this base and adapter cannot be written so, or empty. Asked before training starts; needs no weights.
  std::string (*refusal)(const model::ModelSpec& spec, const lora::LoraConfig& config);
  Artifact (*write)(const ExportRequest& request);
};

std::span<const Exporter* const> all_formats();
const Exporter& find_exporter(const std::string& name);  // ConfigError with the known names and the nearest

}  // namespace graft::exports
