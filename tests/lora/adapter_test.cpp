#include "lora/adapter.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/files.h"
#include "tests/support/golden_paths.h"
#include "tests/support/tiny_model.h"

namespace graft::lora {
namespace {

using testing::FakeDecoder;
using testing::message_of;

const std::vector<std::string> kModules = {"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj",
                                           "model.layers.10.self_attn.q_proj", "model.layers.10.mlp.up_proj", "lm_head"};

std::vector<std::string> matched(const std::vector<std::string>& patterns) {
  LoraConfig config;
  config.target_modules = patterns;
  return match_targets(config, kModules);
}

}  // namespace

TEST_CASE("patterns choose modules by last name, path suffix, star and all-linear", "[lora]") {
  CHECK(matched({"q_proj"}) == std::vector<std::string>{kModules[0], kModules[2]});
  CHECK(matched({"mlp.up_proj", "lm_head"}) == std::vector<std::string>{kModules[1], kModules[3], kModules[4]});
  CHECK(matched({"model.layers.1*"}) == std::vector<std::string>{kModules[2], kModules[3]});
  CHECK(matched({"layers.0.*proj"}) == std::vector<std::string>{kModules[0], kModules[1]});
  CHECK(matched({"all-linear"}) == std::vector<std::string>(kModules.begin(), kModules.end() - 1));
  CHECK(matched({"*"}) == kModules);
}

TEST_CASE("the default is every linear of every family but the head", "[lora]") {
  for (const std::string& name : testing::golden_models()) {
    INFO(name);
    const auto base = model::open_weights(testing::golden_model(name));
    const std::vector<std::string> all = linear_names(*base), chosen = match_targets(LoraConfig{}, all);
    std::vector<std::string> expected;
    std::copy_if(all.begin(), all.end(), std::back_inserter(expected), [](auto& module) { return module != "lm_head"; });
    CHECK(chosen == expected);
    CHECK(chosen.size() >= 4 * base->spec().layers.size());
    if (name.starts_with("phi3") || name == "mixtral") continue;  // these call their linears otherwise
    LoraConfig by_name;
    by_name.target_modules = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    CHECK(chosen == match_targets(by_name, all));
  }
}

TEST_CASE("a pattern that matches nothing is refused with the names there are", "[lora]") {
  const auto text = message_of<ConfigError>([] { matched({"q_proj", "proj"}); });
  CHECK(text ==
        "lora.target_modules: 'proj' matches none of the model's 5 linear layers; their names are q_proj, up_proj, "
        "lm_head (example of a full path: model.layers.0.self_attn.q_proj)");
  CHECK(message_of<ConfigError>([] { matched({}); }).find("is empty") != std::string::npos);
}

TEST_CASE("scale is alpha over rank, or over its root with rsLoRA", "[lora]") {
  CHECK(LoraConfig{.rank = 16, .alpha = 32}.scale() == 2);
  CHECK(LoraConfig{.rank = 16, .alpha = 32, .rslora = true}.scale() == 8);
}

TEST_CASE("a new adapter has A uniform within 1/sqrt(in), B zero, and depends on the seed alone", "[lora]") {
  FakeDecoder decoder(2000);
  LoraConfig config{.rank = 64, .alpha = 64, .target_modules = {"*"}};
  const auto set = create(config, decoder, 9), again = create(config, decoder, 9), other = create(config, decoder, 10);
  REQUIRE(set->adapters.size() == 2);
  CHECK(set->count() == 64 * (8 + 8) + 64 * (8 + 2000));
  CHECK(set->parameters.equal(again->parameters));
  CHECK_FALSE(set->parameters.equal(other->parameters));
  for (const auto& adapter : set->adapters) {
    const at::Tensor a = adapter->low_rank.a.to(at::kDouble);
    const double bound = 1 / std::sqrt(8.0);
    CHECK(a.abs().max().item<double>() <= bound);
    CHECK(a.abs().max().item<double>() > 0.95 * bound);
    // Uniform on [-b, b]: variance b^2 / 3; 512 draws leave a standard error of 4 percent.
    CHECK(a.pow(2).mean().item<double>() == Approx(bound * bound / 3).epsilon(0.15));
    CHECK(adapter->low_rank.b.abs().max().item<double>() == 0);
  }
  CHECK_FALSE(set->adapters[0]->low_rank.a.equal(set->adapters[1]->low_rank.a));
}

TEST_CASE("parameters and gradients are views into their arenas", "[lora]") {
  FakeDecoder decoder;
  const auto set = create({.rank = 2, .alpha = 4, .target_modules = {"*"}}, decoder, 1);
  set->gradients.fill_(3);
  set->parameters.fill_(5);
  std::int64_t total = 0;
  for (const auto& adapter : set->adapters) {
    for (const auto& t : {adapter->low_rank.grad_a, adapter->low_rank.grad_b}) CHECK(t.eq(3).all().item<bool>());
    for (const auto& t : {adapter->low_rank.a, adapter->low_rank.b}) {
      CHECK(t.eq(5).all().item<bool>());
      CHECK(t.storage_offset() == total);
      total += t.numel();
    }
  }
  CHECK(total == set->count());
  for (const auto& adapter : set->adapters) CHECK(set->find(adapter->module) == adapter.get());
  CHECK(set->find("lm_head.weight") == nullptr);
}

TEST_CASE("attach refuses an adapter for another base and changes nothing", "[lora]") {
  FakeDecoder decoder(61), wider(62);
  const auto mine = create({.rank = 2, .alpha = 4, .target_modules = {"*"}}, decoder, 1);
  const auto other = create({.rank = 2, .alpha = 4, .target_modules = {"*"}}, wider, 1);
  attach(*mine, decoder);
  CHECK(message_of<DataError>([&] { attach(*other, decoder); }) ==
        "the adapter is for another base: lm_head has weight (61, 8) here, the adapter was made for (62, 8)");
  CHECK(decoder.linears()[1]->adapter == &mine->adapters[1]->low_rank);
  other->adapters[0]->module = "model.layers.7.mlp.up_proj";
  CHECK(message_of<DataError>([&] { attach(*other, decoder); }) ==
        "the adapter is for another base: this model has no linear layer model.layers.7.mlp.up_proj");
  detach(decoder);
  CHECK(decoder.linears()[0]->adapter == nullptr);
}

TEST_CASE("check_base compares shapes and the recorded identity", "[lora]") {
  const testing::TinyModel base(testing::tiny_spec(), 1);
  auto set = allocate({.rank = 2, .alpha = 4}, {{"model.layers.0.mlp.down_proj", 40, 24}}, false);
  CHECK_NOTHROW(check_base(*set, base));
  set->base_identity = "tiny";
  CHECK_NOTHROW(check_base(*set, base));
  set->base_identity = "something else";
  CHECK(message_of<DataError>([&] { check_base(*set, base); }).find("trained on weights with identity something else") !=
        std::string::npos);
  set = allocate({.rank = 2, .alpha = 4}, {{"model.layers.0.mlp.down_proj", 24, 24}}, false);
  CHECK_THROWS_AS(check_base(*set, base), DataError);
  set = allocate({.rank = 2, .alpha = 4}, {{"model.norm", 24, 24}}, false);
  CHECK_THROWS_AS(check_base(*set, base), DataError);
}

}  // namespace graft::lora
