// A Hugging Face directory: config.json with model.safetensors, or shards listed in model.safetensors.index.json.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/safetensors.h"
#include "core/stop.h"
#include "model/family.h"
#include "model/linear_layout.h"
#include "model/weights_source.h"

namespace graft::model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostShards = 4096;
constexpr std::uint64_t kMaxConfig = 4 << 20, kMaxIndex = 64 << 20;                        // bytes
constexpr std::size_t kMaxConfigValues = 1 << 18, kMaxIndexValues = std::size_t{1} << 22;  // some 50 bytes of memory each

struct Located {
  const SafetensorsFile* file;
  const SafeTensor* tensor;
};

struct Shards {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, Located> tensors;

  void add(const fs::path& path) {
    const SafetensorsFile& file = *files.emplace_back(std::make_unique<SafetensorsFile>(path));
    for (const auto& [name, tensor] : file.tensors()) {
      const auto [known, fresh] = tensors.emplace(name, Located{&file, &tensor});
      if (!fresh)
        throw FormatError(
            cat("tensor ", quote(name), " is in both ", known->second.file->path().string(), " and ", path.string()));
    }
  }
};

Shards open_indexed(const fs::path& directory, const fs::path& index) {
  const Json json = parse_json(read_file(index, kMaxIndex), index.string(), kMaxIndexValues);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) throw FormatError(cat(index.string(), ": weight_map is missing or not an object"));
  std::map<std::string, fs::path> paths;  // file name -> path
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) throw FormatError(cat(index.string(), ": the shard of tensor ", quote(tensor), " is not a string"));
    const std::string name = file.get<std::string>();
    if (paths.contains(name)) continue;
    const fs::path path = inside(directory, name);
    if (path.extension() != ".safetensors")
      throw FormatError(cat(index.string(), ": tensor ", quote(tensor), " is said to be in ", quote(name),
                            ", which is not a safetensors file"));
    if (!fs::is_regular_file(path))
      throw FormatError(
          cat(path.string(), ": shard is missing; ", index.filename().string(), " names it for tensor ", quote(tensor)));
    paths.emplace(name, path);
    if (paths.size() > kMostShards) throw FormatError(cat(index.string(), ": more than ", kMostShards, " shards"));
  }
  Shards shards;
  for (const auto& [name, path] : paths) shards.add(path);
  for (const auto& [tensor, file] : map->items()) {
    const auto found = shards.tensors.find(tensor);
    const std::string name = file.get<std::string>();
    if (found == shards.tensors.end() || found->second.file->path() != paths.at(name))
      throw FormatError(
          cat(index.string(), ": tensor ", quote(tensor), " is said to be in ", quote(name), ", which does not hold it"));
  }
  return shards;
}

Shards open_shards(const fs::path& directory) {
  const fs::path single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
  if (fs::is_regular_file(single)) {
    Shards shards;
    shards.add(inside(directory, "model.safetensors"));
    return shards;
  }
  if (fs::is_regular_file(index)) return open_indexed(directory, inside(directory, "model.safetensors.index.json"));
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (fs::exists(directory / pickle))
      throw UnsupportedError(
          cat((directory / pickle).string(), ": pickled weights are never read, they can run code; convert them to safetensors"));
  throw UserError(cat(directory.string(), ": holds neither model.safetensors nor model.safetensors.index.json"));
}

Json read_config(const fs::path& directory) {
  if (!fs::is_regular_file(directory / "config.json")) {
    if (fs::exists(directory / "adapter_config.json"))
      throw UserError(cat(directory.string(), ": is a LoRA adapter, not a model; name its base model"));
    throw UserError(cat(directory.string(), ": has no config.json; name a Hugging Face model directory or a GGUF file"));
  }
  const fs::path file = inside(directory, "config.json");
  return parse_json(read_file(file, kMaxConfig), file.string(), kMaxConfigValues);
}

