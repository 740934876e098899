#include "kernels/lora_linear/lora_linear_cpu.h"

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
Term<Element> term(const Product::Sides& sides, bool transposed) {
  const at::Tensor &left = sides.left, &right = sides.right;
  if (sides.nf4 != nullptr) return {data<Element>(left), left.stride(0), nullptr, 0, left.size(1), transposed, sides.nf4->view()};
  Term<Element> term{data<Element>(left), left.stride(0), data<Element>(right), right.stride(0), left.size(1), transposed};
  term.padded = sides.padded;
  return term;
}

template <class Element>
OuterSum<Element> outer_sum(const at::Tensor& narrow, const at::Tensor& wide, const at::Tensor& out, int rank_dim) {
  return {data<Element>(narrow), narrow.stride(0), narrow.size(1),   data<Element>(wide),  wide.stride(0),
          wide.size(1),          wide.size(0),     data<float>(out), out.stride(rank_dim), out.stride(1 - rank_dim)};
}

}  // namespace

bool multiplies(const at::Tensor& x, const at::Tensor& y) {
  if (x.size(0) < kFewRows || isa() < Isa::avx2) return false;
  if (x.scalar_type() == at::kFloat) return true;
  // Pairs must not reach beyond a row.
  return has_bf16_dot() && x.size(1) % 2 == 0 && (y.size(1) % 2 == 0 || y.stride(0) % 2 == 0);
}

void multiply(const std::vector<Product>& products) {
  if (products.empty()) return;
  by_element(products.front().out.scalar_type(), [&](auto type) {
    using Element = decltype(type);
    std::vector<Job<Element>> jobs;
    for (const Product& p : products) {
      Job<Element> job{data<Element>(p.out), p.out.stride(0), p.out.size(0), p.out.size(1), {}};
      for (const Product::Sides& sides : p.terms) job.terms.push_back(term<Element>(sides, p.transposed));
      if (p.bias.defined()) job.bias = data<Element>(p.bias);
      job.add = p.add;
      job.scale = static_cast<float>(p.scale);
      job.int8 = p.int8;
      jobs.push_back(std::move(job));
    }
    gemm(jobs);
  });
}

Int8Rows int8_rows(const at::Tensor& x) {
  if (x.scalar_type() == at::kBFloat16) return {data<Bf16Bits>(x), x.stride(0), x.size(0), x.size(1)};
  return {data<float>(x), x.stride(0), x.size(0), x.size(1)};
}

void add(const std::vector<FactorGradients>& gradients) {
  if (gradients.empty()) return;
  by_element(gradients.front().dy.scalar_type(), [&](auto type) {
    using Element = decltype(type);
    std::vector<OuterSum<Element>> sums;
    for (const FactorGradients& g : gradients) {
      sums.push_back(outer_sum<Element>(g.s, g.dy, g.grad_b, 1));
      sums.push_back(outer_sum<Element>(g.ds, g.x, g.grad_a, 0));
    }
    outer_sums(sums);
  });
}

}  // namespace graft::kernels::cpu
