#include "kernels/lora_linear/lora_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "core/rng.h"
#include "kernels/check.h"
#include "kernels/cpu/pack.h"
#include "kernels/device.h"
#include "kernels/lora_linear/coded_weight.h"
#include "kernels/lora_linear/lora_linear_cpu.h"
#include "kernels/lora_linear/lora_linear_device.h"
#include "kernels/lora_linear/outer_sum.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

std::int64_t outputs(const LoraPart& part) { return part.coded != nullptr ? part.coded->out() : part.weight.size(0); }
std::int64_t inputs(const LoraPart& part) { return part.coded != nullptr ? part.coded->in() : part.weight.size(1); }

const Int8Weight* int8_of(const LoraPart& part) { return part.coded != nullptr ? part.coded->int8() : nullptr; }
const Nf4Weight* nf4_of(const LoraPart& part) { return part.coded != nullptr ? part.coded->nf4() : nullptr; }

void check_weight(const at::Tensor& x, const LoraPart& part) {
  constexpr const char* op = "lora_linear";
  const std::string of_x = cat("the last size of x ", shape_text(x.sizes()));
  if (part.coded != nullptr) {
    if (int8_of(part) != nullptr && device() != Device::cpu) fail(op, "a weight in codes of 8 bits is for device: cpu");
    if (part.coded->in() != x.size(1)) fail(op, cat("the weight in codes has ", part.coded->in(), " columns, not ", of_x));
    return;
  }
  check_dim(op, "weight", part.weight, 2);
  check_shape(op, "weight", part.weight, {part.weight.size(0), x.size(1)}, of_x);
  check_type(op, "weight", part.weight, x.scalar_type(), "the type of x");
  if (device() != Device::cpu) check_rows_dense(op, "weight", part.weight);
}

void check_part(const at::Tensor& x, const LoraPart& part) {
  constexpr const char* op = "lora_linear";
  check_weight(x, part);
  const std::int64_t in = x.size(1), out = outputs(part);
  const std::string of_weight = cat("as the weight ", shape_text({out, in}), " demands");
  if (part.bias.defined()) {
    check_shape(op, "bias", part.bias, {out}, of_weight);
    check_type(op, "bias", part.bias, x.scalar_type(), "the type of x");
  }
  if (part.adapter == nullptr) return;
  const LowRank& adapter = *part.adapter;
  check_dim(op, "adapter A", adapter.a, 2);
  const std::int64_t rank = adapter.a.size(0);
  check_shape(op, "adapter A", adapter.a, {rank, in}, of_weight);
  check_shape(op, "adapter B", adapter.b, {out, rank}, of_weight);
  check_type(op, "adapter A", adapter.a, at::kFloat, "the type of adapters");
  check_type(op, "adapter B", adapter.b, at::kFloat, "the type of adapters");
  check_rows_dense(op, "adapter A", adapter.a);
  check_rows_dense(op, "adapter B", adapter.b);
  if (adapter.dropout < 0 || adapter.dropout >= 1) fail(op, cat("dropout is ", adapter.dropout, " but must be in [0, 1)"));
}

void check_arguments(const at::Tensor& x, const std::vector<LoraPart>& parts) {
  check_dim("lora_linear", "x", x, 2);
  check_float_or_bf16("lora_linear", "x", x);
  check_rows_dense("lora_linear", "x", x);
  for (const LoraPart& part : parts) check_part(x, part);
}

void check_gradient(const at::Tensor& dy, const at::Tensor& x, const LoraPart& part) {
  constexpr const char* op = "lora_linear";
  const std::int64_t out = outputs(part);
  check_shape(op, "dy", dy, {x.size(0), out}, cat("tokens by outputs of the weight ", shape_text({out, x.size(1)})));
  check_type(op, "dy", dy, x.scalar_type(), "the type of x");
  check_rows_dense(op, "dy", dy);
  if (part.adapter == nullptr) return;
  if (part.saved == nullptr) fail(op, "the backward of an adapter needs what the forward saved; run it with saved");
  check_shape(op, "saved.s", part.saved->s, {x.size(0), part.adapter->a.size(0)}, "tokens by rank; run the forward with saved");
  check_shape(op, "grad_a", part.adapter->grad_a, part.adapter->a.sizes(), "as A");
  check_shape(op, "grad_b", part.adapter->grad_b, part.adapter->b.sizes(), "as B");
}

void check_group(const std::vector<at::Tensor>& dy, const std::vector<LoraPart>& parts) {
  if (parts.empty()) fail("lora_linear", "a group has at least one linear");
  if (dy.size() != parts.size()) fail("lora_linear", cat(dy.size(), " dy were given for ", parts.size(), " linears"));
}

