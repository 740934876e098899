// manifest.json of an export directory: what was written, from what, and the hash of every file, so that an artifact can be
// traced and a finished one recognised.
//
//   {"manifest": 1, "artifacts": [{"format", "path", "model", "base", "adapter", "storage", "config", "program", "bytes",
//     "sha256", "max_error", "files": [{"name", "bytes", "sha256"}]}]}
//   "calibration" besides, where documents were looked at
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "lora/adapter.h"

namespace graft::exports {

struct FileRecord {
  std::string name;  // relative to the artifact's directory; the file's own name for a single file
  std::uint64_t bytes = 0;
  std::string sha256;
};

// What an artifact was made from. Two artifacts of one format with equal sources have equal bytes.
struct Source {
  std::string model;        // name given to the model
  std::string base;         // WeightSource::identity()
  std::string adapter;      // adapter_hash()
  std::string storage;      // "bf16" or "f32": the base as the trainer saw it
  std::string config;       // sha256 of the run's config, or empty
  std::string calibration;  // Calibration::text(); empty for formats that look at no documents
  std::string program;      // "graft 0.1.0"
  bool operator==(const Source&) const = default;
};

struct Artifact {
  std::string format;
  std::filesystem::path path;  // file or directory
  Source source;
  std::uint64_t bytes = 0;
  std::string sha256;    // of the file; of the sorted "sha256  name\n" lines for a directory (what sha256sum prints)
  double max_error = 0;  // largest |written - source| / max |source| over tensors, found on reopening
  std::vector<FileRecord> files;
  bool reused = false;  // found complete, not written again
  Json json() const;
};

// sha256 over scale, module names, shapes and values of every pair (A, B).
std::string adapter_hash(const lora::AdapterSet& adapter);

// Sizes and hashes of the file or directory at `path`, and their sum; no links are followed.
void measure(const std::filesystem::path& path, Artifact& artifact);

// What is not as recorded, a sentence each that names the file; empty when all is. Links count as missing files.
std::vector<std::string> changed_files(const Artifact& recorded);

class Manifest {
 public:
  // Reads directory/manifest.json; empty when there is none. FormatError when it is malformed or names a path outside.
  explicit Manifest(std::filesystem::path directory);
  const std::vector<Artifact>& artifacts() const { return artifacts_; }
  // The recorded artifact of this format and source whose files are all there with their hashes, or null.
  const Artifact* find_intact(const std::string& format, const Source& source) const;
  void record(const Artifact& artifact);   // replaces the format's entry and writes the file
  void remove(const std::string& format);  // and writes the file
 private:
  void write() const;
  std::filesystem::path directory_;
  std::vector<Artifact> artifacts_;
};

}  // namespace graft::exports
