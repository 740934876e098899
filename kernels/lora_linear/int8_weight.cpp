#include "kernels/lora_linear/int8_weight.h"

#include <ATen/ATen.h>

#include "kernels/check.h"

namespace graft::kernels {
namespace {

cpu::Int8Matrix quantized(const at::Tensor& rows) {
  const std::int64_t n = rows.size(0), k = rows.size(1), stride = rows.stride(0);
  if (rows.scalar_type() == at::kFloat) return {rows.const_data_ptr<float>(), stride, n, k};
  return {static_cast<const cpu::Bf16Bits*>(rows.const_data_ptr()), stride, n, k};
}

const at::Tensor& checked(const at::Tensor& weight) {
  check_dim("int8_weight", "weight", weight, 2);
  check_float_or_bf16("int8_weight", "weight", weight);
  return weight;
}

}  // namespace

Int8Weight::Int8Weight(const at::Tensor& weight)
    : forward(quantized(checked(weight).contiguous())), backward(quantized(weight.t().contiguous())) {}

}  // namespace graft::kernels