ModelSpec read_spec(const fs::path& directory, const Json& config) {
  const std::string origin = (directory / "config.json").string();
  const auto list = config.is_object() ? config.find("architectures") : config.end();
  if (list == config.end() || !list->is_array() || list->size() != 1 || !list->front().is_string())
    throw FormatError(cat(origin, ": architectures must be a list with one name"));
  const std::string architecture = list->front().get<std::string>();
  try {
    return family_of_architecture(architecture).from_hf(without_quantization(config), origin);
  } catch (const UnsupportedError& error) {
    if (std::string(error.what()).starts_with(origin)) throw;
    throw UnsupportedError(cat(origin, ": ", error.what()));
  }
}

// Tensors that old files carry and no model reads: rotary tables, and the head of a tied model.
bool is_redundant(const std::string& name, const ModelSpec& spec) {
  return name.ends_with(".rotary_emb.inv_freq") || (name == "lm_head.weight" && spec.tied_head);
}

bool is_plain(DType type) { return type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16; }

struct Stored {
  std::vector<std::optional<Located>> parts;  // of a quantized linear; else one
  bool quantized = false;
  float input_scale = 0;
};

// Dimensions of one element say nothing: a scale of each row is (out) here and (out, 1) there.
std::vector<std::int64_t> without_ones(std::vector<std::int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

bool fits(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& expected) {
  return expected == std::vector{kAnySize} ? shape.size() == 1 : without_ones(shape) == without_ones(expected);
}

class HfSource : public TableSource {
 public:
  HfSource(const fs::path& directory, const Json& config)
      : TableSource(directory, read_spec(directory, config), config),
        layout_(read_layout(config, (directory / "config.json").string())),
        shards_(open_shards(directory)) {
    check_complete();
    for (const TensorSpec& row : table_) {
      stored_.push_back(is_quantized(row) ? locate_quantized(row) : locate(row));
      const Stored& stored = stored_.back();
      weights_.push_back(
          {row.name, row.shape,
           stored.quantized ? layout_->stored_as(row.name) : std::string(name_of(stored.parts[0]->tensor->dtype))});
    }
    for (const auto& [name, located] : shards_.tensors)
      if (!has(name) && !is_redundant(name, spec_) && !parts_.contains(name) && !is_zero_bias(name, located))
        throw FormatError(cat(located.file->path().string(), ": tensor ", quote(name), " does not belong to a ",
                              spec_.architecture, " with this config.json"));
  }

  bool is_gguf() const override { return false; }
  kernels::RowRounding inputs() const override { return layout_ ? layout_->inputs() : kernels::RowRounding::none; }
  float input_scale(const std::string& weight) const override { return stored_[index_.at(weight)].input_scale; }

 private:
  bool is_quantized(const TensorSpec& row) const {
    return layout_ && row.shape.size() == 2 && shards_.tensors.contains(layout_->sign(row.name));
  }

  // Published GPTQ files have a bias of zeros for every linear, whatever the model has.
  bool is_zero_bias(const std::string& name, const Located& located) const {
    constexpr std::string_view suffix = ".bias";
    if (!name.ends_with(suffix)) return false;
    const auto row = index_.find(name.substr(0, name.size() - suffix.size()) + ".weight");
    const SafeTensor& bias = *located.tensor;
    if (row == index_.end() || !stored_[row->second].quantized || bias.shape != std::vector{table_[row->second].shape[0]} ||
        !is_plain(bias.dtype))
      return false;
    if (!convert_stored(located.file->data(bias), bias.dtype, bias.shape, at::kFloat).any().item<bool>()) return true;
    throw UnsupportedError(cat(located.file->path().string(), ": tensor ", quote(name), " is not zero, and a ",
                               spec_.architecture, " with this config.json has no bias there"));
  }

  void check_complete() const {
    std::size_t missing = 0;
    std::string first;
    for (const TensorSpec& row : table_)
      if (!shards_.tensors.contains(row.name) && !is_quantized(row) && missing++ == 0) first = row.name;
    if (missing > 0)
      throw FormatError(cat(path_.string(), ": ", missing, " of the ", table_.size(), " tensors of a ", spec_.architecture,
                            " are missing, the first is ", first));
  }

  [[noreturn]] static void wrong_shape(const std::string& name, const Located& located,
                                       const std::vector<std::int64_t>& expected) {
    throw FormatError(cat(located.file->path().string(), ": tensor ", name, " has shape ", shape_text(located.tensor->shape),
                          ", config.json asks for ", shape_text(expected)));
  }
  [[noreturn]] static void wrong_type(const std::string& name, const Located& located, const std::string& expected) {
    throw UnsupportedError(
        cat(located.file->path().string(), ": tensor ", name, " is stored as ", name_of(located.tensor->dtype), "; ", expected));
  }

  Stored locate(const TensorSpec& row) const {
    const Located& located = shards_.tensors.at(row.name);
    if (located.tensor->shape != row.shape) wrong_shape(row.name, located, row.shape);
    const DType type = located.tensor->dtype;
    if (!is_plain(type)) wrong_type(row.name, located, "a base must be BF16, F16, F32 or F64");
    return {{located}, false};
  }

  std::optional<Located> part(const LayoutPart& expected) {
    const auto at = shards_.tensors.find(expected.name);
    if (at == shards_.tensors.end()) {
      if (expected.optional) return std::nullopt;
      throw FormatError(cat(path_.string(), ": tensor ", expected.name, " is missing"));
    }
    const SafeTensor& tensor = *at->second.tensor;
    if (!fits(tensor.shape, expected.shape)) wrong_shape(expected.name, at->second, expected.shape);
    if (std::find(expected.types.begin(), expected.types.end(), tensor.dtype) == expected.types.end()) {
      std::string types;
      for (const DType type : expected.types) types += cat(types.empty() ? "" : " or ", name_of(type));
      wrong_type(expected.name, at->second, cat("config.json asks for ", types));
    }
    parts_.insert(expected.name);
    return at->second;
  }

  // A layout knows neither file nor tensor.
  template <class F>
  auto named(const TensorSpec& row, F&& action) const {
    try {
      return action();
    } catch (const FormatError& error) {
      throw FormatError(cat(path_.string(), ": tensor ", row.name, ": ", error.what()));
    }
  }

  Stored locate_quantized(const TensorSpec& row) {
    const std::vector<LayoutPart> expected = named(row, [&] { return layout_->parts(row); });
    Stored stored = {{}, true};
    std::vector<at::Tensor> checked;
    bool holds_name = false;
    for (const LayoutPart& each : expected) {
      stored.parts.push_back(part(each));
      checked.push_back(each.checked ? raw(stored.parts.back(), each) : at::Tensor());
      holds_name = holds_name || each.name == row.name;
    }
    if (!holds_name && shards_.tensors.contains(row.name))
      throw FormatError(cat(path_.string(), ": tensor ", row.name, " is there twice, quantized and not"));
    named(row, [&] {
      layout_->check(row, checked);
      stored.input_scale = layout_->input_scale(row, checked);
    });
    return stored;
  }

  static at::Tensor raw(const std::optional<Located>& located, const LayoutPart& part) {
    if (!located) return {};
    at::Tensor values = at::empty(located->tensor->shape, at::TensorOptions().dtype(scalar_type(located->tensor->dtype)));
    const auto bytes = located->file->data(*located->tensor);
    std::memcpy(values.mutable_data_ptr(), bytes.data(), bytes.size());
    return part.shape == std::vector{kAnySize} ? values : values.reshape(part.shape);
  }

  // Of rows [begin, end) of a linear of `count`; empty when they share an index with others.
  struct Indices {
    std::int64_t first, last;
  };
  static std::optional<Indices> indices_of(const LayoutPart& part, std::int64_t begin, std::int64_t end, std::int64_t count) {
    const auto [dimension, indices, rows] = part.order;
    const std::int64_t size = part.shape[static_cast<std::size_t>(dimension)];
    if (begin * indices % rows != 0 || (end < count && end * indices % rows != 0)) return std::nullopt;
    return Indices{begin * indices / rows, end < count ? end * indices / rows : size};
  }

  static at::Tensor raw_part(const std::optional<Located>& located, const LayoutPart& part, const Indices& indices) {
    std::vector<std::int64_t> shape = part.shape;
    const auto along = static_cast<std::size_t>(part.order.dimension);
    const std::int64_t outer = along == 0 ? 1 : shape[0], size = shape[along], count = indices.last - indices.first;
    shape[along] = count;
    at::Tensor values = at::empty(shape, at::TensorOptions().dtype(scalar_type(located->tensor->dtype)));
    if (values.numel() == 0) return values;
    const auto bytes = located->file->data(*located->tensor);
    const std::size_t index = bytes.size() / static_cast<std::size_t>(outer * size),
                      run = index * static_cast<std::size_t>(count);
    auto* to = static_cast<std::byte*>(values.mutable_data_ptr());
    for (std::int64_t i = 0; i < outer; ++i, to += run)
      std::memcpy(to, bytes.data() + static_cast<std::size_t>(i * size + indices.first) * index, run);
    return values;
  }

  at::Tensor load_tensor(std::size_t row, at::ScalarType type) const override {
    const Stored& stored = stored_[row];
    if (!stored.quantized) {
      const Located& located = *stored.parts[0];
      return convert_stored(located.file->data(*located.tensor), located.tensor->dtype, located.tensor->shape, type);
    }
    return load_quantized(row, 0, table_[row].shape[0], type);
  }

  at::Tensor load_quantized(std::size_t row, std::int64_t begin, std::int64_t end, at::ScalarType type) const {
    TensorSpec linear = table_[row];
    const std::vector<LayoutPart> expected = layout_->parts(linear);
    std::vector<at::Tensor> parts;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::optional<Located>& located = stored_[row].parts[i];
      if (!located || expected[i].order.dimension < 0) {
        parts.push_back(raw(located, expected[i]));
        continue;
      }
      const auto indices = indices_of(expected[i], begin, end, linear.shape[0]);
      if (!indices) return load_quantized(row, 0, linear.shape[0], type).narrow(0, begin, end - begin);
      parts.push_back(raw_part(located, expected[i], *indices));
    }
    linear.shape[0] = end - begin;
    return named(table_[row], [&] { return layout_->values(linear, parts).to(type); });
  }

  at::Tensor load_part(std::size_t row, std::int64_t begin, std::int64_t end, at::ScalarType type) const override {
    const Stored& stored = stored_[row];
    if (stored.quantized) return load_quantized(row, begin, end, type);
    const SafeTensor& tensor = *stored.parts[0]->tensor;
    std::vector<std::int64_t> shape = tensor.shape;
    const auto bytes = rows_of(stored.parts[0]->file->data(tensor), shape[0], begin, end);
    shape[0] = end - begin;
    return convert_stored(bytes, tensor.dtype, shape, type);
  }

  // In the order of the model, so that one file and its shards have one identity.
  void hash_content(Sha256& hash, const std::stop_token& given_up) const override {
    for (std::size_t row = 0; row < table_.size(); ++row) {
      throw_if_stopped(given_up);
      hash.update(cat(weights_[row].name, " ", weights_[row].stored_as, " ", shape_text(weights_[row].shape), "\n"));
      for (const std::optional<Located>& part : stored_[row].parts)
        if (part) {
          const auto bytes = part->file->data(*part->tensor);
          hash.update(bytes.data(), bytes.size());
        }
    }
  }

  std::unique_ptr<LinearLayout> layout_;  // null: nothing is quantized
  Shards shards_;
  std::vector<Stored> stored_;   // by row of the table
  std::set<std::string> parts_;  // names of quantized linears' tensors
};

}  // namespace

std::unique_ptr<WeightSource> open_hf_directory(const fs::path& directory) {
  return std::make_unique<HfSource>(directory, read_config(directory));
}

}  // namespace graft::model
