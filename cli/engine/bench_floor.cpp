#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "cli/engine/bench.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace graft::cli {
namespace {

// Linears in the order of the forward, those of one input together: "model.layers.3.mlp.up_proj" -> 3 * 4 + 2.
std::int64_t place_of(const std::string& name) {
  const std::size_t at = name.find("layers.");
  if (at == std::string::npos) return std::int64_t{1} << 40;  // the head
  const std::int64_t layer = std::stoll(name.substr(at + 7));
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  return 4 * layer + (has("o_proj") ? 1 : has("self_attn") ? 0 : has("down") || has("w2") ? 3 : 2);
}

// Pairs of a query and a key it sees, of all n^2.
double seen(std::int64_t n, std::int64_t window) {
  const auto all = static_cast<double>(n), w = static_cast<double>(window > 0 ? std::min(window, n) : n);
  return (all * w - w * (w - 1) / 2) / (all * all);
}

}  // namespace

StepFloor::StepFloor(model::Decoder& decoder, const std::vector<data::Batch>& micro)
    : spec_(decoder.spec()), micro_(micro), type_(decoder.compute()) {
  std::int64_t lowest = std::int64_t{1} << 41;
  for (const model::Linear* linear : decoder.linears())
    if (linear->adapter != nullptr) lowest = std::min(lowest, place_of(linear->name));
  for (const model::Linear* linear : decoder.linears()) {
    if (linear->name == "lm_head")
      head_ = linear->weight;
    else
      linears_.push_back({linear->coded ? buffer(linear->out(), linear->in()) : linear->weight,
                          linear->adapter ? linear->adapter->a.size(0) : 0, place_of(linear->name) > lowest,
                          linear->name.find(".experts.") != std::string::npos});
  }
  if (!head_.defined()) head_ = at::full({spec_.vocab, spec_.hidden}, 0.01, at::TensorOptions(type_));
}

at::Tensor StepFloor::buffer(std::int64_t rows, std::int64_t columns) const {
  return at::full({rows, columns}, 0.01, at::TensorOptions(type_));
}

std::int64_t StepFloor::rows(const Shape& linear, std::int64_t tokens) const {
  return linear.expert ? (tokens * spec_.moe.per_token + spec_.moe.experts - 1) / spec_.moe.experts : tokens;
}

Cost StepFloor::frozen() const {
  std::map<std::pair<std::int64_t, std::int64_t>, at::Tensor> activations;
  const auto of = [&](std::int64_t rows, std::int64_t columns) -> at::Tensor& {
    at::Tensor& tensor = activations[{rows, columns}];
    if (!tensor.defined()) tensor = buffer(rows, columns);
    return tensor;
  };
  const std::int64_t chunk = kernels::linear_cross_entropy_chunk(spec_.vocab, static_cast<std::int64_t>(head_.element_size()));
  const auto products = [&](bool timed) {
    for (const data::Batch& batch : micro_) {
      const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
      for (const Shape& linear : linears_) {
        const std::int64_t m = rows(linear, tokens);
        at::Tensor &x = of(m, linear.weight.size(1)), &y = of(m, linear.weight.size(0));
        if (!timed) continue;
        at::mm_out(y, x, linear.weight.t());
        if (linear.need_dx) at::mm_out(x, y, linear.weight);
      }
      for (std::int64_t left = batch.trained_tokens(); left > 0; left -= chunk) {
        at::Tensor &x = of(std::min(left, chunk), spec_.hidden), &z = of(std::min(left, chunk), spec_.vocab);
        if (!timed) continue;
        at::mm_out(z, x, head_.t());
        at::mm_out(x, z, head_);
      }
    }
  };
  products(false);
  const Cost cost = cost_of([&] { products(true); });
  return cost;
}

Cost StepFloor::low_rank() const {
  Cost total;
  for (const data::Batch& batch : micro_) {
    for (const Shape& linear : linears_) {
      if (linear.rank == 0) continue;
      const std::int64_t m = rows(linear, static_cast<std::int64_t>(batch.tokens.size()));
      const std::int64_t k = linear.weight.size(1), n = linear.weight.size(0), r = linear.rank;
      at::Tensor x = buffer(m, k), y = buffer(m, n), s = buffer(m, r), a = buffer(r, k), b = buffer(n, r);
      const Cost cost = cost_of([&] {
        at::mm_out(s, x, a.t());
        at::mm_out(y, s, b.t());
        at::mm_out(s, y, b);
        at::mm_out(b, y.t(), s);
        at::mm_out(a, s.t(), x);
        if (linear.need_dx) at::mm_out(x, s, a);
      });
      total.wall += cost.wall;
      total.cpu += cost.cpu;
    }
  }
  return total;
}

Cost StepFloor::attention() const {
  Cost total;
  const std::int64_t heads = spec_.heads, d = spec_.head_dim;
  for (const data::Batch& batch : micro_) {
    for (std::size_t i = 0; i + 1 < batch.starts.size(); ++i) {
      const std::int64_t n = batch.starts[i + 1] - batch.starts[i];
      if (n == 0) continue;
      at::Tensor q = buffer(heads * n, d).view({heads, n, d}), k = q.clone(), out = q.clone();
      at::Tensor p = buffer(heads * n, n).view({heads, n, n});
      const Cost cost = cost_of([&] {
        at::bmm_out(p, q, k.transpose(1, 2));  // S; again in the backward, and dP
        at::bmm_out(p, q, k.transpose(1, 2));
        at::bmm_out(p, q, k.transpose(1, 2));
        at::bmm_out(out, p, k);  // O and dQ
        at::bmm_out(out, p, k);
        at::bmm_out(out, p.transpose(1, 2), q);  // dV and dK
        at::bmm_out(out, p.transpose(1, 2), q);
      });
      for (const auto& layer : spec_.layers) {
        total.wall += cost.wall * seen(n, layer.window);
        total.cpu += cost.cpu * seen(n, layer.window);
      }
    }
  }
  return total;
}

}  // namespace graft::cli
