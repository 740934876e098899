#include "kernels/attention/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/attention_device.h"
#include "kernels/check.h"
#include "kernels/device.h"

namespace graft::kernels {
namespace {

constexpr const char* kOp = "attention";
constexpr std::int64_t kFewQueries = 8;  // a tile of queries would be mostly empty

void check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  check_dim(kOp, "q", q, 3);
  check_dim(kOp, "k", k, 3);
  check_float_or_bf16(kOp, "q", q);
  const std::int64_t kv_heads = k.size(1);
  if (kv_heads == 0 || q.size(1) % kv_heads != 0) {
    fail(kOp, cat("q has ", q.size(1), " heads, which is not a multiple of the ", kv_heads, " heads of k"));
  }
  const std::string as_k = cat("as k ", shape_text(k.sizes()));
  check_shape(kOp, "k", k, {k.size(0), kv_heads, q.size(2)}, cat("the last size of q ", shape_text(q.sizes())));
  check_shape(kOp, "v", v, k.sizes(), as_k);
  check_type(kOp, "k", k, q.scalar_type(), "the type of q");
  check_type(kOp, "v", v, q.scalar_type(), "the type of q");
  for (const auto* x : {&q, &k, &v}) check_rows_dense(kOp, "q, k or v", *x);
}

void check_packed(const at::Tensor& q, const at::Tensor& k, std::span<const std::int32_t> starts) {
  if (k.size(0) != q.size(0)) fail(kOp, cat("k has ", k.size(0), " tokens but q has ", q.size(0)));
  const auto tokens = static_cast<std::int32_t>(q.size(0));
  if (starts.empty() || starts.front() != 0 || starts.back() != tokens || !std::is_sorted(starts.begin(), starts.end())) {
    fail(kOp, cat("segment starts must ascend from 0 to the ", tokens, " tokens of q"));
  }
}

// The non-empty segments of a packed run.
std::vector<cpu::Segment> segments_of(std::span<const std::int32_t> starts) {
  std::vector<cpu::Segment> segments;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::int64_t begin = starts[i], n = starts[i + 1] - starts[i];
    if (n > 0) segments.push_back({begin, n, begin, n});
  }
  return segments;
}

}  // namespace

at::Tensor attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                             const AttentionOptions& options, at::Tensor* lse) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  check_packed(q, k, starts);
  at::Tensor out = at::empty(q.sizes(), q.options());
  at::Tensor log_sums = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  if (lse != nullptr) *lse = log_sums;
  if (device() != Device::cpu && on_device::has_attention(q))
    on_device::attention_forward(q, k, v, starts, options, out, log_sums);
  else {
    wait_for_device();
    cpu::attention_forward(q, k, v, segments_of(starts), options, out, log_sums);
  }
  return out;
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  check_packed(q, k, starts);
  check_shape(kOp, "dout", dout, q.sizes(), "as q");
  check_shape(kOp, "out", out, q.sizes(), "as q");
  check_shape(kOp, "dq", dq, q.sizes(), "as q");
  check_shape(kOp, "dk", dk, k.sizes(), "as k");
  check_shape(kOp, "dv", dv, k.sizes(), "as k");
  check_shape(kOp, "lse", lse, {q.size(1), q.size(0)}, "heads by tokens of q");
  check_type(kOp, "lse", lse, at::kFloat, "the type of sums");
  for (const at::Tensor& x : {dout, out, dq, dk, dv}) {
    check_type(kOp, "dout, out or a gradient", x, q.scalar_type(), "the type of q");
    check_rows_dense(kOp, "dout, out or a gradient", x);
  }
  if (device() != Device::cpu && on_device::has_attention(q))
    on_device::attention_backward(dout, q, k, v, out, lse, starts, options, dq, dk, dv);
  else {
    wait_for_device();
    cpu::attention_backward(dout, q, k, v, out, lse, segments_of(starts), options, dq, dk, dv);
  }
}

at::Tensor attention_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  if (q.size(0) > k.size(0)) fail(kOp, cat("q has ", q.size(0), " tokens but only ", k.size(0), " keys are there"));
  at::Tensor out = at::empty(q.sizes(), q.options());
  if (q.size(0) == 0) return out;
  wait_for_device();
  if (q.size(0) <= kFewQueries) {
    cpu::attention_decode(q, k, v, options, out);
  } else {
    const at::Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
    cpu::attention_forward(q, k, v, {{0, q.size(0), 0, k.size(0)}}, options, out, lse);
  }
  return out;
}

}  // namespace graft::kernels
