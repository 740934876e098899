// What the readers of HF directories and GGUF files share. Internal to model/.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/file.h"
#include "model/tensors.h"
#include "model/weights.h"

namespace graft::model {

std::unique_ptr<WeightSource> open_hf_directory(const std::filesystem::path& directory);
std::unique_ptr<WeightSource> open_gguf_file(const std::filesystem::path& file);

std::string shape_text(std::span<const std::int64_t> shape);  // "[2, 3]"
// Numbers of a file as a tensor of f32 or bf16; `bytes` may be unaligned and is only read during the call.
at::Tensor convert_stored(std::span<const std::byte> bytes, DType stored, std::span<const std::int64_t> shape,
                          at::ScalarType type);
// The bytes of rows [begin, end) out of those of `rows` equal ones.
std::span<const std::byte> rows_of(std::span<const std::byte> bytes, std::int64_t rows, std::int64_t begin, std::int64_t end);

class TableSource : public WeightSource {
 public:
  const ModelSpec& spec() const override { return spec_; }
  const std::vector<WeightInfo>& weights() const override { return weights_; }
  bool has(const std::string& name) const override { return index_.contains(name); }
  at::Tensor load(const std::string& name, at::ScalarType type) const override;
  at::Tensor load_rows(const std::string& name, std::int64_t begin, std::int64_t end, at::ScalarType type) const override;
  const std::filesystem::path& path() const override { return path_; }
  const Json& hf_config() const override { return config_; }
  const std::string& identity() const override;
  void sum_content(const std::stop_token& given_up) const override;

 protected:
  // Checks the spec and builds the table; the derived class then fills weights_ with one entry per row.
  TableSource(std::filesystem::path path, ModelSpec spec, Json config);
  virtual at::Tensor load_tensor(std::size_t row, at::ScalarType type) const = 0;
  virtual at::Tensor load_part(std::size_t row, std::int64_t begin, std::int64_t end, at::ScalarType type) const;
  virtual void hash_content(Sha256& hash, const std::stop_token& given_up) const = 0;

  std::filesystem::path path_;
  ModelSpec spec_;
  Json config_;
  std::vector<TensorSpec> table_;
  std::unordered_map<std::string, std::size_t> index_;  // name -> row of table_
  std::vector<WeightInfo> weights_;

 private:
  std::size_t row_of(const std::string& name, at::ScalarType type) const;
  mutable std::once_flag identity_once_;
  mutable std::string identity_;
};

}  // namespace graft::model
