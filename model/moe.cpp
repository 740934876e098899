// Mixture of experts (Jiang et al. 2024, arXiv:2401.04088, 2.1): a frozen router sends each token to its per_token best experts.
//
//   p = softmax(x R^T), all in f32;  c = the largest per_token of p;  w = p_c, divided by their sum when normalize_weights
//   y = sum over c of w expert_c(x)
//   backward: dw = <dy, expert(x)>;  through the normalisation dp_c = (dw - <dw, w>) / sum;  dlogits = p (dp - <dp, p>);
//             dx = dlogits R + sum of the experts' dx
//
// Rows of one expert are gathered, so that each expert is two or three products; sums over experts go in the order of experts.
#include <ATen/ATen.h>

#include "kernels/device.h"
#include "model/decoder_impl.h"

namespace graft::model {

at::Tensor DecoderImpl::moe_forward(const Layer& layer, const at::Tensor& x, const Pass& pass, MoeSaved& saved) const {
  kernels::wait_for_device();  // all but the experts' layers is the host's
  // In f32 also when x is bf16: a rounded logit turns near ties, and another expert is another token.
  saved.probability = at::softmax(at::mm(x.to(at::kFloat), layer.router.to(at::kFloat).t()), -1);
  std::tie(saved.weight, saved.chosen) = saved.probability.topk(spec_.moe.per_token, -1);
  if (spec_.moe.normalize_weights) {
    saved.sum = saved.weight.sum(-1, /*keepdim=*/true);
    saved.weight.div_(saved.sum);
  }
  at::Tensor y = at::zeros_like(x);
  saved.experts.assign(layer.experts.size(), {});
  for (std::size_t e = 0; e < layer.experts.size(); ++e) {
    ExpertSaved& expert = saved.experts[e];
    const at::Tensor places = saved.chosen.eq(static_cast<std::int64_t>(e)).nonzero();
    if (places.size(0) == 0) continue;
    expert.token = places.select(1, 0).contiguous();
    expert.slot = places.select(1, 1).contiguous();
    expert.x = x.index_select(0, expert.token);
    expert.out = mlp_forward(layer.experts[e], expert.x, pass, expert.mlp);
    kernels::wait_for_device();
    const at::Tensor weight = saved.weight.index({expert.token, expert.slot}).unsqueeze(1).to(x.scalar_type());
    y.index_add_(0, expert.token, expert.out * weight);
  }
  return y;
}

at::Tensor DecoderImpl::moe_backward(const Layer& layer, const at::Tensor& dy, const at::Tensor& x, const Pass& pass,
                                     MoeSaved& saved) const {
  const bool need_dx = pass.lowest < place(layer.index, Stage::gate_up);
  kernels::wait_for_device();
  at::Tensor dx = need_dx ? at::zeros_like(x) : at::Tensor();
  at::Tensor dweight = at::zeros_like(saved.weight);
  for (std::size_t e = 0; e < layer.experts.size(); ++e) {
    ExpertSaved& expert = saved.experts[e];
    if (!expert.token.defined()) continue;
    const at::Tensor weight = saved.weight.index({expert.token, expert.slot}).unsqueeze(1).to(x.scalar_type());
    const at::Tensor dout = dy.index_select(0, expert.token);
    if (need_dx) dweight.index_put_({expert.token, expert.slot}, (dout * expert.out).sum(-1, false, at::kFloat));
    const at::Tensor dexpert = mlp_backward(layer.index, layer.experts[e], dout * weight, expert.x, pass, expert.mlp);
    kernels::wait_for_device();
    if (need_dx) dx.index_add_(0, expert.token, dexpert);
  }
  if (!need_dx) return {};
  if (spec_.moe.normalize_weights) {
    dweight = (dweight - (dweight * saved.weight).sum(-1, true)).div_(saved.sum);
  }
  const at::Tensor dprobability = at::zeros_like(saved.probability).scatter_(-1, saved.chosen, dweight);
  const at::Tensor& p = saved.probability;
  const at::Tensor dlogits = p * (dprobability - (dprobability * p).sum(-1, true));
  return dx.addmm_(dlogits.to(x.scalar_type()), layer.router);
}

}  // namespace graft::model
