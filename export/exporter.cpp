#include "export/exporter.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <stop_token>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/nearest.h"
#include "core/progress.h"
#include "core/stop.h"
#include "export/calibration.h"
#include "export/hf_model.h"
#include "model/compute_type.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

// The base may be of the right shapes and still another one. Its content is summed to find out, and for the manifest, while it is
// read to be merged: a sum keeps but one processor busy, and what one of the two has read the other finds in memory.
class ContentCheck {
 public:
  explicit ContentCheck(const ExportRequest& request)
      : done_(std::async(std::launch::async, [&request, given_up = given_up_.get_token()] {
          request.base.sum_content(given_up);
          lora::check_base(request.adapter, request.base);
        })) {}
  ~ContentCheck() { given_up_.request_stop(); }  // an export that failed does not wait for the rest of the sum
  ContentCheck(const ContentCheck&) = delete;
  ContentCheck& operator=(const ContentCheck&) = delete;

  void finish() { done_.get(); }  // DataError for another base

 private:
  std::stop_source given_up_;
  std::future<void> done_;
};

Source source_of(const Exporter& exporter, const ExportRequest& request) {
  return {.model = request.name,
          .base = request.base.identity(),
          .adapter = adapter_hash(request.adapter),
          .storage = model::name_of(request.storage),
          .config = request.config_hash,
          .calibration = exporter.calibrates ? request.calibration->text() : "",
          .program = "graft " GRAFT_VERSION,
          .corpus = request.corpus,
          .started_from = request.started_from,
          .base_path = exporter.merges ? "" : request.base.path().string(),
          .companions = companions_hash(request.base, request.stop_ids)};
}

// The file that was finished and verified in the staging directory gets its name.
void publish(const fs::path& staged, const fs::path& target) {
  if (::rename(staged.c_str(), target.c_str()) != 0) throw_machine_error("write", target, errno);
  fsync_directory(target.parent_path());
}

// Out of the manifest first: what it lists is there.
void withdraw(const Artifact& artifact, Manifest& manifest) {
  manifest.remove(artifact.format);
  std::error_code error;
  fs::remove_all(artifact.path, error);
  if (error) throw_machine_error("remove", artifact.path, error.value());
}

// The records of files that nobody vouches for.
void forget(Manifest& manifest, const std::vector<std::string>& formats) {
  const std::vector<Artifact> recorded = manifest.artifacts();
  for (const Artifact& artifact : recorded) {
    const bool anew = std::any_of(formats.begin(), formats.end(), [&](auto& name) { return same_format(name, artifact.format); });
    if (!anew)
      log::warn("export", artifact.path.string(),
                " was recorded without a signature and is not in the manifest any more; export ", artifact.format,
                " again, or remove it");
    manifest.remove(artifact.format);
  }
}

}  // namespace

std::span<const Exporter* const> all_formats() {
  static const std::vector<const Exporter*> formats = [] {
    std::vector<const Exporter*> all;
    for (const FormatFamily* family : format_families())
      for (const Exporter& exporter : *family) all.push_back(&exporter);
    std::sort(all.begin(), all.end(), [](const Exporter* a, const Exporter* b) { return a->name < b->name; });
    return all;
  }();
  return formats;
}

bool same_format(std::string a, std::string b) {
  for (std::string* name : {&a, &b}) std::replace(name->begin(), name->end(), '-', '_');
  return a == b;
}

const Exporter& find_exporter(const std::string& name) {
  std::vector<std::string> known;
  for (const Exporter* exporter : all_formats()) {
    known.emplace_back(exporter->name);
    if (same_format(name, known.back())) return *exporter;
  }
  std::string nearest = nearest_name(name, known);
  for (const std::string& other : known)
    if (nearest.empty() && name.size() > 2 && other.find(name) != std::string::npos) nearest = other;  // q4_0, w4a16
  throw ConfigError(cat("export format ", quote(name), " is not known; ",
                        nearest.empty() ? "" : cat("did you mean '", nearest, "'? "),
                        "`graft help formats` lists what there is, by server"));
}

std::string artifact_name(const Exporter& exporter) { return cat(exporter.name, exporter.extension); }

void check_formats(const std::vector<std::string>& formats, const model::ModelSpec& spec, const lora::LoraConfig& config) {
  std::string problems;
  for (const std::string& name : formats)
    if (const std::string refusal = find_exporter(name).refusal(spec, config); !refusal.empty())
      problems += cat(problems.empty() ? "" : "\n", "export format ", name, ": ", refusal);
  if (!problems.empty()) throw ConfigError(problems);
}

std::optional<Artifact> export_one(const Exporter& exporter, const ExportRequest& request, const fs::path& directory,
                                   const Gate& gate) {
  const fs::path target = directory / artifact_name(exporter);
  const bool is_directory = exporter.extension.empty();
  DirectoryWriter staging(is_directory ? target : fs::path(target) += ".staging");  // a file leaves it, and it is never committed
  Artifact artifact{.format = std::string(exporter.name),
                    .path = is_directory ? staging.path() : staging.path() / target.filename(),
                    .source = {},
                    .sha256 = {},
                    .files = {}};
  Fingerprints made;
  ContentCheck content(request);
  exporter.write(request, artifact.path, made);
  artifact.max_error = exporter.verify(request, artifact.path, made);
  measure(artifact.path, artifact, made.sums());
  content.finish();
  artifact.source = source_of(exporter, request);
  if (gate && !gate(artifact)) return std::nullopt;
  if (is_directory)
    staging.commit();
  else
    publish(artifact.path, target);
  artifact.path = target;
  return artifact;
}

std::vector<Artifact> export_all(const std::vector<std::string>& formats, const ExportRequest& request, const fs::path& directory,
                                 const Gate& gate) {
  check_formats(formats, request.base.spec(), request.adapter.config);
  bool calibrates = false;
  for (const std::string& name : formats) {
    calibrates = calibrates || find_exporter(name).calibrates;
    if (find_exporter(name).calibrates && request.calibration == nullptr)
      throw ConfigError(cat("export format ", name, " looks at documents, and there are none; name a corpus to calibrate with"));
  }
  lora::check_shapes(request.adapter, request.base);
  if (calibrates) lora::check_base(request.adapter, request.base);  // before the model has seen documents for minutes
  graft::create_directories(directory);
  const DirectoryLock lock(directory);
  remove_leftovers(directory);

  Manifest manifest(directory);
  if (!request.keeps) forget(manifest, formats);
  std::vector<Artifact> artifacts;
  for (const std::string& name : formats) {
    throw_if_stopped();
    const Exporter& exporter = find_exporter(name);
    const Artifact* done = manifest.find(std::string(exporter.name));
    if (done != nullptr && done->source.makes_the_same(source_of(exporter, request)) && changed_files(*done).empty()) {
      Artifact artifact = *done;
      artifact.reused = true;
      if (gate && !gate(artifact)) {
        withdraw(artifact, manifest);
        continue;
      }
      log::info("export", artifact.path.string(), " is complete, kept");
      if (artifact.heldout != done->heldout) manifest.record(artifact);
      artifacts.push_back(std::move(artifact));
    } else if (std::optional<Artifact> artifact = export_one(exporter, request, directory, gate)) {
      manifest.record(*artifact);
      log::info("export", "wrote ", artifact->path.string(), ", ", human_bytes(static_cast<double>(artifact->bytes)),
                ", verified");
      artifacts.push_back(*std::move(artifact));
    }
  }
  return artifacts;
}

}  // namespace graft::exports
