#include "kernels/lora_linear/lora_linear_device.h"

#include <ATen/ATen.h>

#include "kernels/launchers.h"
#include "kernels/lora_linear/coded_weight.h"
#include "kernels/lora_linear/outer_sum.h"

namespace graft::kernels::on_device {
namespace {

constexpr std::int64_t kMostRank = 64;

bool has_low_rank(const at::Tensor& x, std::int64_t rank) { return x.scalar_type() == at::kBFloat16 && rank <= kMostRank; }

// y = D(x), or y += D(x).
void dropout(const at::Tensor& x, at::Tensor y, const LowRank& adapter, std::uint64_t seed, bool add) {
  const Lent lent{x, y};
  const cuda::Dropout arguments{.x = x.const_data_ptr(),
                                .y = y.mutable_data_ptr(),
                                .x_stride = x.stride(0),
                                .y_stride = y.stride(0),
                                .rows = x.size(0),
                                .columns = x.size(1),
                                .seed = seed,
                                .probability = adapter.dropout,
                                .add = add};
  check_launch("graft_dropout", launchers().dropout(device_type(x), arguments, nullptr));
}

at::Tensor dropped(const at::Tensor& x, const LowRank& adapter, std::uint64_t seed) {
  if (adapter.dropout == 0) return x;
  at::Tensor y = at::empty(x.sizes(), x.options());
  dropout(x, y, adapter, seed, /*add=*/false);
  return y;
}

// scale x a^T, for a (r, K)
at::Tensor shrink(const at::Tensor& x, const at::Tensor& a, double scale) {
  if (!has_low_rank(x, a.size(0))) return at::mm(x, a.t()).mul_(scale);
  at::Tensor s = at::empty({x.size(0), a.size(0)}, x.options());
  const Lent lent{x, a, s};
  const cuda::Shrink arguments{.x = x.const_data_ptr(),
                               .a = a.const_data_ptr(),
                               .s = s.mutable_data_ptr(),
                               .x_stride = x.stride(0),
                               .a_stride = a.stride(0),
                               .s_stride = s.stride(0),
                               .rows = x.size(0),
                               .columns = x.size(1),
                               .rank = a.size(0),
                               .scale = static_cast<float>(scale)};
  check_launch("graft_shrink", launchers().shrink(arguments, nullptr));
  return s;
}

// out += narrow^T wide, for out (r, C), or its transpose, for out (C, r)
void add_outer_sum(const at::Tensor& narrow, const at::Tensor& wide, at::Tensor out, bool transposed) {
  const std::int64_t rank = narrow.size(1), columns = wide.size(1), splits = cuda::outer_sum_splits(narrow.size(0));
  if (!has_low_rank(narrow, rank)) {
    const at::Tensor sum = outer_sum(narrow, wide);
    out.add_(transposed ? sum.t() : sum);
    return;
  }
  const at::Tensor partial = at::empty({splits, rank, columns}, out.options());
  const Lent lent{narrow, wide, partial, out};
  const cuda::OuterSum arguments{.narrow = narrow.const_data_ptr(),
                                 .wide = wide.const_data_ptr(),
                                 .partial = partial.mutable_data_ptr<float>(),
                                 .out = out.mutable_data_ptr<float>(),
                                 .narrow_stride = narrow.stride(0),
                                 .wide_stride = wide.stride(0),
                                 .out_stride = out.stride(0),
                                 .rows = narrow.size(0),
                                 .rank = rank,
                                 .columns = columns,
                                 .splits = splits,
                                 .transposed = transposed};
  check_launch("graft_outer_sum", launchers().outer_sum(arguments, nullptr));
}

// W as numbers: in memory of its own for as long as its product takes.
at::Tensor numbers(const LoraPart& part, at::ScalarType type) {
  if (part.coded == nullptr) return part.weight;
  const Nf4Weight& nf4 = *part.coded->nf4();
  const at::Tensor weight = at::empty({nf4.out(), nf4.in()}, type), map = nf4_scale_levels(),
                   offset = at::full({1}, nf4.offset, at::kFloat);
  const Lent lent{weight, nf4.codes, nf4.scales, nf4.group_scales, offset, map};
  const cuda::Nf4Dequantize arguments{.codes = nf4.codes.const_data_ptr<std::uint8_t>(),
                                      .scales8 = nf4.scales.const_data_ptr<std::uint8_t>(),
                                      .group_scales = nf4.group_scales.const_data_ptr<float>(),
                                      .offset = offset.const_data_ptr<float>(),
                                      .map = map.const_data_ptr<float>(),
                                      .weight = weight.mutable_data_ptr(),
                                      .stride = weight.stride(0),
                                      .rows = nf4.out(),
                                      .columns = nf4.in()};
  check_launch("graft_nf4_dequantize", launchers().nf4_dequantize(device_type(weight), arguments, nullptr));
  return weight;
}

at::Tensor low_rank_input(const at::Tensor& x, const LoraPart& part) {
  return part.saved != nullptr ? dropped(x, *part.adapter, part.saved->dropout_seed) : x;
}

}  // namespace

void lora_group_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    at::Tensor out = y[i];
    if (part.bias.defined())
      at::addmm_out(out, part.bias, x, numbers(part, x.scalar_type()).t());
    else
      at::mm_out(out, x, numbers(part, x.scalar_type()).t());
    if (part.adapter == nullptr) continue;
    const at::Tensor s = shrink(low_rank_input(x, part), part.adapter->a.to(x.scalar_type()), part.adapter->scale);
    out.addmm_(s, part.adapter->b.to(x.scalar_type()).t());
    if (part.saved != nullptr) part.saved->s = s;
  }
}

at::Tensor lora_group_backward(const std::vector<at::Tensor>& dy, const at::Tensor& x, const std::vector<LoraPart>& parts,
                               bool need_dx) {
  at::Tensor dx;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    if (need_dx && dx.defined())
      dx.addmm_(dy[i], numbers(part, x.scalar_type()));
    else if (need_dx)
      dx = at::mm(dy[i], numbers(part, x.scalar_type()));
    if (part.adapter == nullptr) continue;
    LowRank& adapter = *part.adapter;
    const at::Tensor ds = shrink(dy[i], adapter.b.to(x.scalar_type()).t().contiguous(), adapter.scale);
    add_outer_sum(part.saved->s, dy[i], adapter.grad_b, /*transposed=*/true);
    add_outer_sum(ds, low_rank_input(x, part), adapter.grad_a, /*transposed=*/false);
    if (!need_dx) continue;
    const at::Tensor a = adapter.a.to(x.scalar_type());
    if (adapter.dropout == 0)
      dx.addmm_(ds, a);
    else
      dropout(at::mm(ds, a), dx, adapter, part.saved->dropout_seed, /*add=*/true);
  }
  return dx;
}

}  // namespace graft::kernels::on_device
