// BasePrecision. int8: near the full model in loss and gradients, the same bits twice. nf4: the model whose weights are what the
// codes stand for.
#include <cmath>

#include "model/decoder.h"
#include "tests/support/as_numbers.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"
#include "tests/support/plain_inputs.h"
#include "tests/support/tensors.h"

namespace graft::model {
namespace {

using namespace graft::testing;

struct Step {
  double loss = 0;
  at::Tensor gradients;
};

Step step(const Golden& golden, Decoder& decoder, Recompute recompute = Recompute::none) {
  const LowRanks adapters = golden.attach(decoder);
  const double scale = 1 / golden.labels.ne(-100).sum().item<double>();
  Step result;
  result.loss = decoder.train_step(golden.batch, golden.labels, scale, recompute, 0).sum * scale;
  std::vector<at::Tensor> parts;
  for (const auto& adapter : adapters)
    for (const at::Tensor& gradient : {adapter->grad_a, adapter->grad_b}) parts.push_back(gradient.flatten());
  result.gradients = at::cat(parts);
  for (Linear* linear : decoder.linears()) linear->adapter = nullptr;
  return result;
}

// Rounding n values of a normal distribution to 127 steps of their largest, about sqrt(2 ln n) deviations, moves them by
// sqrt(2 ln n) / (127 sqrt(12)) of their norm; a product sees that of both sides. How much that means for a gradient depends on
// the model: it is asked by moving every weight as much, at random, and computing as before.
void perturb(Decoder& decoder) {
  std::uint64_t seed = 0;
  for (Linear* linear : decoder.linears()) {
    if (linear->name == "lm_head") continue;
    const double share = std::sqrt(2 * 2 * std::log(static_cast<double>(linear->in()))) / (127 * std::sqrt(12.0));
    const double deviation = linear->weight.norm().item<double>() / std::sqrt(static_cast<double>(linear->weight.numel()));
    linear->weight.add_(random(linear->weight.sizes(), ++seed, at::kFloat, share * deviation));
  }
}

class Broken final : public PlainInputs {
 public:
  using PlainInputs::PlainInputs;
  at::Tensor load(const std::string& name, at::ScalarType type) const override {
    at::Tensor tensor = PlainInputs::load(name, type);
    if (name == "model.layers.1.mlp.up_proj.weight") tensor[3][5] = std::numeric_limits<double>::infinity();
    return tensor;
  }
};

}  // namespace

TEST_CASE("with int8 products every family's loss and gradients stay near the full model's", "[int8]") {
  for (const std::string& name : golden_models()) {
    const Golden golden(name);
    const auto source = open_weights(golden.directory);
    const auto full = Decoder::load(*source, at::kFloat, at::kFloat);
    const auto int8 = Decoder::load(*source, at::kFloat, at::kFloat, BasePrecision::int8);
    const auto moved = Decoder::load(*source, at::kFloat, at::kFloat);
    perturb(*moved);
    const Step exact = step(golden, *full), got = step(golden, *int8), other = step(golden, *moved);
    const double error = relative_error(got.gradients, exact.gradients),
                 expected = relative_error(other.gradients, exact.gradients);
    INFO(name << ": loss " << exact.loss << " and " << got.loss << ", gradients off by " << error << ", expected " << expected);
    CHECK_FALSE(same_bits(got.gradients, exact.gradients));
    CHECK(error <= 2 * expected);
    CHECK(std::abs(got.loss - exact.loss) <= expected * exact.loss);
    CHECK(same_bits(got.gradients, step(golden, *int8).gradients));
    CHECK(same_bits(got.gradients, step(golden, *int8, Recompute::layers).gradients));

    CHECK(full->weight_bytes() == weight_bytes(full->spec(), at::kFloat, BasePrecision::full));
    CHECK(int8->weight_bytes() < full->weight_bytes());
    CHECK(weight_bytes(full->spec(), at::kFloat, BasePrecision::int8) <= int8->weight_bytes());  // columns are padded
  }
}

TEST_CASE("a base in NF4 has the loss and gradients of its numbers, bit for bit, in every family", "[nf4]") {
  for (const std::string& name : golden_models())
    for (const auto compute : {at::kFloat, at::kBFloat16}) {
      INFO(name << " in " << c10::toString(compute));
      const Golden golden(name);
      const auto source = open_weights(golden.directory);
      const auto nf4 = Decoder::load(*source, compute, compute, BasePrecision::nf4);
      const auto full = Decoder::load(*source, compute, compute), numbers = Decoder::load(*source, compute, compute);
      take_numbers(*numbers, *nf4);
      const Step got = step(golden, *nf4), want = step(golden, *numbers);
      CHECK(got.loss == want.loss);
      CHECK(same_bits(got.gradients, want.gradients));
      CHECK(same_bits(got.gradients, step(golden, *nf4, Recompute::layers).gradients));
      CHECK_FALSE(same_bits(got.gradients, step(golden, *full).gradients));
      CHECK(same_bits(nf4->logits(golden.batch), numbers->logits(golden.batch)));

      CHECK(nf4->weight_bytes() == weight_bytes(nf4->spec(), compute, BasePrecision::nf4));
      CHECK(nf4->weight_bytes() < full->weight_bytes());
      const auto activations = [&](BasePrecision precision) {
        return activation_bytes(full->spec(), compute, precision, 64, Recompute::none);
      };
      CHECK(activations(BasePrecision::nf4) > activations(BasePrecision::full));  // a weight as numbers
    }
}

TEST_CASE("activations are what is kept, the widest moment, a chunk of logits and the kernels' memory", "[memory]") {
  ModelSpec spec;
  spec.hidden = 64, spec.ffn = 128, spec.vocab = 1024, spec.heads = 2, spec.kv_heads = 1, spec.head_dim = 32;
  spec.layers.resize(3);
  // Of a layer 4 H, 2 of 2 heads, 2 of one, gate and up; at its widest 4 H and gate and up once more.
  const std::int64_t layer = 256 + 128 + 64 + 256, widest = 256 + 256;
  const std::int64_t logits = 10 * 1024, packed = 64 * 1024, turned = 10 * 32, partial = 2 * 10 * 2 * 32;
  const auto bytes = [&](Recompute recompute) { return activation_bytes(spec, at::kFloat, BasePrecision::full, 10, recompute); };
  CHECK(bytes(Recompute::none) == 4 * (10 * (3 * layer + widest) + logits + packed + turned + partial));
  CHECK(bytes(Recompute::layers) == 4 * (10 * (3 * 64 + layer + widest) + logits + packed + turned + partial));
}

TEST_CASE("a weight that NF4 cannot hold is named", "[nf4]") {
  const auto source = open_weights(Golden("llama").directory);
  CHECK(message_of([&] { Decoder::load(Broken(*source), at::kFloat, at::kFloat, BasePrecision::nf4); }) ==
        "tensor model.layers.1.mlp.up_proj.weight: a weight is not finite");
}

}  // namespace graft::model
