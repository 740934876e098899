#include "kernels/check.h"

namespace graft::kernels {

std::string shape_text(at::IntArrayRef sizes) {
  std::string text = "(";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + ")";
}

void fail(const char* op, const std::string& what) { throw ShapeError(cat(op, ": ", what)); }

void check_shape(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef expected, const std::string& why) {
  if (!tensor.defined()) fail(op, cat(name, " is missing but must be ", shape_text(expected), ", ", why));
  if (tensor.sizes() != expected) {
    fail(op, cat(name, " is ", shape_text(tensor.sizes()), " but must be ", shape_text(expected), ", ", why));
  }
}

void check_dim(const char* op, const char* name, const at::Tensor& tensor, std::int64_t dim) {
  if (!tensor.defined()) fail(op, cat(name, " is missing"));
  if (tensor.dim() != dim) fail(op, cat(name, " is ", shape_text(tensor.sizes()), " but must have ", dim, " dimensions"));
}

void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType expected, const std::string& why) {
  if (tensor.scalar_type() != expected) {
    fail(op, cat(name, " is ", c10::toString(tensor.scalar_type()), " but must be ", c10::toString(expected), ", ", why));
  }
}

void check_float_or_bf16(const char* op, const char* name, const at::Tensor& tensor) {
  if (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kBFloat16) {
    fail(op, cat(name, " is ", c10::toString(tensor.scalar_type()), " but must be Float or BFloat16"));
  }
}

void check_rows_dense(const char* op, const char* name, const at::Tensor& tensor) {
  if (tensor.dim() > 0 && tensor.size(-1) > 1 && tensor.stride(-1) != 1) {
    fail(op, cat(name, " has stride ", tensor.stride(-1), " in its last dimension but must have 1"));
  }
}

}  // namespace graft::kernels
