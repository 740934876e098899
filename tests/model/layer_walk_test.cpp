// A model walked layer by layer is the decoder.
#include "model/layer_walk.h"

#include <algorithm>
#include <set>

#include "kernels/head_logits/head_logits.h"
#include "kernels/rms_norm/rms_norm.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("walking the layers gives the decoder's logits, and every linear's input is seen", "[model][walk]") {
  const std::string name = GENERATE("llama", "qwen3", "phi3", "mixtral");
  INFO(name);
  const Golden golden(name);
  const auto weights = model::open_weights(golden.directory);
  const auto load = [&](const std::string& tensor) { return weights->load(tensor, at::kFloat).contiguous(); };
  const model::ModelSpec& spec = weights->spec();
  const auto walk = model::LayerWalk::create(spec, at::kFloat, load);
  at::Tensor hidden = walk->embed(golden.batch.tokens);
  std::set<std::string> seen, linears;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    walk->enter(static_cast<std::int64_t>(i));
    for (const model::Linear* linear : walk->linears()) linears.insert(linear->name);
    hidden = walk->forward(hidden, golden.batch, [&](const std::vector<const model::Linear*>& group, const at::Tensor& x) {
      for (const model::Linear* linear : group) {
        CHECK(x.size(1) == linear->weight.size(1));
        CHECK(seen.insert(linear->name).second);
      }
    });
  }
  if (spec.moe.experts == 0) CHECK(seen == linears);
  CHECK(std::includes(linears.begin(), linears.end(), seen.begin(), seen.end()));
  const at::Tensor normed = kernels::rms_norm_forward(hidden, load("model.norm.weight"),
                                                      {spec.norm_eps, spec.norm_gain_offset, spec.norm_in_f32}, nullptr);
  const at::Tensor logits =
      kernels::head_logits(normed, load(spec.tied_head ? "model.embed_tokens.weight" : "lm_head.weight"), nullptr);
  CHECK(at::equal(logits, golden.load()->logits(golden.batch)));
}
