#include "kernels/attention/attention_cpu.h"

#include <ATen/Parallel.h>

#include "kernels/attention/attention_cpu_impl.h"

namespace graft::kernels::cpu {
namespace {

template <class F>
void by_operand(at::ScalarType type, F&& f) {
  if (type != at::kBFloat16)
    f(float{}, float{});
  else if (has_fast_bf16_dot())
    f(c10::BFloat16{}, Bf16Bits{});
  else
    f(c10::BFloat16{}, float{});
}

}  // namespace

void for_each_task(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  std::atomic<std::int64_t> next = 0;
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t worker = begin; worker < end; ++worker)
      for (std::int64_t i = next++; i < count; i = next++) task(i);
  });
}

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Segment>& segments,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse) {
  by_operand(q.scalar_type(), [&](auto type, auto element) {
    forward<decltype(type), decltype(element)>(q, k, v, segments, options, out, lse);
  });
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, const std::vector<Segment>& segments,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  by_operand(q.scalar_type(), [&](auto type, auto element) {
    backward<decltype(type), decltype(element)>({dout, q, k, v, out, lse}, segments, options, dq, dk, dv);
  });
}

}  // namespace graft::kernels::cpu
