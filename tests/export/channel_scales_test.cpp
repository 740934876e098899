// Scales of channels against the sums over inputs written out, and what folding them does to a model: nothing.
#include "export/quantize/channel_scales.h"

#include <ATen/ATen.h>

#include "export/merge.h"
#include "model/decoder.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"

using namespace graft;
using namespace graft::testing;
using exports::InputSums;

namespace {

const model::CompressedScheme kBy32WithZeros = {model::CompressedFormat::packed, 4, 32, false};

// A few channels far above the others, as in language models.
at::Tensor inputs_with_outliers(std::int64_t tokens, std::int64_t columns) {
  at::Tensor x = at::randn({tokens, columns}, at::kFloat);
  for (std::int64_t c = 0; c < columns; c += 17) x.select(1, c).mul_(30);
  return x;
}

double output_error(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& x) {
  const at::Tensor rounded = exports::rounded_to_nearest(weight * scales, kBy32WithZeros).values();
  return at::mm((x / scales).to(at::kDouble), rounded.t().to(at::kDouble))
      .sub(at::mm(x, weight.t()))
      .square()
      .sum()
      .item<double>();
}

}  // namespace

TEST_CASE("sums over inputs are what they are called, batch by batch", "[export][awq]") {
  at::manual_seed(1);
  const at::Tensor x = at::randn({50, 8}, at::kFloat), wide = x.to(at::kDouble);
  InputSums sums;
  sums.add(x.narrow(0, 0, 20), true);
  sums.add(x.narrow(0, 20, 30), true);
  CHECK(sums.rows == 50);
  CHECK(at::allclose(sums.sum, wide.abs().sum(0)));
  CHECK(at::allclose(sums.squares, wide.square().sum(0)));
  CHECK(at::equal(sums.largest, x.abs().amax(0)));
  CHECK(at::allclose(sums.gram.to(at::kDouble), at::mm(wide.t(), wide), 1e-5, 1e-4));  // f32 sums of 50 products below 10
  InputSums rounded;
  rounded.add(x.to(at::kBFloat16), false);
  CHECK(!rounded.gram.defined());
  CHECK(at::allclose(rounded.sum, sums.sum, 1e-2));
}

TEST_CASE("AWQ takes the exponent with the least error of the outputs", "[export][awq]") {
  at::manual_seed(2);
  const at::Tensor x = inputs_with_outliers(256, 64), first = at::randn({48, 64}, at::kFloat),
                   second = at::randn({16, 64}, at::kFloat);
  InputSums sums;
  sums.add(x, true);
  const at::Tensor scales = exports::awq_scales({{first, &sums}, {second, &sums}}, kBy32WithZeros);
  const auto error = [&](const at::Tensor& s) { return output_error(first, s, x) + output_error(second, s, x); };
  const at::Tensor mean = x.abs().mean(0);
  double least = 1e300;
  at::Tensor best;
  for (int i = 0; i < 20; ++i) {
    at::Tensor tried = at::pow(mean, i / 20.0);
    tried = tried / (tried.max() * tried.min()).sqrt();
    if (const double found = error(tried); found < least) {
      least = found;
      best = tried;
    }
  }
  CHECK(at::allclose(scales, best, 1e-5));
  CHECK(error(scales) < 0.5 * error(at::ones({64}, at::kFloat)));
}

TEST_CASE("SmoothQuant halves the range between inputs and weights", "[export][smooth]") {
  at::manual_seed(3);
  const at::Tensor x = inputs_with_outliers(64, 32), first = at::randn({8, 32}, at::kFloat),
                   second = at::randn({4, 32}, at::kFloat);
  InputSums sums;
  sums.add(x, false);
  const at::Tensor scales = exports::smooth_scales({{first, &sums}, {second, &sums}});
  const at::Tensor weight = at::cat({first, second}).abs().amax(0);
  // |x| / s and |W| s have the same largest values: sqrt(max|x| max|W|).
  CHECK(at::allclose(x.abs().amax(0) / scales, weight * scales, 1e-5));
}

TEST_CASE("folded scales leave the model what it is", "[export][awq][smooth]") {
  const std::string name = GENERATE("llama", "qwen2", "qwen3", "gemma2", "phi3", "mixtral");
  INFO(name);
  const Golden golden(name);
  const auto weights = model::open_weights(golden.directory);
  const model::ModelSpec& spec = weights->spec();
  at::manual_seed(4);
  exports::Folds folds;
  std::int64_t linears = 0;
  for (std::int64_t layer = 0; layer < static_cast<std::int64_t>(spec.layers.size()); ++layer)
    for (const exports::FoldSite& site : exports::fold_sites(spec, layer, true)) {
      const at::Tensor writer = weights->load(site.writer + ".weight", at::kFloat);
      const std::int64_t channels = weights->load(site.readers.front() + ".weight", at::kFloat).size(1);
      const at::Tensor scales = at::exp(at::randn({channels}, at::kFloat));
      if (site.norm)
        folds.add_norm(site, scales, writer + spec.norm_gain_offset, spec.norm_gain_offset);
      else
        folds.add_linear(site, scales, writer.size(0));
      linears += site.norm ? 0 : 1;
    }
  CHECK(linears > 0);

  struct Folded : model::WeightSource {
    Folded(const model::WeightSource& of, const exports::Folds& by) : source(of), folds(by) {}
    const model::ModelSpec& spec() const override { return source.spec(); }
    const std::vector<model::WeightInfo>& weights() const override { return source.weights(); }
    bool has(const std::string& tensor) const override { return source.has(tensor); }
    at::Tensor load(const std::string& tensor, at::ScalarType type) const override {
      return folds.apply(tensor, source.load(tensor, at::kFloat)).to(type);
    }
    const fs::path& path() const override { return source.path(); }
    bool is_gguf() const override { return false; }
    const Json& hf_config() const override { return source.hf_config(); }
    const std::string& identity() const override { return source.identity(); }
    const model::WeightSource& source;
    const exports::Folds& folds;
  };
  const Folded folded(*weights, folds);
  const std::string norm = "model.layers.0.input_layernorm.weight";
  CHECK(!at::allclose(folded.load(norm, at::kFloat), weights->load(norm, at::kFloat), 0.1, 0.1));
  // Norms are stored in bf16 without loss: their scales were made for that.
  CHECK(at::equal(folded.load(norm, at::kFloat), folded.load(norm, at::kFloat).to(at::kBFloat16).to(at::kFloat)));
  const at::Tensor ours = model::Decoder::load(folded, at::kFloat, at::kFloat)->logits(golden.batch);
  const at::Tensor before = golden.load()->logits(golden.batch);
  // f32 products of rescaled numbers: some 2^-24 each over sums of 64 and a handful of layers.
  CHECK((ours - before).abs().max().item<double>() < 1e-4 * before.abs().max().item<double>());
}
