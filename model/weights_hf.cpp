// A Hugging Face directory: config.json with model.safetensors, or shards listed in model.safetensors.index.json.
#include <ATen/ATen.h>

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/safetensors.h"
#include "core/stop.h"
#include "model/compressed_tensors.h"
#include "model/family.h"
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

struct Stored {
  Located weight;  // the codes when the linear is quantized
  std::optional<Located> scale, zero_point;
};

class HfSource : public TableSource {
 public:
  HfSource(const fs::path& directory, const Json& config)
      : TableSource(directory, read_spec(directory, config), config),
        scheme_(read_compressed_scheme(config, (directory / "config.json").string())),
        shards_(open_shards(directory)) {
    check_complete();
    for (const TensorSpec& row : table_) {
      const Stored stored = locate(row);
      weights_.push_back(
          {row.name, row.shape, stored.scale ? scheme_->stored_as() : std::string(name_of(stored.weight.tensor->dtype))});
      stored_.push_back(stored);
    }
    for (const auto& [name, located] : shards_.tensors)
      if (!has(name) && !is_redundant(name, spec_) && !parts_.contains(name))
        throw FormatError(cat(located.file->path().string(), ": tensor ", quote(name), " does not belong to a ",
                              spec_.architecture, " with this config.json"));
  }

  bool is_gguf() const override { return false; }

 private:
  void check_complete() const {
    std::size_t missing = 0;
    std::string first;
    for (const TensorSpec& row : table_)
      if (!shards_.tensors.contains(row.name) && !(scheme_ && shards_.tensors.contains(row.name + "_packed")) && missing++ == 0)
        first = row.name;
    if (missing > 0)
      throw FormatError(cat(path_.string(), ": ", missing, " of the ", table_.size(), " tensors of a ", spec_.architecture,
                            " are missing, the first is ", first));
  }

  static void check_shape(const std::string& name, const Located& located, const std::vector<std::int64_t>& shape) {
    if (located.tensor->shape != shape)
      throw FormatError(cat(located.file->path().string(), ": tensor ", name, " has shape ", shape_text(located.tensor->shape),
                            ", config.json asks for ", shape_text(shape)));
  }
  static void check_type(const std::string& name, const Located& located, std::initializer_list<DType> types,
                         const char* expected) {
    for (const DType type : types)
      if (located.tensor->dtype == type) return;
    throw UnsupportedError(
        cat(located.file->path().string(), ": tensor ", name, " is stored as ", name_of(located.tensor->dtype), "; ", expected));
  }

  // The part of a quantized linear, which no row of the table names.
  Located part(const std::string& name, const std::vector<std::int64_t>& shape, std::initializer_list<DType> types,
               const char* expected) {
    const auto at = shards_.tensors.find(name);
    if (at == shards_.tensors.end()) throw FormatError(cat(path_.string(), ": tensor ", name, " is missing"));
    check_shape(name, at->second, shape);
    check_type(name, at->second, types, expected);
    parts_.insert(name);
    return at->second;
  }

  Stored locate(const TensorSpec& row) {
    if (scheme_ && row.shape.size() == 2) {
      const bool packed = scheme_->format == CompressedFormat::packed;
      if (shards_.tensors.contains(row.name + (packed ? "_packed" : "_scale"))) return locate_quantized(row, packed);
    }
    const Located& located = shards_.tensors.at(row.name);
    check_shape(row.name, located, row.shape);
    check_type(row.name, located, {DType::f64, DType::f32, DType::f16, DType::bf16}, "a base must be BF16, F16, F32 or F64");
    return {located, {}, {}};
  }

