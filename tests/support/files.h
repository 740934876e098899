#pragma once

#include <ATen/ATen.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "core/safetensors.h"

namespace graft::testing {

// A directory that is removed at the end of the test.
struct TempDir {
  std::filesystem::path path;
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
};

inline at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafeTensor& info = file.tensors().at(name);
  const auto type = info.dtype == DType::bf16 ? at::kBFloat16 : at::kFloat;
  const at::Tensor tensor = at::empty(info.shape, type);
  std::memcpy(tensor.data_ptr(), file.data(info).data(), tensor.nbytes());
  return tensor.to(at::kFloat);
}

// The message of the exception of type E that `run` throws; an empty string when it throws nothing.
template <class E, class Run>
std::string message_of(const Run& run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace graft::testing
