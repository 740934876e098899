#include "kernels/lora_linear/lora_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/rng.h"
#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/lora_linear/lora_linear_cpu.h"
#include "kernels/lora_linear/lora_linear_device.h"
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

// (M, r) whose rows are read in pairs: an even stride, with zeros behind an odd rank.
at::Tensor empty_low(std::int64_t rows, std::int64_t rank, const at::Tensor& like) {
  if (rank % 2 == 0) return at::empty({rows, rank}, like.options());
  return at::zeros({rows, rank + 1}, like.options()).narrow(1, 0, rank);
}

// With the library's products: a pass over y for each.
void library_forward(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const LowRank* adapter,
                     LoraLinearSaved* saved) {
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

void own_forward(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const LowRank* adapter,
                 LoraLinearSaved* saved) {
  cpu::Products products{x, weight, true, {}, {}, bias};
  if (adapter != nullptr) {
    const at::Tensor input = saved != nullptr ? dropped(x, *adapter, saved->dropout_seed) : x;
    products.low = empty_low(x.size(0), adapter->a.size(0), x);
    products.low_right = adapter->b.to(x.scalar_type());
    const at::Tensor a = adapter->a.to(x.scalar_type());
    cpu::product(products.low, {.left = input, .right = a, .transposed = true, .scale = adapter->scale});
    if (saved != nullptr) saved->s = products.low;
  }
  cpu::product(y, products);
}

at::Tensor library_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                            const LoraLinearSaved& saved, bool need_dx, at::Tensor dx) {
  if (need_dx && dx.defined())
    dx.addmm_(dy, weight);
  else if (need_dx)
    dx = at::mm(dy, weight);
  if (adapter == nullptr) return dx;
  at::Tensor ds = at::mm(dy, adapter->b.to(x.scalar_type()));
  ds.mul_(adapter->scale);
  adapter->grad_b.add_(outer_sum(saved.s, dy).t());
  adapter->grad_a.add_(outer_sum(ds, dropped(x, *adapter, saved.dropout_seed)));
  if (!need_dx) return dx;
  const at::Tensor a = adapter->a.to(x.scalar_type());
  if (adapter->dropout == 0)
    dx.addmm_(ds, a);
  else
    dx.add_(dropped(at::mm(ds, a), *adapter, saved.dropout_seed));
  return dx;
}

at::Tensor own_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                        const LoraLinearSaved& saved, bool need_dx, at::Tensor dx) {
  cpu::Products products{dy, weight, false};
  products.add = dx.defined();
  at::Tensor ds, a;
  if (adapter != nullptr) {
    ds = empty_low(dy.size(0), adapter->a.size(0), dy);
    const at::Tensor b = adapter->b.to(dy.scalar_type());
    cpu::product(ds, {.left = dy, .right = b, .transposed = false, .scale = adapter->scale});
    cpu::add_gradients(dy, saved.s, ds, dropped(x, *adapter, saved.dropout_seed), adapter->grad_a, adapter->grad_b);
    a = adapter->a.to(dy.scalar_type());
    if (adapter->dropout == 0) products.low = ds, products.low_right = a;
  }
  if (!need_dx) return dx;
  if (!dx.defined()) dx = at::empty({dy.size(0), weight.size(1)}, dy.options());
  cpu::product(dx, products);
  if (adapter != nullptr && adapter->dropout > 0) dx.add_(dropped(at::mm(ds, a), *adapter, saved.dropout_seed));
  return dx;
}

}  // namespace

void lora_linear_forward_out(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const LowRank* adapter, LoraLinearSaved* saved) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, weight, bias, adapter);
  check_shape("lora_linear", "y", y, {x.size(0), weight.size(0)}, "tokens by outputs");
  check_type("lora_linear", "y", y, x.scalar_type(), "the type of x");
  if (device() != Device::cpu) return on_device::lora_linear_forward(y, x, weight, bias, adapter, saved);
  (cpu::multiplies(x, weight) ? own_forward : library_forward)(y, x, weight, bias, adapter, saved);
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
  if (need_dx && dx.defined()) check_shape("lora_linear", "dx", dx, x.sizes(), "as x");
  if (adapter != nullptr) {
    check_shape("lora_linear", "saved.s", saved.s, {x.size(0), adapter->a.size(0)}, "tokens by rank; run the forward with saved");
    check_shape("lora_linear", "grad_a", adapter->grad_a, adapter->a.sizes(), "as A");
    check_shape("lora_linear", "grad_b", adapter->grad_b, adapter->b.sizes(), "as B");
  }
  if (device() != Device::cpu) return on_device::lora_linear_backward(dy, x, weight, adapter, saved, need_dx, dx);
  return (cpu::multiplies(x, weight) ? own_backward : library_backward)(dy, x, weight, adapter, saved, need_dx, dx);
}

}  // namespace graft::kernels
