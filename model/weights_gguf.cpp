// A GGUF file seen as a Hugging Face model: names, layouts and values are those that the HF directory would have.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/gguf.h"
#include "core/stop.h"
#include "model/family.h"
#include "model/rotary_rows.h"
#include "model/weights_source.h"

namespace graft::model {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kChunkElements = 1 << 16;  // decoded at a time by one thread

ModelSpec read_spec(const GgufFile& file) {
  const std::string origin = file.path().string();
  if (const std::string type = file.string_or("general.type", "model"); type != "model")
    throw UserError(cat(origin, ": general.type is ", quote(type), ", a model was expected"));
  if (const std::int64_t parts = file.integer_or("split.count", 1); parts > 1)
    throw UnsupportedError(cat(origin, ": is one of ", parts, " parts; join them first with llama-gguf-split --merge"));
  const std::string& architecture = file.string("general.architecture");
  try {
    return family_of_gguf(architecture).from_gguf(file);
  } catch (const UnsupportedError& error) {
    if (std::string(error.what()).starts_with(origin)) throw;
    throw UnsupportedError(cat(origin, ": ", error.what()));
  }
}

Json build_config(const ModelSpec& spec) { return family_named(spec.family).to_hf(spec); }

class GgufSource : public TableSource {
 public:
  GgufSource(std::unique_ptr<GgufFile> file, ModelSpec spec, Json config)
      : TableSource(file->path(), std::move(spec), std::move(config)),
        file_(std::move(file)),
        permuted_(family_named(spec_.family).gguf_permutes_qk) {
    for (const TensorSpec& row : table_) {
      const GgufTensor* tensor = file_->find(row.gguf);
      if (tensor == nullptr) throw FormatError(cat(path_.string(), ": tensor ", row.gguf, " is missing"));
      check_tensor(row, *tensor);
      located_.push_back(tensor);
      weights_.push_back({row.name, row.shape, info_of(tensor->type).name});
    }
    check_no_others();
  }

  bool is_gguf() const override { return true; }

 private:
  void check_tensor(const TensorSpec& row, const GgufTensor& tensor) const {
    std::vector<std::int64_t> expected = row.shape;
    if (row.expert >= 0) expected.insert(expected.begin(), spec_.moe.experts);
    if (tensor.shape != expected)
      throw FormatError(cat(path_.string(), ": tensor ", tensor.name, " has shape ", shape_text(tensor.shape),
                            ", the metadata asks for ", shape_text(expected)));
    if (tensor.type == GgmlType::q2_k || tensor.type == GgmlType::q3_k)
      throw UnsupportedError(cat(path_.string(), ": tensor ", tensor.name, " is stored as ", info_of(tensor.type).name,
                                 ", which is too coarse to train on; take a file of Q4 or better"));
  }

  void check_no_others() const {
    std::vector<std::string> known;
    for (const TensorSpec& row : table_) known.push_back(row.gguf);
    for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) known.push_back(name);
    std::sort(known.begin(), known.end());
    for (const GgufTensor& tensor : file_->tensors())
      if (!std::binary_search(known.begin(), known.end(), tensor.name))
        throw FormatError(cat(path_.string(), ": tensor ", quote(tensor.name), " does not belong to a ", spec_.family, " model"));
  }

  std::span<const std::byte> bytes_of(std::size_t row) const {
    const std::span<const std::byte> bytes = file_->data(*located_[row]);
    if (table_[row].expert < 0) return bytes;
    const std::size_t size = bytes.size() / static_cast<std::size_t>(spec_.moe.experts);
    return bytes.subspan(size * static_cast<std::size_t>(table_[row].expert), size);
  }

  at::Tensor load_tensor(std::size_t row, at::ScalarType type) const override {
    const TensorSpec& spec = table_[row];
    const GgufTensor& tensor = *located_[row];
    const std::span<const std::byte> bytes = bytes_of(row);
    if (spec.role == TensorRole::norm && spec_.norm_gain_offset != 0)
      return (decode(tensor, bytes, spec.shape, at::kFloat) - spec_.norm_gain_offset).to(type);
    const at::Tensor values = decode(tensor, bytes, spec.shape, type);
    return permuted_ && spec.rotary_heads > 0 ? separated_rows(values, spec.rotary_heads) : values;
  }

