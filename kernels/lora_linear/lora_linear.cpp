#include "kernels/lora_linear/lora_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/rng.h"
#include "kernels/check.h"
#include "kernels/lora_linear/outer_sum.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

void check_arguments(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const LowRank* adapter) {
  constexpr const char* op = "lora_linear";
  check_dim(op, "x", x, 2);
  check_float_or_bf16(op, "x", x);
  check_rows_dense(op, "x", x);
  check_dim(op, "weight", weight, 2);
  const std::int64_t in = x.size(1), out = weight.size(0);
  const std::string of_x = cat("the last size of x ", shape_text(x.sizes()));
  const std::string of_weight = cat("as the weight ", shape_text(weight.sizes()), " demands");
  check_shape(op, "weight", weight, {out, in}, of_x);
  check_type(op, "weight", weight, x.scalar_type(), "the type of x");
  if (bias.defined()) {
    check_shape(op, "bias", bias, {out}, of_weight);
    check_type(op, "bias", bias, x.scalar_type(), "the type of x");
  }
  if (adapter == nullptr) return;
  check_dim(op, "adapter A", adapter->a, 2);
  const std::int64_t rank = adapter->a.size(0);
  check_shape(op, "adapter A", adapter->a, {rank, in}, of_weight);
  check_shape(op, "adapter B", adapter->b, {out, rank}, of_weight);
  check_type(op, "adapter A", adapter->a, at::kFloat, "the type of adapters");
  check_type(op, "adapter B", adapter->b, at::kFloat, "the type of adapters");
  if (adapter->dropout < 0 || adapter->dropout >= 1) fail(op, cat("dropout is ", adapter->dropout, " but must be in [0, 1)"));
}

// out = D(in), both (M, K) with dense rows; out may be in. Four neighbours share one draw of Philox.
template <class T>
void dropout_rows(const at::Tensor& in, at::Tensor& out, double probability, std::uint64_t seed) {
  const std::int64_t columns = in.size(1), quads = (columns + 3) / 4;
  const auto threshold = static_cast<std::uint32_t>(probability * 4294967296.0);
  const auto keep_scale = static_cast<float>(1 / (1 - probability));
  const T* source = in.const_data_ptr<T>();
  T* target = out.mutable_data_ptr<T>();
  const std::uint64_t stream = static_cast<std::uint64_t>(Stream::dropout) << 32;
  at::parallel_for(0, in.size(0), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = source + row * in.stride(0);
      T* y = target + row * out.stride(0);
      for (std::int64_t quad = 0; quad < quads; ++quad) {
        const auto draw = philox(seed, stream, static_cast<std::uint64_t>(row * quads + quad));
        const std::int64_t first = 4 * quad, last = std::min(first + 4, columns);
        for (std::int64_t i = first; i < last; ++i) {
          store(y[i], draw[static_cast<std::size_t>(i - first)] < threshold ? 0.f : load(x[i]) * keep_scale);
        }
      }
    }
  });
}

at::Tensor dropped(const at::Tensor& x, const LowRank& adapter, std::uint64_t seed) {
  if (adapter.dropout == 0) return x;
  at::Tensor out = at::empty(x.sizes(), x.options());
  by_type(x.scalar_type(), [&](auto type) { dropout_rows<decltype(type)>(x, out, adapter.dropout, seed); });
  return out;
}

}  // namespace

void lora_linear_forward_out(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const LowRank* adapter, LoraLinearSaved* saved) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight, bias, adapter);
  check_shape("lora_linear", "y", y, {x.size(0), weight.size(0)}, "tokens by outputs");
  check_type("lora_linear", "y", y, x.scalar_type(), "the type of x");
  if (bias.defined())
    at::addmm_out(y, bias, x, weight.t());
  else
    at::mm_out(y, x, weight.t());
  if (adapter == nullptr) return;
  const at::Tensor input = saved != nullptr ? dropped(x, *adapter, saved->dropout_seed) : x;
  at::Tensor s = at::mm(input, adapter->a.to(x.scalar_type()).t());
  s.mul_(adapter->scale);
  y.addmm_(s, adapter->b.to(x.scalar_type()).t());
  if (saved != nullptr) saved->s = s;
}

at::Tensor lora_linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const LowRank* adapter,
                               LoraLinearSaved* saved) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight, bias, adapter);
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  lora_linear_forward_out(y, x, weight, bias, adapter, saved);
  return y;
}

at::Tensor lora_linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                const LoraLinearSaved& saved, bool need_dx, at::Tensor dx) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight, {}, adapter);
  const std::string of_forward = cat("tokens by outputs of the weight ", shape_text(weight.sizes()));
  check_shape("lora_linear", "dy", dy, {x.size(0), weight.size(0)}, of_forward);
  check_type("lora_linear", "dy", dy, x.scalar_type(), "the type of x");
  if (need_dx) {
    if (dx.defined()) {
      check_shape("lora_linear", "dx", dx, x.sizes(), "as x");
      dx.addmm_(dy, weight);
    } else {
      dx = at::mm(dy, weight);
    }
  }
  if (adapter == nullptr) return dx;
  check_shape("lora_linear", "saved.s", saved.s, {x.size(0), adapter->a.size(0)}, "tokens by rank; run the forward with saved");
  check_shape("lora_linear", "grad_a", adapter->grad_a, adapter->a.sizes(), "as A");
  check_shape("lora_linear", "grad_b", adapter->grad_b, adapter->b.sizes(), "as B");
  at::Tensor ds = at::mm(dy, adapter->b.to(x.scalar_type()));
  ds.mul_(adapter->scale);
  adapter->grad_b.add_(outer_sum(saved.s, dy).t());
  adapter->grad_a.add_(outer_sum(ds, dropped(x, *adapter, saved.dropout_seed)));
  if (!need_dx) return dx;
  const at::Tensor a = adapter->a.to(x.scalar_type());
  if (adapter->dropout == 0) {
    dx.addmm_(ds, a);
  } else {
    dx.add_(dropped(at::mm(ds, a), *adapter, saved.dropout_seed));
  }
  return dx;
}

}  // namespace graft::kernels
