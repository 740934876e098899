#include "kernels/lora_linear/lora_linear_cpu.h"

#include <ATen/core/Tensor.h>

#include "kernels/cpu/gemm.h"
#include "kernels/simd.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kFewRows = 32;  // packing the weight must pay

template <class F>
void by_element(at::ScalarType type, F&& f) {
  if (type == at::kBFloat16)
    f(Bf16Bits{});
  else
    f(float{});
}

template <class Element>
Element* data(const at::Tensor& x) {
  return static_cast<Element*>(x.mutable_data_ptr());
}

template <class Element>
Term<Element> term(const at::Tensor& left, const at::Tensor& right, bool transposed) {
  return {data<Element>(left), left.stride(0), data<Element>(right), right.stride(0), left.size(1), transposed};
}

}  // namespace

bool multiplies(const at::Tensor& x, const at::Tensor& weight) {
  if (x.size(0) < kFewRows || isa() < Isa::avx2 || weight.stride(1) != 1) return false;
  if (x.scalar_type() == at::kFloat) return true;
  return has_fast_bf16_dot() && weight.size(0) % 2 == 0 && weight.size(1) % 2 == 0;  // pairs must not reach beyond a row
}

void product(at::Tensor out, const Products& p) {
  by_element(out.scalar_type(), [&](auto type) {
    using Element = decltype(type);
    Job<Element> job{data<Element>(out), out.stride(0), out.size(0), out.size(1), {term<Element>(p.left, p.right, p.transposed)}};
    if (p.low.defined()) job.terms.push_back(term<Element>(p.low, p.low_right, p.transposed));
    if (p.bias.defined()) job.bias = data<Element>(p.bias);
    job.add = p.add;
    job.scale = static_cast<float>(p.scale);
    gemm(std::vector<Job<Element>>{job});
  });
}

void add_gradients(const at::Tensor& dy, const at::Tensor& s, const at::Tensor& ds, const at::Tensor& x, at::Tensor grad_a,
                   at::Tensor grad_b) {
  by_element(dy.scalar_type(), [&](auto type) {
    using Element = decltype(type);
    const auto sum = [&](const at::Tensor& narrow, const at::Tensor& wide, const at::Tensor& out, std::int64_t stride,
                         std::int64_t step) {
      return OuterSum<Element>{data<Element>(narrow), narrow.stride(0), narrow.size(1),      data<Element>(wide), wide.stride(0),
                               wide.size(1),          wide.size(0),     data<float>(out), stride,              step};
    };
    outer_sums(std::vector<OuterSum<Element>>{sum(s, dy, grad_b, grad_b.stride(1), grad_b.stride(0)),
                                              sum(ds, x, grad_a, grad_a.stride(0), grad_a.stride(1))});
  });
}

}  // namespace graft::kernels::cpu
