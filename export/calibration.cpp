#include "export/calibration.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "core/progress.h"
#include "core/stop.h"
#include "data/corpus.h"
#include "export/exporter.h"
#include "export/quantize/gptq.h"
#include "export/quantize/refine.h"
#include "model/compute_type.h"
#include "model/layer_walk.h"

namespace graft::exports {
namespace {

at::Tensor as_long(const std::vector<std::int32_t>& values) { return at::tensor(values, at::kInt).to(at::kLong); }

// "model.layers.0.block_sparse_moe.experts.w1" of "model.layers.0.block_sparse_moe.experts.3.w1"; others as they are.
std::string linear_of_any_expert(const std::string& name) {
  constexpr std::string_view mark = ".experts.";
  const std::size_t at = name.find(mark);
  if (at == std::string::npos) return name;
  return name.substr(0, at + mark.size()) + name.substr(name.find('.', at + mark.size()) + 1);
}

std::int64_t layers_of(const MergedModel& source) { return static_cast<std::int64_t>(source.spec().layers.size()); }

// The rows on their way through the layers.
class Walk {
 public:
  Walk(const MergedModel& source, const std::vector<model::Packed>& rows, at::ScalarType compute)
      : rows_(rows), layers_(model::LayerWalk::create(source.spec(), compute, [&source, compute](const std::string& name) {
          return source.load(name).to(compute).contiguous();
        })) {
    for (const model::Packed& row : rows_) hidden_.push_back(layers_->embed(row.tokens));
  }

  void enter(std::int64_t layer) { layers_->enter(layer); }
  std::vector<model::Linear*> linears() { return layers_->linears(); }

  // What the layer's linears see. advance: its outputs become the next layer's inputs.
  LayerInputs observe(bool with_gram, bool advance) {
    LayerInputs inputs;
    run(
        [&](const std::vector<const model::Linear*>& linears, const at::Tensor& x) {
          std::shared_ptr<InputSums>& sums = inputs[linears.front()->name];
          if (!sums) sums = std::make_shared<InputSums>();
          sums->add(x, with_gram);
          for (const model::Linear* linear : linears) inputs[linear->name] = sums;
        },
        advance);
    return inputs;
  }
  void advance() { run({}, true); }

 private:
  void run(const model::SeeInputs& see, bool advance) {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      throw_if_stopped();
      at::Tensor out = layers_->forward(hidden_[i], rows_[i], see);
      if (advance) hidden_[i] = std::move(out);
    }
  }

  const std::vector<model::Packed>& rows_;
  std::unique_ptr<model::LayerWalk> layers_;
  std::vector<at::Tensor> hidden_;  // (length, H) each
};

// The linears of the site that any token came to.
std::vector<Reader> readers_of(const FoldSite& site, const MergedModel& source, const LayerInputs& inputs) {
  std::vector<Reader> readers;
  for (const std::string& name : site.readers)
    if (const auto seen = inputs.find(name); seen != inputs.end())
      readers.push_back({source.load(name + ".weight"), seen->second.get()});
  return readers;
}

void add_fold(Folds& folds, const FoldSite& site, const MergedModel& source, const at::Tensor& scales) {
  const at::Tensor writer = source.load(site.writer + ".weight");
  if (site.norm)
    folds.add_norm(site, scales, writer + source.spec().norm_gain_offset, source.spec().norm_gain_offset);
  else
    folds.add_linear(site, scales, writer.size(0));
}

// Rounds the linears of a layer when the first of them is asked for, and lets the next layer see what they make of the rows.
class GptqLayers {
 public:
  GptqLayers(MergedModel source, const std::vector<model::Packed>& rows, at::ScalarType compute, const LinearSchemes& schemes,
             FindGrid grids)
      : source_(std::move(source)),
        compute_(compute),
        scheme_of_(schemes.of(source_.spec())),
        grids_(std::move(grids)),
        walk_(source_, rows, compute) {}

  Rounded take(const std::string& tensor) {
    while (!rounded_.contains(tensor)) {
      if (layer_ + 1 == layers_of(source_)) throw std::logic_error("GPTQ: tensors must be asked for in order: " + tensor);
      round_layer(++layer_);
    }
    return std::move(rounded_.extract(tensor).mapped());
  }