void check_backward(const std::vector<at::Tensor>& dy, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  check_arguments(x, parts);
  for (std::size_t i = 0; i < parts.size(); ++i) check_gradient(dy[i], x, parts[i]);
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

at::Tensor empty_low(std::int64_t rows, std::int64_t rank, const at::Tensor& like) {
  const std::int64_t padded = low_rank_stride(rank, like.scalar_type());
  if (rank == padded) return at::empty({rows, rank}, like.options());
  return at::zeros({rows, padded}, like.options()).narrow(1, 0, rank);
}

at::Tensor low_rank_input(const at::Tensor& x, const LoraPart& part) {
  return part.saved != nullptr ? dropped(x, *part.adapter, part.saved->dropout_seed) : x;
}

// X as codes, when a part wants them.
std::optional<cpu::Int8Rows> int8_input(const at::Tensor& x, const std::vector<LoraPart>& parts) {
  const bool wanted = std::any_of(parts.begin(), parts.end(), [](const LoraPart& part) { return int8_of(part) != nullptr; });
  return wanted ? std::optional(cpu::int8_rows(x)) : std::nullopt;
}

// W as numbers.
at::Tensor numbers(const LoraPart& part, at::ScalarType type) {
  const Nf4Weight* const nf4 = nf4_of(part);
  return nf4 != nullptr ? nf4->values(type) : part.weight;
}

// With the library's products: a pass over y for each.
void library_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  const auto codes = int8_input(x, parts);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    at::Tensor out = y[i];
    if (const Int8Weight* int8 = int8_of(part))
      cpu::multiply({{.out = out, .transposed = true, .terms = {}, .bias = part.bias, .int8 = {{&*codes, &int8->forward}}}});
    else if (part.bias.defined())
      at::addmm_out(out, part.bias, x, numbers(part, x.scalar_type()).t());
    else
      at::mm_out(out, x, numbers(part, x.scalar_type()).t());
    if (part.adapter == nullptr) continue;
    at::Tensor s = at::mm(low_rank_input(x, part), part.adapter->a.to(x.scalar_type()).t());
    s.mul_(part.adapter->scale);
    out.addmm_(s, part.adapter->b.to(x.scalar_type()).t());
    if (part.saved != nullptr) part.saved->s = s;
  }
}

void own_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  std::vector<cpu::Product> low, whole;
  const auto codes = int8_input(x, parts);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    whole.push_back({y[i], /*transposed=*/true, {}, part.bias});
    if (const Int8Weight* int8 = int8_of(part))
      whole.back().int8.push_back({&*codes, &int8->forward});
    else
      whole.back().terms.push_back({x, part.weight, nf4_of(part)});
    if (part.adapter == nullptr) continue;
    const at::Tensor s = empty_low(x.size(0), part.adapter->a.size(0), x);
    low.push_back({.out = s,
                   .transposed = true,
                   .terms = {{low_rank_input(x, part), part.adapter->a.to(x.scalar_type())}},
                   .scale = part.adapter->scale});
    whole.back().terms.push_back({s, part.adapter->b.to(x.scalar_type()), nullptr, s.stride(0)});
    if (part.saved != nullptr) part.saved->s = s;
  }
  cpu::multiply(low);
  cpu::multiply(whole);
}

// dx: written when it is defined; then input makes X of it. With the library's products.
void library_backward(const std::vector<at::Tensor>& dy, const std::vector<LoraPart>& parts, at::Tensor dx,
                      const InputFromGradient& input) {
  const at::ScalarType type = dy.front().scalar_type();
  std::vector<at::Tensor> ds(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    const bool need_dx = dx.defined(), add = i > 0;
    if (const Int8Weight* const int8 = int8_of(part); need_dx && int8 != nullptr) {
      const cpu::Int8Rows codes = cpu::int8_rows(dy[i]);
      cpu::multiply({{.out = dx, .transposed = false, .terms = {}, .add = add, .int8 = {{&codes, &int8->backward}}}});
    } else if (need_dx && add) {
      dx.addmm_(dy[i], numbers(part, type));
    } else if (need_dx) {
      at::mm_out(dx, dy[i], numbers(part, type));
    }
    if (part.adapter == nullptr) continue;
    LowRank& adapter = *part.adapter;
    ds[i] = at::mm(dy[i], adapter.b.to(type)).mul_(adapter.scale);
    adapter.grad_b.add_(outer_sum(part.saved->s, dy[i]).t());
    if (!need_dx) continue;
    const at::Tensor a = adapter.a.to(type);
    if (adapter.dropout == 0)
      dx.addmm_(ds[i], a);
    else
      dx.add_(dropped(at::mm(ds[i], a), adapter, part.saved->dropout_seed));
  }
  const at::Tensor x = input(dx);
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (ds[i].defined()) parts[i].adapter->grad_a.add_(outer_sum(ds[i], low_rank_input(x, parts[i])));
}

