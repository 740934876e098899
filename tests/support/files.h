// A tensor of a golden file.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <string>

#include "core/safetensors.h"
#include "tests/support/temp_dir.h"

namespace graft::testing {

inline at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafeTensor& info = file.tensors().at(name);
  const auto type = info.dtype == DType::bf16 ? at::kBFloat16 : at::kFloat;
  const at::Tensor tensor = at::empty(info.shape, type);
  std::memcpy(tensor.data_ptr(), file.data(info).data(), tensor.nbytes());
  return tensor.to(at::kFloat);
}

}  // namespace graft::testing