 private:
  void round_layer(std::int64_t layer) {
    rounded_.clear();
    walk_.enter(layer);
    const LayerInputs inputs = walk_.observe(/*with_gram=*/true, /*advance=*/false);
    for (model::Linear* linear : walk_.linears()) {
      throw_if_stopped();
      const std::string tensor = linear->name + ".weight";
      const auto seen = inputs.find(linear->name);
      Grid grid = grids_ ? grids_(*source_.find(tensor)) : Grid();
      try {
        Rounded rounded = rounded_for(tensor, std::move(grid), seen == inputs.end() ? nullptr : seen->second);
        linear->weight = rounded.values().to(compute_);
        rounded_.emplace(tensor, std::move(rounded));
      } catch (const DataError& error) {
        throw DataError(cat("tensor ", tensor, ": ", error.what()));
      }
    }
    if (layer + 1 < layers_of(source_)) walk_.advance();
  }

  // grid: empty where none is given. inputs: null when no token came to this expert, so that any input is as likely as any other.
  Rounded rounded_for(const std::string& tensor, Grid grid, const std::shared_ptr<InputSums>& inputs) {
    const at::Tensor weight = source_.load(tensor);
    const model::CompressedScheme scheme = scheme_of_(tensor);
    const bool given = grid.scale.defined();
    if (inputs == nullptr) {
      if (!given) grid = grid_of(weight, scheme);
      at::Tensor codes = codes_on(grid, weight, scheme);
      return {std::move(grid), std::move(codes)};
    }
    const GptqFactor& factor = factor_of(inputs);
    Rounded rounded = given ? exports::gptq(weight, factor, scheme, std::move(grid)) : exports::gptq(weight, factor, scheme);
    refine(weight, factor.gram, scheme, given ? Refine::codes : Refine::scales_and_codes, rounded);
    return rounded;
  }

  // q, k and v come one after the other and read the same inputs, as gate and up do.
  const GptqFactor& factor_of(const std::shared_ptr<InputSums>& inputs) {
    if (inputs != factored_) {
      factor_ = {};  // its memory is needed
      factor_ = gptq_factor(inputs->gram);
      factored_ = inputs;
    }
    return factor_;
  }

  MergedModel source_;
  at::ScalarType compute_;
  GptqFactor factor_;                    // of the inputs that came last
  std::shared_ptr<InputSums> factored_;  // these
  std::function<model::CompressedScheme(const std::string&)> scheme_of_;
  FindGrid grids_;
  Walk walk_;
  std::int64_t layer_ = -1;
  std::map<std::string, Rounded> rounded_;  // of the current layer, by tensor
};

}  // namespace

void check_enough(const CalibrationRows& rows) {
  std::int64_t tokens = 0;
  for (const data::ShardRecord& shard : data::read_manifest(rows.corpus))
    if (shard.split == "train") tokens += static_cast<std::int64_t>(shard.tokens);
  if (tokens >= rows.rows * rows.length) return;
  const std::int64_t possible = tokens / rows.length;
  throw DataError(cat(rows.corpus.string(), " has ", tokens, " training tokens, and ", rows.rows, " rows of ", rows.length,
                      " to calibrate with are ", rows.rows * rows.length, "; ",
                      possible > 0 ? cat("set export.calibration.rows to ", possible, " or fewer, or ") : "",
                      "choose formats that look at no documents"));
}

Calibration::Calibration(MergedModel source, CalibrationRows rows, at::ScalarType compute)
    : source_(std::move(source)), documents_(std::move(rows)), compute_(compute) {
  check_enough(documents_);
}

Calibration::~Calibration() = default;

std::string Calibration::text() const {
  return cat(documents_.rows, " rows of ", documents_.length, " tokens, ", model::name_of(compute_), ", corpus ",
             documents_.snapshot);
}

const std::vector<model::Packed>& Calibration::rows() {
  if (!rows_.empty()) return rows_;
  const auto corpus = data::Corpus::open(documents_.corpus, "train", documents_.tokenizer_hash, documents_.snapshot);
  const auto packed = data::pack(*corpus, documents_.length, data::LongDocuments::split);
  data::Cursor cursor;
  for (std::int64_t i = 0; i < documents_.rows; ++i) {
    const data::Batch batch = packed->read(cursor, 1);
    rows_.push_back({as_long(batch.tokens), as_long(batch.positions), batch.starts});
  }
  return rows_;
}

