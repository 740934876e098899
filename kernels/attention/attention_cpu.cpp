#include "kernels/attention/attention_cpu.h"

#include "kernels/attention/attention_cpu_impl.h"

namespace graft::kernels::cpu {
namespace {

template <class F>
void by_operand(at::ScalarType type, F&& f) {
  if (type != at::kBFloat16)
    f(float{}, float{});
  else if (has_bf16_dot())
    f(c10::BFloat16{}, Bf16Bits{});
  else
    f(c10::BFloat16{}, float{});
}

}  // namespace

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Segment>& segments,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse) {
  by_operand(q.scalar_type(),
             [&](auto type, auto element) { forward<decltype(type), decltype(element)>(q, k, v, segments, options, out, lse); });
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const std::vector<Segment>& segments,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  by_operand(q.scalar_type(), [&](auto type, auto element) {
    backward<decltype(type), decltype(element)>({dout, q, k, v, out, lse}, segments, options, dq, dk, dv);
  });
}

}  // namespace graft::kernels::cpu
