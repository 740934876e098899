// manifest.json of an export directory: what was written, from what, and the hash of every file, so that an artifact can be
// traced and a finished one recognised. manifest.json.sig, when there is one, is the Ed25519 signature of its bytes.
//
//   {"manifest": 1, "artifacts": [{"id", "format", "path", "model", "base", "adapter", "storage", "config", "program",
//     "companions", "bytes", "sha256", "max_error", "files": [{"name", "bytes", "sha256"}]}]}
//   beside the artifacts "serving": {"sha256", "files"}, of that folder; in an artifact "corpus" where it is known;
//   "started_from", where training went on from another adapter; "calibration", where documents were looked at; "base_path",
//   where there is an adapter without its base; "heldout", what the held-out documents said of it before it took its name
//   (cli/engine/publish.h)
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "lora/adapter.h"

namespace graft::exports {

struct FileRecord {
  std::string name;  // relative to the artifact's directory; the file's own name for a single file
  std::uint64_t bytes = 0;
  std::string sha256;
  bool operator==(const FileRecord& other) const = default;
};

// What an artifact was made from.
struct Source {
  std::string model;         // name given to the model
  std::string base;          // WeightSource::identity()
  std::string adapter;       // adapter_hash()
  std::string storage;       // "bf16" or "f32": the base as the trainer saw it
  std::string config;        // sha256 of the run's config, or empty
  std::string calibration;   // Calibration::text(); empty for formats that look at no documents
  std::string program;       // "graft 0.1.0"
  std::string corpus;        // snapshot of what the adapter was trained on, or empty
  std::string started_from;  // sha256 of the adapter_model.safetensors that its training went on from; empty: none, or unknown
  std::string base_path;     // which the files of an adapter name; empty for those of a merged model
  std::string companions;    // companions_hash(), export/hf_model.h; empty in the manifest of an older program
  bool operator==(const Source& other) const = default;
  // Two artifacts of one format have equal bytes. The config is for the record: what of it decides them is in the others.
  bool makes_the_same(Source other) const;
};

struct Artifact {
  std::string format;
  std::filesystem::path path;  // file or directory
  Source source;
  std::uint64_t bytes = 0;
  std::string sha256;    // of the file; of the sorted "sha256  name\n" lines for a directory (what sha256sum prints)
  double max_error = 0;  // largest |written - source| / max |source| over tensors, found on reopening
  std::vector<FileRecord> files;
  Json heldout = {};    // an object, or null when nobody asked
  bool reused = false;  // found complete, not written again
  // "<model>-<format>-<first 12 digits of sha256>", the name in a registry: equal names, equal bytes.
  std::string id() const;
  Json json() const;
};

// sha256 over scale, module names, shapes and values of every pair (A, B).
std::string adapter_hash(const lora::AdapterSet& adapter);

// Sizes and hashes of the file or directory at `path`, and their sum; no links are followed. known: the sha256 of files in it
// that were summed before.
void measure(const std::filesystem::path& path, Artifact& artifact,
             const std::map<std::filesystem::path, std::string>& known = {});

// What is not as recorded, a sentence each that names the file; empty when all is. Links count as missing files.
std::vector<std::string> changed_files(const Artifact& recorded);

// Whether directory/manifest.json.sig is what that key makes of directory/manifest.json (a key signs a text in one way alone); no
// manifest counts as signed. The errors of core/signature.h.
bool is_signed_by(const std::filesystem::path& directory, const std::filesystem::path& private_key);
// Signs directory/manifest.json. The directory is locked meanwhile. The errors of core/signature.h.
void sign_manifest(const std::filesystem::path& directory, const std::filesystem::path& private_key);

class Manifest;
std::vector<std::string> changed_files(const Manifest& manifest);  // of all artifacts, of serving/, and what lies beside them
std::string joined(const std::vector<std::string>& lines);

class Manifest {
 public:
  // Reads directory/manifest.json; empty when there is none. FormatError when it is malformed or names a path outside.
  explicit Manifest(std::filesystem::path directory);
  const std::vector<Artifact>& artifacts() const { return artifacts_; }
  // What lies beside the artifacts and is none of graft's, a sentence each.
  std::vector<std::string> unknown_files() const;
  bool is_signed() const;
  // DataError when what was read is not what the key's owner signed.
  void check_signature(const std::filesystem::path& public_key) const;
  const Artifact* find(const std::string& format) const;  // null when none is recorded
  // As changed_files, of the folder serving/; empty where the manifest says nothing of it, as that of an older program.
  std::vector<std::string> changed_serving() const;
  // All three write the file and take away the signature, which was another's.
  void record(const Artifact& artifact);  // replaces the format's entry
  void remove(const std::string& format);
  void record_serving();  // the folder as it lies there, or that there is none; nothing is written where that is known

 private:
  void write() const;
  std::filesystem::path directory_;
  std::string text_;  // as it was read
  std::vector<Artifact> artifacts_;
  bool has_serving_ = false;  // not in the manifest of an older program
  Artifact serving_;          // path, files and sha256 alone; none: there is no such folder
};

// UserError when there is none.
Manifest open_manifest(const std::filesystem::path& directory);

}  // namespace graft::exports
