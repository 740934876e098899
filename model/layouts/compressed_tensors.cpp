// quant_method compressed-tensors: model/compressed_tensors.h, and fp8 by tensors or blocks (model/fp8_layout.h).
#include "model/compressed_tensors.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "model/fp8_layout.h"
#include "model/linear_layout.h"
#include "model/module_targets.h"

namespace graft::model {
namespace {

class CompressedLayout : public LinearLayout {
 public:
  CompressedLayout(const CompressedScheme& scheme, const CompressedInputs& inputs) : scheme_(scheme), inputs_(inputs) {}

  std::string stored_as(const std::string&) const override { return scheme_.stored_as(); }
  kernels::RowRounding inputs() const override { return inputs_.rounding; }
  float input_scale(const TensorSpec&, const std::vector<at::Tensor>& parts) const override {
    return inputs_.fixed ? input_scale_of(parts.back()) : 0;
  }
  std::string sign(const std::string& weight) const override { return weight + (packed() ? "_packed" : "_scale"); }

  std::vector<LayoutPart> parts(const TensorSpec& linear) const override {
    const std::int64_t rows = linear.shape[0], columns = linear.shape[1], per_word = 32 / scheme_.bits;
    if (scheme_.group > 0 && columns % scheme_.group != 0)
      throw FormatError(cat("rows of ", columns, ", which groups of ", scheme_.group, " do not divide"));
    const std::int64_t groups = scheme_.groups(columns);
    const LayoutPart scale = {linear.name + "_scale", {DType::bf16, DType::f16, DType::f32}, {rows, groups}, {0}};
    const DType codes = scheme_.format == CompressedFormat::integer ? DType::i8 : DType::f8_e4m3;
    std::vector<LayoutPart> parts = {{linear.name, {codes}, linear.shape, {0}}, scale};
    if (packed()) {
      const std::vector<std::int64_t> words = {rows, (columns + per_word - 1) / per_word};
      parts.front() = {linear.name + "_packed", {DType::i32}, words, {0}};
      parts.push_back({.name = linear.name + "_shape", .types = {DType::i64}, .shape = {2}, .checked = true});
    }
    const std::vector<std::int64_t> zeros = {(rows + per_word - 1) / per_word, groups};
    if (!scheme_.symmetric) parts.push_back({linear.name + "_zero_point", {DType::i32}, zeros, {0, 1, per_word}});
    if (inputs_.fixed) parts.push_back(input_scale_part(linear));
    return parts;
  }

  void check(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    if (!packed()) return;
    const auto rows = parts[2][0].item<std::int64_t>(), columns = parts[2][1].item<std::int64_t>();
    if (rows != linear.shape[0] || columns != linear.shape[1])
      throw FormatError(cat("weight_shape says [", rows, ", ", columns, "], config.json asks for [", linear.shape[0], ", ",
                            linear.shape[1], "]"));
  }

  at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    return decompressed({parts[0], parts[1], scheme_.symmetric ? at::Tensor() : parts[3]}, scheme_, linear.shape[1]);
  }

 private:
  bool packed() const { return scheme_.format == CompressedFormat::packed; }

  CompressedScheme scheme_;
  CompressedInputs inputs_;
};

// Groups of modules that are stored differently.
class MixedLayout : public LinearLayout {
 public:
  struct Group {
    ModuleTargets targets;
    std::unique_ptr<LinearLayout> layout;
  };
  MixedLayout(std::vector<Group> groups, std::string origin) : groups_(std::move(groups)), origin_(std::move(origin)) {
    for (const Group& group : groups_) {
      if (group.layout->inputs() != groups_.front().layout->inputs())
        throw UnsupportedError(cat(origin_, ": groups of modules differ in their input_activations"));
      if (!group.targets.linears()) continue;
      if (others_ != nullptr) throw FormatError(cat(origin_, ": two groups of modules have the target Linear"));
      others_ = group.layout.get();
    }
  }

  std::string stored_as(const std::string& weight) const override { return of(weight).stored_as(weight); }
  kernels::RowRounding inputs() const override { return groups_.front().layout->inputs(); }
  float input_scale(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    return of(linear.name).input_scale(linear, parts);
  }
  std::string sign(const std::string& weight) const override {
    const LinearLayout* layout = find(weight);
    return layout == nullptr ? "" : layout->sign(weight);
  }
  std::vector<LayoutPart> parts(const TensorSpec& linear) const override { return of(linear.name).parts(linear); }
  void check(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    of(linear.name).check(linear, parts);
  }
  at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    return of(linear.name).values(linear, parts);
  }

 private:
  const LinearLayout* find(const std::string& weight) const {
    const std::string module = module_of(weight);
    const LinearLayout* found = nullptr;
    for (const Group& group : groups_) {
      if (!group.targets.names(module)) continue;
      if (found != nullptr) throw FormatError(cat(origin_, ": two groups of modules name ", module));
      found = group.layout.get();
    }
    return found != nullptr ? found : others_;
  }
  const LinearLayout& of(const std::string& weight) const { return *find(weight); }  // of weights that have a sign

  std::vector<Group> groups_;
  std::string origin_;
  const LinearLayout* others_ = nullptr;
};

std::unique_ptr<LinearLayout> read_group(const Json& quantization, const std::string& origin) {
  if (const auto tiles = read_compressed_tiles(quantization, origin)) return fp8_layout(*tiles, "_scale");
  return std::make_unique<CompressedLayout>(read_compressed_scheme(quantization, origin),
                                            read_compressed_inputs(quantization, origin));
}

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  constexpr std::size_t most = 16;
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object() || groups->empty())
    throw FormatError(cat(origin, ": config_groups is missing or not an object"));
  if (groups->size() == 1) return read_group(quantization, origin);
  if (groups->size() > most)
    throw UnsupportedError(cat(origin, ": there are ", groups->size(), " groups of modules, and at most ", most, " are read"));
  std::vector<MixedLayout::Group> read;
  for (const auto& [name, group] : groups->items()) {
    const std::string at = cat(origin, ": ", name);
    if (!group.is_object()) throw FormatError(cat(at, " is not an object"));
    Json alone = quantization;
    alone["config_groups"] = {{name, group}};
    if (const std::string format = text_or_empty(group, "format"); !format.empty()) alone["format"] = format;
    read.push_back({ModuleTargets(json_get_or<Json>(group, "targets", Json(), at), at), read_group(alone, at)});
  }
  return std::make_unique<MixedLayout>(std::move(read), origin);
}

}  // namespace

extern const LayoutReader compressed_tensors;
const LayoutReader compressed_tensors = {.method = "compressed-tensors", .read = read};

}  // namespace graft::model
