#include "train/work_plan.h"

#include "tests/support/catch.h"

namespace graft::train {
namespace {

// One layer: q, o (4, 4), k, v (2, 4), gate, up (6, 4), down (4, 6), two norms of 4; embedding (10, 4), the last norm.
model::ModelSpec small() {
  model::ModelSpec spec;
  spec.vocab = 10;
  spec.hidden = 4;
  spec.heads = 2;
  spec.kv_heads = 1;
  spec.head_dim = 2;
  spec.ffn = 6;
  spec.tied_head = true;
  spec.layers.resize(1);
  return spec;
}
constexpr double kLayer = 16 + 16 + 8 + 8 + 24 + 24 + 24 + 3 * 4, kHead = 40;

}  // namespace

TEST_CASE("steps and rows follow from the number of tokens", "[train][work_plan]") {
  TrainConfig config;
  config.length = 100;
  config.rows = 4;
  config.epochs = 2;
  const WorkPlan plan = plan_work(config, 1050);
  CHECK(plan.rows_per_epoch == 11);
  CHECK(plan.steps == 6);  // 22 rows, 4 at a time
  CHECK(plan.tokens_per_step == Approx(4 * 1050.0 / 11));
  CHECK(plan_work(config, 5).steps == 1);
  CHECK((plan_work(config, 0).steps == 0 && plan_work(config, 0).tokens_per_step == 400));
  config.steps = 7;
  CHECK((plan_work(config, 1050).steps == 7 && plan_work(config, 0).steps == 7));
}

TEST_CASE("a token costs two products with each weight that it meets", "[train][work_plan]") {
  TrainConfig config;
  const auto layers = [&](const model::ModelSpec& spec) { return flops_per_token(config, spec).layers; };
  CHECK(layers(small()) == 2 * kLayer * 2);
  CHECK(flops_per_token(config, small()).head == 2 * kHead * 2);
  model::ModelSpec untied = small();
  untied.tied_head = false;  // the embedding is looked up
  CHECK(layers(untied) == 2 * kLayer * 2);
  CHECK(flops_per_token(config, untied).head == 2 * kHead * 2);
  model::ModelSpec mixture = small();
  mixture.moe.experts = 8;
  mixture.moe.per_token = 2;
  mixture.moe.ffn = 6;
  CHECK(layers(mixture) == 2 * (kLayer + 72 + 8 * 4) * 2);  // a second expert, the router
  config.recompute = "layers";                              // the head's forward is not repeated
  CHECK(layers(small()) == 2 * kLayer * 3);
  CHECK(flops_per_token(config, small()).head == 2 * kHead * 2);
}

}  // namespace graft::train