void own_backward(const std::vector<at::Tensor>& dy, const std::vector<LoraPart>& parts, at::Tensor dx,
                  const InputFromGradient& input) {
  const at::ScalarType type = dy.front().scalar_type();
  cpu::Product whole{dx, /*transposed=*/false, {}};
  std::vector<cpu::Product> low;
  std::vector<at::Tensor> ds(parts.size());
  std::deque<cpu::Int8Rows> codes;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    const Int8Weight* const int8 = int8_of(part);
    if (int8 == nullptr)
      whole.terms.push_back({dy[i], part.weight, nf4_of(part)});
    else if (dx.defined())
      whole.int8.push_back({&codes.emplace_back(cpu::int8_rows(dy[i])), &int8->backward});
    if (part.adapter == nullptr) continue;
    const LowRank& adapter = *part.adapter;
    ds[i] = empty_low(dy[i].size(0), adapter.a.size(0), dy[i]);
    low.push_back({.out = ds[i], .transposed = false, .terms = {{dy[i], adapter.b.to(type)}}, .scale = adapter.scale});
    if (adapter.dropout == 0) whole.terms.push_back({ds[i], adapter.a.to(type), nullptr, ds[i].stride(0)});
  }
  cpu::multiply(low);
  if (dx.defined()) cpu::multiply({whole});
  for (std::size_t i = 0; dx.defined() && i < parts.size(); ++i) {
    if (const LowRank* const adapter = parts[i].adapter; adapter != nullptr && adapter->dropout > 0)
      dx.add_(dropped(at::mm(ds[i], adapter->a.to(type)), *adapter, parts[i].saved->dropout_seed));
  }
  const at::Tensor x = input(dx);
  std::vector<cpu::FactorGradients> factors;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (const LowRank* const adapter = parts[i].adapter)
      factors.push_back({dy[i], parts[i].saved->s, ds[i], low_rank_input(x, parts[i]), adapter->grad_a, adapter->grad_b});
  }
  cpu::add(factors);
}

// y: of each part, or its gradient.
bool own_products(const at::Tensor& x, const std::vector<LoraPart>& parts, const std::vector<at::Tensor>& y) {
  return std::all_of(y.begin(), y.end(), [&](const at::Tensor& one) { return cpu::multiplies(x, one); }) &&
         std::all_of(parts.begin(), parts.end(),
                     [](const LoraPart& part) { return part.coded != nullptr || part.weight.stride(1) == 1; });
}

void group_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  if (device() != Device::cpu) return on_device::lora_group_forward(y, x, parts);
  (own_products(x, parts, y) ? own_forward : library_forward)(y, x, parts);
}

// like: of X's shape and type.
void group_backward(const std::vector<at::Tensor>& dy, const at::Tensor& like, const std::vector<LoraPart>& parts,
                    const at::Tensor& dx, const InputFromGradient& input) {
  if (device() != Device::cpu) return on_device::lora_group_backward(dy, parts, dx, input);
  (own_products(like, parts, dy) ? own_backward : library_backward)(dy, parts, dx, input);
}

}  // namespace

std::int64_t low_rank_stride(std::int64_t rank, at::ScalarType type) {
  const bool tiles = type == at::kBFloat16 && cpu::isa() == cpu::Isa::amx && device() == Device::cpu;
  return cpu::round_up(rank, tiles ? cpu::kTileDepth : 2);
}

std::vector<at::Tensor> lora_group_forward(const at::Tensor& x, const std::vector<LoraPart>& parts) {
  const c10::InferenceMode no_autograd;
  check_arguments(x, parts);
  std::vector<at::Tensor> y;
  for (const LoraPart& part : parts) y.push_back(at::empty({x.size(0), outputs(part)}, x.options()));
  group_forward(y, x, parts);
  return y;
}

at::Tensor lora_group_backward(const std::vector<at::Tensor>& dy, const at::Tensor& x, const std::vector<LoraPart>& parts,
                               bool need_dx) {
  const c10::InferenceMode no_autograd;
  check_group(dy, parts);
  check_backward(dy, x, parts);
  const at::Tensor dx = need_dx ? at::empty(x.sizes(), x.options()) : at::Tensor();
  group_backward(dy, x, parts, dx, [&](const at::Tensor&) { return x; });
  return dx;
}

void lora_group_backward(const std::vector<at::Tensor>& dy, const InputFromGradient& input, const std::vector<LoraPart>& parts) {
  const c10::InferenceMode no_autograd;
  check_group(dy, parts);
  check_dim("lora_linear", "dy", dy.front(), 2);
  const at::Tensor dx = at::empty({dy.front().size(0), inputs(parts.front())}, dy.front().options());
  check_backward(dy, dx, parts);
  group_backward(dy, dx, parts, dx, input);
}

at::Tensor lora_linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, LowRank* adapter,
                               LoraLinearSaved* saved) {
  return lora_group_forward(x, {{weight, bias, adapter, saved}}).front();
}

void lora_linear_forward_out(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             LowRank* adapter, LoraLinearSaved* saved) {
  const c10::InferenceMode no_autograd;
  const std::vector<LoraPart> parts = {{weight, bias, adapter, saved}};
  check_arguments(x, parts);
  check_shape("lora_linear", "y", y, {x.size(0), weight.size(0)}, "tokens by outputs");
  check_type("lora_linear", "y", y, x.scalar_type(), "the type of x");
  check_rows_dense("lora_linear", "y", y);
  group_forward({y}, x, parts);
}

at::Tensor lora_linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                LoraLinearSaved& saved, bool need_dx) {
  return lora_group_backward({dy}, x, {{weight, {}, adapter, &saved}}, need_dx);
}

}  // namespace graft::kernels
