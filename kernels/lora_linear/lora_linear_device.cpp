#include "kernels/lora_linear/lora_linear_device.h"

#include <ATen/ATen.h>

#include "kernels/copy_rows/copy_rows.h"
#include "kernels/gemm/gemm_device.h"
#include "kernels/launchers.h"
#include "kernels/lora_linear/coded_weight.h"

namespace graft::kernels::on_device {
namespace {

constexpr std::int64_t kMostRank = 64;

// What low_rank_cuda.h has; other products are the library's.
bool has_low_rank(const at::Tensor& x, std::int64_t rank) { return x.scalar_type() == at::kBFloat16 && rank <= kMostRank; }

// y = D(x), or y += D(x).
void dropout(const at::Tensor& x, at::Tensor y, const LowRank& adapter, std::uint64_t seed, bool add) {
  const cuda::Dropout arguments{.x = x.const_data_ptr(),
                                .y = y.mutable_data_ptr(),
                                .x_stride = x.stride(0),
                                .y_stride = y.stride(0),
                                .rows = x.size(0),
                                .columns = x.size(1),
                                .seed = seed,
                                .probability = adapter.dropout,
                                .add = add};
  check_launch("graft_dropout", launchers().dropout(device_type(x), arguments, stream()));
}

at::Tensor dropped(const at::Tensor& x, const LowRank& adapter, std::uint64_t seed) {
  if (adapter.dropout == 0) return x;
  at::Tensor y = at::empty(x.sizes(), x.options());
  dropout(x, y, adapter, seed, /*add=*/false);
  return y;
}

// scale x a^T, for a (r, K)
at::Tensor shrink(const at::Tensor& x, const at::Tensor& a, double scale) {
  at::Tensor s = at::empty({x.size(0), a.size(0)}, x.options());
  if (!has_low_rank(x, a.size(0))) return multiply(s, x, a, /*transposed=*/true, scale), s;
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
  check_launch("graft_shrink", launchers().shrink(arguments, stream()));
  return s;
}

// out += narrow^T wide, for out (r, C), or its transpose, for out (C, r)
void add_outer_sum(const at::Tensor& narrow, const at::Tensor& wide, at::Tensor out, bool transposed) {
  const std::int64_t rank = narrow.size(1), columns = wide.size(1), splits = cuda::outer_sum_splits(narrow.size(0));
  if (!has_low_rank(narrow, rank)) return add_outer_product(out, narrow, wide, transposed);
  const at::Tensor partial = at::empty({splits, rank, columns}, out.options());
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
  check_launch("graft_outer_sum", launchers().outer_sum(arguments, stream()));
}

// W as numbers: in memory of its own for as long as its product takes.
at::Tensor numbers(const LoraPart& part, at::ScalarType type) {
  if (part.coded == nullptr) return part.weight;
  const Nf4Weight& nf4 = *part.coded->nf4();
  const at::Tensor weight = at::empty({nf4.out(), nf4.in()}, type);
  const auto* const map = nf4.scale_map.const_data_ptr<float>();
  const cuda::Nf4Dequantize arguments{.codes = nf4.codes.const_data_ptr<std::uint8_t>(),
                                      .scales8 = nf4.scales.const_data_ptr<std::uint8_t>(),
                                      .group_scales = nf4.group_scales.const_data_ptr<float>(),
                                      .offset = map + nf4.scale_map.size(0) - 1,
                                      .map = map,
                                      .weight = weight.mutable_data_ptr(),
                                      .stride = weight.stride(0),
                                      .rows = nf4.out(),
                                      .columns = nf4.in()};
  check_launch("graft_nf4_dequantize", launchers().nf4_dequantize(device_type(weight), arguments, stream()));
  return weight;
}

at::Tensor low_rank_input(const at::Tensor& x, const LoraPart& part) {
  return part.saved != nullptr ? dropped(x, *part.adapter, part.saved->dropout_seed) : x;
}

}  // namespace

void lora_group_forward(const std::vector<at::Tensor>& y, const at::Tensor& x, const std::vector<LoraPart>& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    const bool bias = part.bias.defined();
    if (bias) copy_rows(y[i], part.bias.unsqueeze(0).expand(y[i].sizes()));
    multiply(y[i], x, numbers(part, x.scalar_type()), /*transposed=*/true, 1, bias ? 1 : 0);
    if (part.adapter == nullptr) continue;
    const LowRank& adapter = *part.adapter;
    const at::Tensor s = shrink(low_rank_input(x, part), to_type(adapter.a, x.scalar_type()), adapter.scale);
    multiply(y[i], s, to_type(adapter.b, x.scalar_type()), /*transposed=*/true, 1, 1);
    if (part.saved != nullptr) part.saved->s = s;
  }
}

void lora_group_backward(const std::vector<at::Tensor>& dy, const std::vector<LoraPart>& parts, at::Tensor dx,
                         const InputFromGradient& input) {
  const at::ScalarType type = dy.front().scalar_type();
  std::vector<at::Tensor> ds(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const LoraPart& part = parts[i];
    if (dx.defined()) multiply(dx, dy[i], numbers(part, type), /*transposed=*/false, 1, i == 0 ? 0 : 1);
    if (part.adapter == nullptr) continue;
    LowRank& adapter = *part.adapter;
    ds[i] = at::empty(part.saved->s.sizes(), dy[i].options());
    multiply(ds[i], dy[i], to_type(adapter.b, type), /*transposed=*/false, adapter.scale);
    add_outer_sum(part.saved->s, dy[i], adapter.grad_b, /*transposed=*/true);
    if (!dx.defined()) continue;
    const at::Tensor a = to_type(adapter.a, type);
    if (adapter.dropout == 0) {
      multiply(dx, ds[i], a, /*transposed=*/false, 1, 1);
      continue;
    }
    const at::Tensor through = at::empty(dx.sizes(), dx.options());
    multiply(through, ds[i], a, /*transposed=*/false);
    dropout(through, dx, adapter, part.saved->dropout_seed, /*add=*/true);
  }
  const at::Tensor x = input(dx);
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (ds[i].defined()) add_outer_sum(ds[i], low_rank_input(x, parts[i]), parts[i].adapter->grad_a, /*transposed=*/false);
}

}  // namespace graft::kernels::on_device