  Stored locate_quantized(const TensorSpec& row, bool packed) {
    const std::int64_t rows = row.shape[0], columns = row.shape[1], per_word = 32 / scheme_->bits;
    if (scheme_->group > 0 && columns % scheme_->group != 0)
      throw FormatError(cat(path_.string(), ": tensor ", row.name, " has rows of ", columns, ", which groups of ", scheme_->group,
                            " do not divide"));
    const std::int64_t groups = scheme_->groups(columns);
    Stored stored;
    if (packed) {
      if (shards_.tensors.contains(row.name))
        throw FormatError(cat(path_.string(), ": tensor ", row.name, " is there twice, packed and not"));
      stored.weight =
          part(row.name + "_packed", {rows, (columns + per_word - 1) / per_word}, {DType::i32}, "packed codes are I32");
      const Located shape = part(row.name + "_shape", {2}, {DType::i64}, "a shape is I64");
      std::array<std::int64_t, 2> sizes;
      std::memcpy(sizes.data(), shape.file->data(*shape.tensor).data(), sizeof sizes);
      if (sizes[0] != rows || sizes[1] != columns)
        throw FormatError(cat(path_.string(), ": tensor ", row.name, "_shape says ", shape_text(sizes), ", config.json asks for ",
                              shape_text(row.shape)));
      if (!scheme_->symmetric)
        stored.zero_point = part(row.name + "_zero_point", {(rows + per_word - 1) / per_word, groups}, {DType::i32},
                                 "zero points are packed in I32");
    } else {
      const bool integer = scheme_->format == CompressedFormat::integer;
      stored.weight =
          part(row.name, row.shape, {integer ? DType::i8 : DType::f8_e4m3}, integer ? "codes are I8" : "fp8 weights are F8_E4M3");
    }
    stored.scale =
        part(row.name + "_scale", {rows, groups}, {DType::f32, DType::f16, DType::bf16}, "scales are BF16, F16 or F32");
    return stored;
  }

  static at::Tensor raw(const Located& located, at::ScalarType type) {
    at::Tensor values = at::empty(located.tensor->shape, at::TensorOptions().dtype(type));
    const auto bytes = located.file->data(*located.tensor);
    std::memcpy(values.mutable_data_ptr(), bytes.data(), bytes.size());
    return values;
  }

  at::Tensor load_tensor(std::size_t row, at::ScalarType type) const override {
    const Stored& stored = stored_[row];
    const auto floats = [&](const Located& located, at::ScalarType wanted) {
      return convert_stored(located.file->data(*located.tensor), located.tensor->dtype, located.tensor->shape, wanted);
    };
    if (!stored.scale) return floats(stored.weight, type);
    CompressedWeight weight;
    weight.codes = raw(stored.weight, scheme_->format == CompressedFormat::packed    ? at::kInt
                                      : scheme_->format == CompressedFormat::integer ? at::kChar
                                                                                     : at::kFloat8_e4m3fn);
    weight.scale = floats(*stored.scale, at::kFloat);
    if (stored.zero_point) weight.zero_point = raw(*stored.zero_point, at::kInt);
    return decompressed(weight, *scheme_, table_[row].shape[1]).to(type);
  }

  // In the order of the model, so that one file and its shards have one identity.
  void hash_content(Sha256& hash) const override {
    for (std::size_t row = 0; row < table_.size(); ++row) {
      throw_if_stopped();
      hash.update(cat(weights_[row].name, " ", weights_[row].stored_as, " ", shape_text(weights_[row].shape), "\n"));
      const Stored& stored = stored_[row];
      for (const Located* part :
           {&stored.weight, stored.scale ? &*stored.scale : nullptr, stored.zero_point ? &*stored.zero_point : nullptr})
        if (part) {
          const auto bytes = part->file->data(*part->tensor);
          hash.update(bytes.data(), bytes.size());
        }
    }
  }

  std::optional<CompressedScheme> scheme_;
  Shards shards_;
  std::vector<Stored> stored_;   // by row of the table
  std::set<std::string> parts_;  // names of quantized linears' tensors
};

}  // namespace

std::unique_ptr<WeightSource> open_hf_directory(const fs::path& directory) {
  return std::make_unique<HfSource>(directory, read_config(directory));
}

}  // namespace graft::model
