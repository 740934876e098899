// Training on the weights that will be served: what the forward computes, what the gradients are, when it begins.
#include "train/merge_aware.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/lora_linear/lora_linear.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_model.h"

namespace graft::train {
namespace {

using namespace graft::testing;

constexpr std::int64_t kTokens = 40;

// To 15 values per row, as coarse as formats are.
at::Tensor rounded(const at::Tensor& rows) {
  const at::Tensor step = rows.abs().amax(1, true) / 7;
  return (rows / step).round() * step;
}

// Two layers whose MLP has more rows than one thread rounds at a time, with an adapter on all linears but one layer's MLP.
struct Model {
  TinyModel source;
  std::unique_ptr<model::Decoder> decoder;
  std::unique_ptr<lora::AdapterSet> adapters;
  model::Packed batch{(at::arange(kTokens) * 13).remainder(61), at::arange(kTokens), {0, kTokens}};
  at::Tensor labels = (at::arange(kTokens) * 13 + 13).remainder(61);
  std::vector<std::string> asked;  // names of tensors

  explicit Model(at::ScalarType compute = at::kFloat, double dropout = 0, bool tied_head = false)
      : source(spec(tied_head), 7),
        decoder(model::Decoder::load(source, compute, compute)),
        adapters(lora::create({.rank = 4, .alpha = 8, .dropout = dropout, .target_modules = {"self_attn.*", "layers.1.mlp.*"}},
                              *decoder, 1)) {
    adapters->parameters.copy_(random(adapters->parameters.sizes(), 3, at::kFloat, 0.1));
    lora::attach(*adapters, *decoder);
  }
  static model::ModelSpec spec(bool tied_head) {
    model::ModelSpec spec = tiny_spec();
    spec.ffn = 300;
    spec.tied_head = tied_head;
    return spec;
  }
  MergeAware merge_aware(std::int64_t first) {
    return {[this](const model::TensorSpec& tensor, std::int64_t begin, const at::Tensor& rows) {
              CHECK(begin == 0);
              asked.push_back(tensor.name);
              return rounded(rows);
            },
            first,
            source,
            decoder->compute(),
            *adapters,
            *decoder};
  }
  // What a server has.
  at::Tensor served(const std::string& module) const {
    return rounded(lora::merged_rows(*adapters, module, 0, source.load(module + ".weight", decoder->compute()).to(at::kFloat)));
  }
  // The same model with those weights and no adapter, written without the class under test.
  std::unique_ptr<model::Decoder> server(at::ScalarType compute = at::kFloat) const {
    auto other = model::Decoder::load(source, decoder->compute(), compute);
    for (model::Linear* linear : other->linears()) linear->weight.copy_(served(linear->name));
    other->embedding().copy_(rounded(other->embedding()));
    return other;
  }
};

}  // namespace

TEST_CASE("the phase is the last share of the steps", "[train][merge_aware]") {
  TrainConfig config;
  config.merge_aware = {.format = "any", .share = 0.3};
  CHECK(steps_before_merge_aware(config, 175) == 175 - 53);  // 52.5
  CHECK(steps_before_merge_aware(config, 1) == 0);
  config.merge_aware.share = 1;
  CHECK(steps_before_merge_aware(config, 40) == 0);
  config.merge_aware.share = 0.001;
  CHECK(steps_before_merge_aware(config, 40) == 39);
}

TEST_CASE("the forward is that of the rounded merged weights", "[train][merge_aware]") {
  const bool tied_head = GENERATE(false, true);
  Model model(at::kFloat, 0, tied_head);
  MergeAware merge_aware = model.merge_aware(5);
  const at::Tensor before = model.decoder->logits(model.batch);
  merge_aware.follow(4);
  CHECK(same_bits(model.decoder->logits(model.batch), before));
  CHECK(model.asked.empty());

  merge_aware.follow(5);
  const at::Tensor served = model.server()->logits(model.batch);
  CHECK(relative_error(model.decoder->logits(model.batch), served) < 2e-6);
  CHECK(relative_error(before, served) > 0.01);  // it is not nothing

  // New parameters: matrices with an adapter are rounded anew, others are as they were, and the same step does nothing.
  model.asked.clear();
  merge_aware.follow(5);
  CHECK(model.asked.empty());
  model.adapters->parameters.mul_(-1.5);
  merge_aware.follow(6);
  CHECK(std::count(model.asked.begin(), model.asked.end(), "model.embed_tokens.weight") == 0);
  CHECK(std::count(model.asked.begin(), model.asked.end(), "model.layers.0.mlp.up_proj.weight") == 0);
  CHECK(std::count(model.asked.begin(), model.asked.end(), "model.layers.1.mlp.up_proj.weight") == 1);
  CHECK(relative_error(model.decoder->logits(model.batch), model.server()->logits(model.batch)) < 2e-6);

  // What one process reached in two steps, another reaches in one: only the parameters count.
  Model other(at::kFloat, 0, tied_head);
  other.adapters->parameters.copy_(model.adapters->parameters);
  other.merge_aware(5).follow(6);
  CHECK(same_bits(other.decoder->logits(other.batch), model.decoder->logits(model.batch)));
}

// Matrices of more than 2^22 values are rounded in pieces.
TEST_CASE("a large matrix is rounded in pieces that begin where they say", "[train][merge_aware]") {
  model::ModelSpec spec = tiny_spec();
  spec.vocab = 180000;
  const TinyModel source(spec, 7);
  const auto decoder = model::Decoder::load(source, at::kFloat, at::kFloat);
  const auto adapters = lora::create({.rank = 2, .target_modules = {"q_proj"}}, *decoder, 1);
  lora::attach(*adapters, *decoder);
  const at::Tensor before = decoder->embedding().clone();
  std::vector<std::int64_t> begins;
  MergeAware merge_aware(
      [&](const model::TensorSpec& tensor, std::int64_t begin, const at::Tensor& rows) {
        if (tensor.name == "model.embed_tokens.weight") begins.push_back(begin);
        return rows + static_cast<double>(begin);
      },
      0, source, at::kFloat, *adapters, *decoder);
  merge_aware.follow(0);
  CHECK(begins == std::vector<std::int64_t>{0, 174720});  // 2^22 / 24 columns, down to a multiple of 128
  CHECK(at::equal(decoder->embedding().narrow(0, 0, 174720), before.narrow(0, 0, 174720)));
  CHECK(at::equal(decoder->embedding().narrow(0, 174720, 5280), before.narrow(0, 174720, 5280) + 174720.0));
}

// In bf16 the weights that the forward sees are bf16(Q - s B A) + bf16(s B A): as far from Q as a server's bf16(Q) is.
TEST_CASE("in bf16 the forward is as close to the rounded weights as a server in bf16", "[train][merge_aware]") {
  Model model(at::kBFloat16);
  model.merge_aware(0).follow(0);
  const at::Tensor exact = model.server(at::kFloat)->logits(model.batch);
  const double plain = relative_error(model.server(at::kBFloat16)->logits(model.batch), exact);
  const double own = relative_error(model.decoder->logits(model.batch), exact);
  INFO(own << ", a server " << plain);
  CHECK(plain > 0);
  CHECK(own < 2 * plain);
}

// Each linear against the formulas in double precision, with Q's own gradient taken to be 1.
TEST_CASE("gradients pass through the rounding", "[train][merge_aware]") {
  Model model;
  model.merge_aware(0).follow(0);
  for (model::Linear* linear : model.decoder->linears()) {
    INFO(linear->name);
    const std::int64_t in = linear->weight.size(1), out = linear->weight.size(0);
    const at::Tensor x = random({kTokens, in}, 11), dy = random({kTokens, out}, 12);
    const at::Tensor q = model.served(linear->name).to(at::kDouble), x64 = x.to(at::kDouble), dy64 = dy.to(at::kDouble);
    kernels::LoraLinearSaved saved;
    CHECK(relative_error(kernels::lora_linear_forward(x, linear->weight, {}, linear->adapter, &saved), x64.mm(q.t())) < 2e-6);
    if (linear->adapter == nullptr) continue;
    kernels::LowRank& low_rank = *linear->adapter;
    low_rank.grad_a.zero_();
    low_rank.grad_b.zero_();
    const at::Tensor dx = kernels::lora_linear_backward(dy, x, linear->weight, &low_rank, saved, true);
    const at::Tensor a = low_rank.a.to(at::kDouble), b = low_rank.b.to(at::kDouble), dq = dy64.t().mm(x64);
    CHECK(relative_error(dx, dy64.mm(q)) < 2e-6);
    CHECK(relative_error(low_rank.grad_b, dq.mm(a.t()) * low_rank.scale) < 2e-6);
    CHECK(relative_error(low_rank.grad_a, b.t().mm(dq) * low_rank.scale) < 2e-6);
  }
}

// The whole model against differences of the loss of a server whose weights are moved: the derivative along the gradient g of a
// tensor is |g|. Sums of losses are exact to some 5e-5, quotients to 1e-2.
TEST_CASE("the model's gradients are the slopes of the served model's loss", "[train][merge_aware]") {
  Model model;
  model.merge_aware(0).follow(0);
  model.adapters->gradients.zero_();
  const double sum = model.decoder->train_step(model.batch, model.labels, 1, model::Recompute::none, 0).sum;
  const auto server = model.server();
  CHECK(sum == Approx(server->loss(model.batch, model.labels, false).sum).epsilon(1e-6));
  for (model::Linear* linear : server->linears()) {
    const lora::Adapter* adapter = model.adapters->find(linear->name);
    if (adapter == nullptr) continue;
    INFO(linear->name);
    const kernels::LowRank& low_rank = adapter->low_rank;
    const auto slope = [&](const at::Tensor& moved) {  // of the weight, per unit of the parameter
      const at::Tensor kept = linear->weight.clone();
      constexpr double h = 4e-3;
      double losses[2];
      for (const int side : {0, 1}) {
        linear->weight.copy_(kept + moved * (side == 0 ? h : -h));
        losses[side] = server->loss(model.batch, model.labels, false).sum;
      }
      linear->weight.copy_(kept);
      return (losses[0] - losses[1]) / (2 * h);
    };
    const double size_a = low_rank.grad_a.norm().item<double>(), size_b = low_rank.grad_b.norm().item<double>();
    CHECK(size_a > 0.1);
    CHECK(slope(low_rank.b.mm(low_rank.grad_a / size_a) * low_rank.scale) == Approx(size_a).epsilon(0.01).margin(0.02));
    CHECK(slope((low_rank.grad_b / size_b).mm(low_rank.a) * low_rank.scale) == Approx(size_b).epsilon(0.01).margin(0.02));
  }
}

TEST_CASE("dropout is off in the phase, and a weight that the format cannot hold is named", "[train][merge_aware]") {
  Model model(at::kFloat, 0.5);
  MergeAware merge_aware = model.merge_aware(1);
  const auto loss = [&](std::uint64_t seed) {
    return model.decoder->train_step(model.batch, model.labels, 1, model::Recompute::none, seed).sum;
  };
  merge_aware.follow(0);
  CHECK(loss(1) != loss(2));
  merge_aware.follow(1);
  CHECK(loss(1) == loss(2));
  CHECK(loss(1) == Approx(model.server()->loss(model.batch, model.labels, false).sum).epsilon(1e-6));

  MergeAware failing({[](const model::TensorSpec&, std::int64_t, const at::Tensor&) -> at::Tensor { throw DataError("no"); }}, 0,
                     model.source, at::kFloat, *model.adapters, *model.decoder);
  CHECK(message_of([&] { failing.follow(0); }) == "merge-aware training, tensor model.embed_tokens.weight: no");
}

}  // namespace graft::train
