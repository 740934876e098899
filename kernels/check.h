// What every op checks of its arguments, once, before it touches memory. Messages name the op, the argument, what it is and
// what it must be: "rms_norm: weight is (512) but must be (576), the last size of x (8, 576)".
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "core/error.h"

namespace graft::kernels {

struct ShapeError : UserError {
  using UserError::UserError;
};

std::string shape_text(at::IntArrayRef sizes);  // "(8, 576)"

// `why` ends the sentence, e.g. "the last size of x (8, 576)".
void check_shape(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef expected, const std::string& why);
void check_dim(const char* op, const char* name, const at::Tensor& tensor, std::int64_t dim);
void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType expected, const std::string& why);
void check_float_or_bf16(const char* op, const char* name, const at::Tensor& tensor);
// Elements of the last dimension are adjacent; outer dimensions may have any stride.
void check_rows_dense(const char* op, const char* name, const at::Tensor& tensor);
[[noreturn]] void fail(const char* op, const std::string& what);

}  // namespace graft::kernels