  at::Tensor load_part(std::size_t row, std::int64_t begin, std::int64_t end, at::ScalarType type) const override {
    const TensorSpec& spec = table_[row];
    if (spec.shape.size() < 2) return TableSource::load_part(row, begin, end, type);
    const bool turned = permuted_ && spec.rotary_heads > 0;
    const std::int64_t head = turned ? spec.shape[0] / spec.rotary_heads : 1;  // rows that are decoded together
    const std::int64_t first = begin / head * head, last = (end + head - 1) / head * head;
    std::vector<std::int64_t> shape = spec.shape;
    shape[0] = last - first;
    const GgufTensor& tensor = *located_[row];
    const at::Tensor values = decode(tensor, rows_of(bytes_of(row), spec.shape[0], first, last), shape, type);
    return turned ? separated_rows(values, (last - first) / head).narrow(0, begin - first, end - begin) : values;
  }

  static at::Tensor decode(const GgufTensor& tensor, std::span<const std::byte> bytes, const std::vector<std::int64_t>& shape,
                           at::ScalarType type) {
    switch (tensor.type) {
      case GgmlType::f32:
        return convert_stored(bytes, DType::f32, shape, type);
      case GgmlType::f16:
        return convert_stored(bytes, DType::f16, shape, type);
      case GgmlType::bf16:
        return convert_stored(bytes, DType::bf16, shape, type);
      default:
        return decode_blocks(tensor.type, bytes, shape, type);
    }
  }

  static at::Tensor decode_blocks(GgmlType stored, std::span<const std::byte> bytes, const std::vector<std::int64_t>& shape,
                                  at::ScalarType type) {
    const GgmlTypeInfo& info = info_of(stored);
    at::Tensor out = at::empty(shape, at::TensorOptions().dtype(type));
    at::Tensor flat = out.view({-1});
    const std::int64_t blocks = out.numel() / info.block, chunk = std::max<std::int64_t>(1, kChunkElements / info.block);
    at::parallel_for(0, (blocks + chunk - 1) / chunk, 1, [&](std::int64_t first, std::int64_t last) {
      std::vector<float> buffer(type == at::kFloat ? 0 : static_cast<std::size_t>(chunk * info.block));
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t begin = i * chunk, count = std::min(chunk, blocks - begin), elements = count * info.block;
        const std::byte* source = bytes.data() + begin * info.bytes;
        if (type == at::kFloat) {
          dequantize(stored, source, elements, flat.data_ptr<float>() + begin * info.block);
        } else {
          dequantize(stored, source, elements, buffer.data());
          std::copy_n(buffer.data(), elements, flat.data_ptr<c10::BFloat16>() + begin * info.block);
        }
      }
    });
    return out;
  }

  void hash_content(Sha256& hash, const std::stop_token& given_up) const override {
    for (const GgufTensor& tensor : file_->tensors()) {
      throw_if_stopped(given_up);
      hash.update(cat(tensor.name, " ", info_of(tensor.type).name, " ", shape_text(tensor.shape), "\n"));
      const auto bytes = file_->data(tensor);
      hash.update(bytes.data(), bytes.size());
    }
  }

  std::unique_ptr<GgufFile> file_;
  bool permuted_;
  std::vector<const GgufTensor*> located_;  // by row of the table
};

}  // namespace

std::unique_ptr<WeightSource> open_gguf_file(const fs::path& path) {
  auto file = std::make_unique<GgufFile>(path);
  ModelSpec spec = read_spec(*file);
  check(spec, path.string());
  Json config = build_config(spec);
  return std::make_unique<GgufSource>(std::move(file), std::move(spec), std::move(config));
}

}  // namespace graft::model
