// One optimizer step reaches every adapter tensor of every family.
#include "kernels/adamw/adamw.h"
#include "lora/adapter.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"

namespace graft::lora {
namespace {

using namespace graft::testing;

// Adapters on every linear there is, optimized as the trainer does it.
struct Run {
  explicit Run(const Golden& golden)
      : batch(golden.batch),
        labels(golden.labels),
        decoder(golden.load()),
        set(create({.rank = 4, .alpha = 8, .target_modules = {"*"}}, *decoder, 3)),
        m(at::zeros_like(set->parameters)),
        v(at::zeros_like(set->parameters)) {
    attach(*set, *decoder);
  }
  double step() {
    set->gradients.zero_();
    const double scale = 1 / labels.ne(-100).sum().item<double>();
    const double loss = decoder->train_step(batch, labels, scale, model::Recompute::none, 0).sum * scale;
    CHECK(kernels::adamw_step(set->parameters, set->gradients, m, v, ++steps, {.lr = 1e-3, .max_norm = 1}).applied);
    return loss;
  }

  model::Packed batch;
  at::Tensor labels;
  std::unique_ptr<model::Decoder> decoder;
  std::unique_ptr<AdapterSet> set;
  at::Tensor m, v;
  std::int64_t steps = 0;
};

}  // namespace

TEST_CASE("every adapter tensor of every family moves, and the loss falls", "[lora]") {
  for (const std::string& name : golden_models()) {
    Run run{Golden(name)};
    const at::Tensor before = run.set->parameters.clone();
    const double first = run.step();
    const auto moved = [&](const at::Tensor& now, const at::Tensor& at_first) {
      return now.ne(at_first.view_as(now)).any().item<bool>();
    };
    const auto part_of = [&](const at::Tensor& view, const at::Tensor& arena) {
      return arena.narrow(0, view.storage_offset(), view.numel());
    };
    const at::Tensor after_one = run.set->parameters.clone();
    // B begins at zero: the first step moves B alone, for the gradient of A is B's. From the second on both move.
    for (const auto& adapter : run.set->adapters) {
      INFO(name << " " << adapter->module);
      CHECK(moved(adapter->low_rank.b, part_of(adapter->low_rank.b, before)));
      CHECK_FALSE(moved(adapter->low_rank.a, part_of(adapter->low_rank.a, before)));
    }
    run.step();
    for (const auto& adapter : run.set->adapters) {
      INFO(name << " " << adapter->module);
      CHECK(moved(adapter->low_rank.a, part_of(adapter->low_rank.a, after_one)));
      CHECK(moved(adapter->low_rank.b, part_of(adapter->low_rank.b, after_one)));
    }
    double last = first;
    for (int i = 0; i < 8; ++i) last = run.step();
    INFO(name);
    CHECK(last < first);
    CHECK(run.set->parameters.isfinite().all().item<bool>());
  }
}

}  // namespace graft::lora
