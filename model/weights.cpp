#include "model/weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>

#include "core/error.h"
#include "core/gguf.h"
#include "model/linear_layout.h"
#include "model/weights_source.h"

namespace graft::model {

namespace fs = std::filesystem;

at::Tensor WeightSource::load_rows(const std::string& name, std::int64_t begin, std::int64_t end, at::ScalarType type) const {
  return load(name, type).narrow(0, begin, end - begin);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += cat(i ? ", " : "", shape[i]);
  return text + "]";
}

at::Tensor convert_stored(std::span<const std::byte> bytes, DType stored, std::span<const std::int64_t> shape,
                          at::ScalarType type) {
  const at::IntArrayRef sizes(shape.data(), shape.size());
  if (type == at::kFloat && (stored == DType::bf16 || stored == DType::f16)) {  // LibTorch's takes longer
    constexpr std::int64_t kGrain = 1 << 15;
    const GgmlType half = stored == DType::bf16 ? GgmlType::bf16 : GgmlType::f16;
    at::Tensor values = at::empty(sizes, at::kFloat);
    auto* const out = values.mutable_data_ptr<float>();
    at::parallel_for(0, values.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      dequantize(half, bytes.data() + begin * 2, end - begin, out + begin);
    });
    return values;
  }
  const auto options = at::TensorOptions().dtype(scalar_type(stored));
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(stored) != 0) {
    at::Tensor aligned = at::empty(sizes, options);
    std::memcpy(aligned.data_ptr(), bytes.data(), bytes.size());
    return aligned.to(type);
  }
  // from_blob wants a pointer to non-const; the view is only read, and `copy` makes the result independent of the file.
  const at::Tensor view = at::from_blob(const_cast<std::byte*>(bytes.data()), sizes, options);
  return view.to(type, /*non_blocking=*/false, /*copy=*/true);
}

TableSource::TableSource(fs::path path, ModelSpec spec, Json config)
    : path_(std::move(path)), spec_(std::move(spec)), config_(std::move(config)) {
  check(spec_, path_.string());
  table_ = tensors_of(spec_);
  for (std::size_t row = 0; row < table_.size(); ++row) index_.emplace(table_[row].name, row);
}

std::size_t TableSource::row_of(const std::string& name, at::ScalarType type) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw FormatError(cat(path_.string(), ": a ", spec_.family, " model has no tensor ", name));
  if (type != at::kFloat && type != at::kBFloat16) throw std::logic_error("weights are loaded as f32 or bf16");
  return found->second;
}

at::Tensor TableSource::load(const std::string& name, at::ScalarType type) const { return load_tensor(row_of(name, type), type); }

at::Tensor TableSource::load_rows(const std::string& name, std::int64_t begin, std::int64_t end, at::ScalarType type) const {
  const std::size_t row = row_of(name, type);
  if (begin < 0 || begin > end || end > table_[row].shape[0])
    throw std::logic_error(cat("no rows ", begin, " to ", end, " in ", name));
  return load_part(row, begin, end, type);
}

at::Tensor TableSource::load_part(std::size_t row, std::int64_t begin, std::int64_t end, at::ScalarType type) const {
  return load_tensor(row, type).narrow(0, begin, end - begin);
}

std::span<const std::byte> rows_of(std::span<const std::byte> bytes, std::int64_t rows, std::int64_t begin, std::int64_t end) {
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(rows);
  return bytes.subspan(row_bytes * static_cast<std::size_t>(begin), row_bytes * static_cast<std::size_t>(end - begin));
}

void TableSource::sum_content(const std::stop_token& given_up) const {
  std::call_once(identity_once_, [&] {
    Sha256 hash;
    hash_content(hash, given_up);
    identity_ = hash.hex();
  });
}

const std::string& TableSource::identity() const {
  sum_content({});
  return identity_;
}

std::unique_ptr<WeightSource> open_weights(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return open_hf_directory(path);
  if (!fs::exists(status))
    throw UserError(
        cat(path.string(), ": no such model",
            path.is_relative() ? cat(" (looked up from ", std::filesystem::current_path().string(), ")") : "",
            "; name a directory with config.json and model.safetensors, or a GGUF file. graft downloads nothing: `hf download "
            "OWNER/MODEL --local-dir DIR` does, on a machine with a network"));
  if (path.extension() == ".safetensors" || path.extension() == ".json")
    throw UserError(cat(path.string(), ": name the directory that holds the model, not a file in it"));
  if (path.extension() == ".bin" || path.extension() == ".pt" || path.extension() == ".pth")
    throw UnsupportedError(
        cat(path.string(), ": pickled weights are never read, they can run code; convert them to safetensors"));
  return open_gguf_file(path);
}

}  // namespace graft::model