const LayerInputs& Calibration::inputs() {
  if (!inputs_.empty()) return inputs_;
  Walk walk(source_, rows(), compute_);
  Progress progress("calibrate", static_cast<std::uint64_t>(layers_of(source_)), "layers");
  for (std::int64_t layer = 0; layer < layers_of(source_); ++layer) {
    walk.enter(layer);
    inputs_.merge(walk.observe(/*with_gram=*/false, /*advance=*/true));
    progress.update(static_cast<std::uint64_t>(layer + 1));
  }
  return inputs_;
}

at::Tensor Calibration::importance(const std::string& tensor) {
  const auto seen = inputs().find(model::module_of(tensor));
  if (seen == inputs_.end()) return {};
  return (seen->second->squares / static_cast<double>(seen->second->rows)).to(at::kFloat);
}

float Calibration::input_scale(const std::string& tensor) {
  constexpr double largest_e4m3 = 448;
  const std::string name = linear_of_any_expert(model::module_of(tensor));
  if (largest_.empty())
    for (const auto& [linear, sums] : inputs()) {
      double& largest = largest_[linear_of_any_expert(linear)];
      largest = std::max(largest, sums->largest.max().item<double>());
    }
  const auto seen = largest_.find(name);
  const double largest = seen == largest_.end() ? 0 : seen->second;
  if (!std::isfinite(largest)) throw DataError(cat("tensor ", tensor, ": an input that came in calibration is not finite"));
  return largest > 0 ? static_cast<float>(largest / largest_e4m3) : 1;
}

Folds Calibration::find_awq(const model::CompressedScheme& scheme) {
  Folds folds;
  const MergedModel base(source_.base(), nullptr, source_.storage());
  Walk walk(base, rows(), compute_);
  Progress progress("search scales", static_cast<std::uint64_t>(layers_of(base)), "layers");
  for (std::int64_t layer = 0; layer < layers_of(base); ++layer) {
    walk.enter(layer);
    const LayerInputs inputs = walk.observe(/*with_gram=*/true, /*advance=*/true);
    for (const FoldSite& site : fold_sites(base.spec(), layer, /*linears=*/true)) {
      throw_if_stopped();
      if (const auto reading = readers_of(site, base, inputs); !reading.empty())
        add_fold(folds, site, base, awq_scales(reading, scheme));
    }
    progress.update(static_cast<std::uint64_t>(layer + 1));
  }
  return folds;
}

Folds Calibration::find_smooth() {
  Folds folds;
  for (std::int64_t layer = 0; layer < layers_of(source_); ++layer)
    for (const FoldSite& site : fold_sites(source_.spec(), layer, /*linears=*/false)) {
      throw_if_stopped();
      if (const auto reading = readers_of(site, source_, inputs()); !reading.empty())
        add_fold(folds, site, source_, smooth_scales(reading));
    }
  return folds;
}

const Folds& Calibration::folds(Quantizer quantizer, const model::CompressedScheme& scheme) {
  const bool awq = quantizer != Quantizer::smooth;
  const std::string key = cat(awq ? "awq " : "smooth ", scheme.stored_as());
  if (const auto found = folds_.find(key); found != folds_.end()) return found->second;
  return folds_.emplace(key, awq ? find_awq(scheme) : find_smooth()).first->second;
}

RoundLinear Calibration::gptq(MergedModel model, const LinearSchemes& schemes, FindGrid grids) {
  const auto layers = std::make_shared<GptqLayers>(std::move(model), rows(), compute_, schemes, std::move(grids));
  return [layers](const model::TensorSpec& tensor, const at::Tensor&) { return layers->take(tensor.name); };
}

MergedModel source_for(const ExportRequest& request, Quantizer quantizer, const LinearSchemes& schemes) {
  const bool folds = quantizer == Quantizer::awq || quantizer == Quantizer::smooth || quantizer == Quantizer::awq_gptq;
  return {request.base, &request.adapter, request.storage, folds ? request.calibration->folds(quantizer, schemes.all) : Folds()};
}

RoundLinear rounding_for(const ExportRequest& request, Quantizer quantizer, const LinearSchemes& schemes, const FindGrid& grids) {
  return by_gptq(quantizer) ? request.calibration->gptq(source_for(request, quantizer, schemes), schemes, grids)
                            : to_nearest(schemes, request.base.spec());
}

}  // namespace graft::exports
