#include "export/verify.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "core/progress.h"
#include "core/stop.h"
#include "export/compare.h"
#include "export/pieces.h"
#include "model/rope_table.h"

namespace graft::exports {
namespace {

void same_number(const model::WeightSource& written, const std::string& what, double found, double expected) {
  // GGUF keeps real numbers as f32.
  if (found == expected || static_cast<float>(found) == static_cast<float>(expected)) return;
  throw FormatError(cat(written.path().string(), ": reopened, the model's ", what, " is ", found, " where the base has ",
                        expected, "; the file is not usable"));
}

// The scalings of a long context come back as divisors of the frequencies or as their numbers: what they give is the same.
void same_rotation(const model::WeightSource& written, const char* what, const model::RopeSpec& found,
                   const model::RopeSpec& expected) {
  constexpr double kDivisors = 1e-5;  // relative; model/gguf_config.cpp takes numbers for those of llama3 that are so near
  for (const bool beyond : {false, true}) {
    const auto a = model::rope_frequencies(found, beyond), b = model::rope_frequencies(expected, beyond);
    for (std::size_t i = 0; i < b.size(); ++i)
      if (!(std::abs(a[i] - b[i]) <= kDivisors * b[i])) same_number(written, cat(what, " ", i), a[i], b[i]);
  }
  same_number(written, cat("factor of attention beside the ", what), found.attention_factor, expected.attention_factor);
  if (expected.scaling == model::RopeScaling::longrope && found.scaling == model::RopeScaling::longrope)
    same_number(written, "original context", found.original_context, expected.original_context);
}

void compare_specs(const model::ModelSpec& source, const model::WeightSource& written) {
  const model::ModelSpec& spec = written.spec();
  same_number(written, "number of layers", spec.layers.size(), source.layers.size());
  same_number(written, "vocabulary", spec.vocab, source.vocab);
  same_number(written, "hidden size", spec.hidden, source.hidden);
  same_number(written, "MLP size", spec.ffn, source.ffn);
  same_number(written, "number of heads", spec.heads, source.heads);
  same_number(written, "number of key and value heads", spec.kv_heads, source.kv_heads);
  same_number(written, "head size", spec.head_dim, source.head_dim);
  same_number(written, "rotated dimensions", spec.rope.dims, source.rope.dims);
  same_number(written, "rope theta", spec.rope.theta, source.rope.theta);
  same_rotation(written, "rotary frequency", spec.rope, source.rope);
  same_number(written, "norm epsilon", spec.norm_eps, source.norm_eps);
  same_number(written, "attention scale", spec.attention_scale, source.attention_scale);
  same_number(written, "soft cap of attention", spec.attention_softcap, source.attention_softcap);
  same_number(written, "soft cap of the logits", spec.final_softcap, source.final_softcap);
  same_number(written, "number of experts", spec.moe.experts, source.moe.experts);
  same_number(written, "number of experts of a token", spec.moe.per_token, source.moe.per_token);
  same_number(written, "division of the experts' weights by their sum", spec.moe.normalize_weights, source.moe.normalize_weights);
  same_number(written, "head tying", spec.tied_head, source.tied_head);
  const auto any = [](const model::ModelSpec& of, auto&& holds) {
    return std::any_of(of.layers.begin(), of.layers.end(), holds);
  };
  if (any(source, [](const model::LayerSpec& layer) { return layer.local_rope; })) {
    same_number(written, "rotated dimensions of local layers", spec.rope_local.dims, source.rope_local.dims);
    same_rotation(written, "rotary frequency of local layers", spec.rope_local, source.rope_local);
  }
  // Some architectures of GGUF have no windows, which export/gguf_model.cpp warns of.
  const bool windows = !written.is_gguf() || any(spec, [](const model::LayerSpec& layer) { return layer.window > 0; });
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const model::LayerSpec &found = spec.layers[i], &expected = source.layers[i];
    const auto of_layer = [&](const char* what) { return cat(what, " of layer ", i); };
    if (windows) same_number(written, of_layer("sliding window"), found.window, expected.window);
    same_number(written, of_layer("position embedding"), found.rope, expected.rope);
    same_number(written, of_layer("local rotary base"), found.local_rope, expected.local_rope);
  }
}

// What is in the file, by pieces on all threads.
void for_rows(const model::WeightSource& written, const model::TensorSpec& tensor,
              const std::function<void(RowRange piece, const at::Tensor& values)>& each) {
  const std::vector<RowRange> pieces = pieces_of(tensor);
  on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const RowRange piece = pieces[static_cast<std::size_t>(i)];
    each(piece, written.load_rows(tensor.name, piece.begin, piece.end, at::kFloat).contiguous());
  });
}

bool reads_back(const model::WeightSource& written, const model::TensorSpec& tensor, const Written& meant) {
  std::atomic<std::uint64_t> sum = 0;
  for_rows(written, tensor, [&](RowRange piece, const at::Tensor& values) { sum += fingerprint(piece.begin, values); });
  return sum == meant.sum;
}

// With what it was made from; FormatError for a value that is further off than rounding to `stored_as` explains.
double compare_with_source(const MergedModel& source, const model::WeightSource& written, const model::TensorSpec& tensor,
                           const std::string& stored_as) {
  std::mutex mutex;
  Comparison whole;
  for_rows(written, tensor, [&](RowRange piece, const at::Tensor& values) {
    const Comparison found =
        compare_rows(tensor.name, stored_as, piece.begin, source.rows(tensor, piece.begin, piece.end), values);
    const std::lock_guard lock(mutex);
    whole.add(found);
  });
  return whole.error();
}

}  // namespace

double verify_model(const MergedModel& source, const model::WeightSource& written, const Fingerprints& made) {
  const std::string file = written.path().string();
  compare_specs(source.spec(), written);
  if (written.weights().size() != source.tensors().size())
    throw FormatError(
        cat(file, ": reopened, it has ", written.weights().size(), " tensors where the source has ", source.tensors().size()));
  std::unordered_map<std::string_view, const model::WeightInfo*> by_name;
  for (const model::WeightInfo& weight : written.weights()) by_name.emplace(weight.name, &weight);
  Progress progress("verify", source.tensors().size(), "tensors");
  double worst = 0;
  std::uint64_t done = 0;
  for (const model::TensorSpec& tensor : source.tensors()) {
    throw_if_stopped();
    const auto found_at = by_name.find(tensor.name);
    if (found_at == by_name.end()) throw FormatError(cat(file, ": tensor ", tensor.name, " is missing"));
    const model::WeightInfo* const stored = found_at->second;
    if (stored->shape != tensor.shape)
      throw FormatError(cat(file, ": tensor ", tensor.name, " has shape ", at::IntArrayRef(stored->shape),
                            " where the source has ", at::IntArrayRef(tensor.shape)));
    try {
      const std::optional<Written> meant = made.of(tensor.name);
      if (meant && reads_back(written, tensor, *meant)) {
        worst = std::max(worst, meant->with_source.error());
      } else {
        worst = std::max(worst, compare_with_source(source, written, tensor, !meant || meant->bounded ? stored->stored_as : ""));
        if (meant)
          throw FormatError(cat("tensor ", tensor.name, " (", stored->stored_as, ") does not read back as it was written"));
      }
    } catch (const FormatError& error) {
      throw FormatError(cat(file, ": ", error.what()));
    }
    progress.update(++done);
  }
  return worst;
}

}  // namespace graft::exports
