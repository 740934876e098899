#include "eval/divergence.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/stop.h"

namespace graft::eval {
namespace {

constexpr std::int64_t kBlock = 2048;  // entries of the vocabulary whose logits are in memory

// (n, count) f32, of the entries from `begin` on.
at::Tensor logits(const Predictions& of, const at::Tensor& hidden, std::int64_t begin, std::int64_t count) {
  at::Tensor z = at::mm(hidden, of.head.narrow(0, begin, count).to(at::kFloat).t());
  if (of.adapter != nullptr)
    z.addmm_(at::mm(hidden, of.adapter->a.t()).mul_(of.adapter->scale), of.adapter->b.narrow(0, begin, count).t());
  if (of.softcap > 0) z.div_(of.softcap).tanh_().mul_(of.softcap);
  return z;
}

// The sums of one token over the vocabulary so far, both relative to the largest logit so far.
struct Sums {
  double largest = -std::numeric_limits<double>::infinity(), exponentials = 0;
  double gaps = 0;  // sum of exp(p_v) (p_v - q_v)

  void rescale(const float* z, std::int64_t n) {
    const double now = std::max<double>(largest, *std::max_element(z, z + n));
    const double factor = largest == now ? 1 : std::exp(largest - now);
    exponentials *= factor;
    gaps *= factor;
    largest = now;
  }
  double log_sum() const { return largest + std::log(exponentials); }
};

void add(Sums& p, Sums& q, const float* zp, const float* zq, std::int64_t n) {
  p.rescale(zp, n);
  q.rescale(zq, n);
  for (std::int64_t v = 0; v < n; ++v) {
    const double e = std::exp(zp[v] - p.largest);
    p.exponentials += e;
    if (e != 0) p.gaps += e * (static_cast<double>(zp[v]) - zq[v]);  // 0 (-inf - q) is 0
    q.exponentials += std::exp(zq[v] - q.largest);
  }
}

}  // namespace

Predictions predictions_of(model::Decoder& decoder, at::Tensor hidden) {
  const model::ModelSpec& spec = decoder.spec();
  if (spec.tied_head) return {std::move(hidden), decoder.embedding(), nullptr, spec.final_softcap};
  const model::Linear& head = *decoder.linears().back();
  return {std::move(hidden), head.weight, head.adapter, spec.final_softcap};
}

double divergence(const Predictions& p, const Predictions& q) {
  const std::int64_t tokens = p.hidden.size(0), vocabulary = p.head.size(0);
  if (q.hidden.size(0) != tokens || q.head.size(0) != vocabulary)
    throw std::logic_error("the predictions compared are of different tokens or vocabularies");
  const at::Tensor hp = p.hidden.to(at::kFloat), hq = q.hidden.to(at::kFloat);
  std::vector<Sums> sp(static_cast<std::size_t>(tokens)), sq(sp.size());
  for (std::int64_t begin = 0; begin < vocabulary; begin += kBlock) {
    throw_if_stopped();
    const std::int64_t count = std::min(kBlock, vocabulary - begin);
    const at::Tensor zp = logits(p, hp, begin, count), zq = logits(q, hq, begin, count);
    const float *of_p = zp.const_data_ptr<float>(), *of_q = zq.const_data_ptr<float>();
    at::parallel_for(0, tokens, 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t t = first; t < last; ++t)
        add(sp[static_cast<std::size_t>(t)], sq[static_cast<std::size_t>(t)], of_p + t * count, of_q + t * count, count);
    });
  }
  double sum = 0;
  for (std::size_t t = 0; t < sp.size(); ++t) sum += sp[t].gaps / sp[t].exponentials - sp[t].log_sum() + sq[t].log_sum();
  return sum / static_cast<double>(tokens);
}

}  // namespace graft::eval
