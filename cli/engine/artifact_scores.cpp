#include "cli/engine/artifact_scores.h"

#include <algorithm>
#include <optional>

#include "cli/engine/survival.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop.h"
#include "export/merged_weights.h"
#include "model/compute_type.h"

namespace graft::cli {
namespace {

// Values as they are in the file: nothing is rounded to the base's type on the way in.
Dtypes as_written(const Session& session) { return {at::kFloat, session.dtypes().compute}; }

// A model on disk. Loaded when first asked for.
class FileDecoder {
 public:
  FileDecoder(fs::path path, Dtypes dtypes) : path_(std::move(path)), dtypes_(dtypes) {}
  model::Decoder& with(lora::AdapterSet* adapter) {
    if (!decoder_) {
      weights_ = model::open_weights(path_);
      decoder_.emplace(*weights_, dtypes_);
    }
    return decoder_->with(adapter);
  }

 private:
  const fs::path path_;
  const Dtypes dtypes_;
  std::unique_ptr<model::WeightSource> weights_;
  std::optional<LazyDecoder> decoder_;
};

// The merged model before it is rounded to a format's grid: the exported `hf` where there is one, else the same from memory. Its
// predictions stay in memory once they are asked for.
class Merged {
 public:
  Merged(const Session& session, ScoreBook& book, const lora::AdapterSet& adapter, const exports::Artifact* hf)
      : book_(book), dtypes_(as_written(session)) {
    auto merged = std::make_unique<exports::MergedWeights>(*session.base, adapter, session.dtypes().storage);
    model_ = identity_of(*merged, nullptr);
    name_ = hf == nullptr ? "merged" : hf->format;
    identity_ = hf == nullptr ? model_ : hf->sha256;
    weights_ = hf == nullptr ? std::move(merged) : model::open_weights(hf->path);
  }

  std::vector<Score> scores() {
    if (!book_.has_scores(identity_, dtypes_)) predictions();
    return book_.scores(name_, identity_, dtypes_, {});
  }
  Comparison comparison() {
    return {model_, [this]() -> const PredictionsBySet& { return predictions(); }};
  }

 private:
  const PredictionsBySet& predictions() {
    if (!predictions_) {
      LazyDecoder decoder(*weights_, dtypes_);
      predictions_ = book_.predictions(name_, identity_, dtypes_, decoder.get());
    }
    return *predictions_;
  }

  ScoreBook& book_;
  const Dtypes dtypes_;
  std::string name_, identity_, model_;  // model_: the same wherever the weights come from
  std::unique_ptr<model::WeightSource> weights_;
  std::optional<PredictionsBySet> predictions_;
};

std::vector<Score> score_file(const Session& session, ScoreBook& book, const exports::Artifact& artifact,
                              const Comparison* comparison) {
  std::unique_ptr<lora::AdapterSet> beside;  // of a file that holds the base alone
  if (fs::exists(artifact.path / "adapter")) beside = lora::load_peft(artifact.path / "adapter");
  FileDecoder decoder(artifact.path, as_written(session));
  return book.scores(
      artifact.format, artifact.sha256, as_written(session), [&]() -> model::Decoder& { return decoder.with(beside.get()); },
      comparison);
}

// A file that holds the base alone is its own answer.
fs::path write_base(const Session& session, const exports::Artifact& artifact, const fs::path& scratch) {
  const exports::Exporter& exporter = exports::find_exporter(artifact.format);
  if (!exporter.merges) return artifact.path;
  const lora::AdapterSet nothing{};
  const exports::ExportRequest request{.base = *session.base,
                                       .adapter = nothing,
                                       .storage = session.dtypes().storage,
                                       .name = artifact.source.model,
                                       .config_hash = ""};
  const fs::path target = exporter.extension.empty() ? scratch : scratch / exports::artifact_name(exporter);
  exports::Fingerprints made;
  exporter.write(request, target, made);
  return target;
}

std::vector<Score> score_base_in(const Session& session, ScoreBook& book, const exports::Artifact& artifact) {
  const std::string identity =
      cat(identity_of(*session.base, nullptr), " ", model::name_of(session.dtypes().storage), " in ", artifact.format);
  std::optional<DirectoryWriter> scratch;  // never committed
  std::optional<FileDecoder> decoder;
  try {
    return book.scores(base_in(artifact.format), identity, as_written(session), [&]() -> model::Decoder& {
      if (!decoder) {
        scratch.emplace(session.export_dir() / "base-alone");
        decoder.emplace(write_base(session, artifact, scratch->path()), as_written(session));
      }
      return decoder->with(nullptr);
    });
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {  // the files are written, and this is but a figure about them; the next export may clear it away
    log::warn("eval", "what ", artifact.format, " costs the base was not measured: ", error.what());
    return {};
  }
}

}  // namespace

std::vector<Score> score_artifacts(const Session& session, ScoreBook& book, lora::AdapterSet& adapter,
                                   const std::vector<exports::Artifact>& artifacts, LazyDecoder& decoder) {
  std::vector<Score> all;
  const auto append = [&](std::vector<Score> scores) { std::move(scores.begin(), scores.end(), std::back_inserter(all)); };
  const auto is_hf = [](const exports::Artifact& artifact) { return artifact.format == "hf"; };
  const auto hf = std::find_if(artifacts.begin(), artifacts.end(), is_hf);
  std::optional<Merged> merged;
  std::optional<Comparison> comparison;
  if (std::any_of(artifacts.begin(), artifacts.end(), [](auto& a) { return exports::find_exporter(a.format).quantizes; })) {
    comparison = merged.emplace(session, book, adapter, hf == artifacts.end() ? nullptr : &*hf).comparison();
    if (hf == artifacts.end()) append(merged->scores());
  }
  for (const exports::Artifact& artifact : artifacts) {
    throw_if_stopped();
    const exports::Exporter& exporter = exports::find_exporter(artifact.format);
    if (artifact.format == "peft") {
      const auto reopened = lora::load_peft(artifact.path);
      append(book.scores(artifact.format, identity_of(*session.base, reopened.get()), session.dtypes(),
                         [&]() -> model::Decoder& { return decoder.with(reopened.get()); }));
      decoder.release();
    } else if (artifact.format == "gguf-lora") {  // verified to hold the adapter's values, bit for bit
      append(book.scores(artifact.format, identity_of(*session.base, &adapter), session.dtypes(),
                         [&]() -> model::Decoder& { return decoder.with(&adapter); }));
      decoder.release();
    } else if (merged && is_hf(artifact)) {
      append(merged->scores());
    } else {
      append(score_file(session, book, artifact, comparison ? &*comparison : nullptr));
      if (exporter.quantizes && !exporter.calibrates) append(score_base_in(session, book, artifact));
    }
  }
  return all;
}

}  // namespace graft::cli
