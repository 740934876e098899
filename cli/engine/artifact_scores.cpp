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

// The merged model before it is rounded to a format's grid: the exported `hf` where there is one, else the same from memory. Its
// predictions stay in memory once they are asked for.
class ArtifactScorer::Merged {
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

bool quantizes(const std::string& format) { return exports::find_exporter(format).quantizes; }

ArtifactScorer::ArtifactScorer(const Session& session, ScoreBook& book, lora::AdapterSet& adapter, LazyDecoder& decoder,
                               const std::vector<std::string>& formats)
    : session_(session),
      book_(book),
      adapter_(adapter),
      decoder_(decoder),
      compares_(std::any_of(formats.begin(), formats.end(), quantizes)) {}

ArtifactScorer::~ArtifactScorer() = default;

std::vector<Score> ArtifactScorer::score(const exports::Artifact& artifact) {
  throw_if_stopped();
  const bool peft = artifact.format == "peft";
  if (!peft && artifact.format != "gguf-lora") return score_model(artifact);
  // gguf-lora was verified to hold the adapter's values, bit for bit.
  const std::unique_ptr<lora::AdapterSet> reopened = peft ? lora::load_peft(artifact.path) : nullptr;
  lora::AdapterSet& values = peft ? *reopened : adapter_;
  std::vector<Score> scores = book_.scores(artifact.format, identity_of(*session_.base, &values), session_.dtypes(),
                                           [&]() -> model::Decoder& { return decoder_.with(&values); });
  decoder_.release();
  return scores;
}

std::vector<Score> ArtifactScorer::score_model(const exports::Artifact& artifact) {
  std::vector<Score> all;
  const auto append = [&](std::vector<Score> scores) { std::move(scores.begin(), scores.end(), std::back_inserter(all)); };
  if (compares_ && !merged_) {
    const bool is_hf = artifact.format == "hf";
    merged_ = std::make_unique<Merged>(session_, book_, adapter_, is_hf ? &artifact : nullptr);
    append(merged_->scores());
    if (is_hf) return all;
  }
  std::optional<Comparison> comparison;
  if (merged_) comparison = merged_->comparison();
  append(score_file(session_, book_, artifact, comparison ? &*comparison : nullptr));
  if (const exports::Exporter& exporter = exports::find_exporter(artifact.format); exporter.quantizes && !exporter.calibrates)
    append(score_base_in(session_, book_, artifact));
  return all;
}

}  // namespace graft::cli
