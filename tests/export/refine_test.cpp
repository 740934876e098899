// Scales and codes after GPTQ, against least squares and single codes moved, in f64.
#include "export/quantize/refine.h"

#include <cmath>

#include "export/quantize/gptq.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using exports::Refine;
using exports::Rounded;

namespace {

const model::CompressedScheme kBy32 = {model::CompressedFormat::packed, 4, 32, true};
const model::CompressedScheme kBy32WithZeros = {model::CompressedFormat::packed, 4, 32, false};
const model::CompressedScheme kFp8ByRow = {model::CompressedFormat::floating, 8, 0, true};

constexpr std::int64_t kRows = 12, kColumns = 160;  // more than one block

exports::GptqFactor factor_of_inputs() {
  const at::Tensor mix = at::randn({kColumns / 4, kColumns}, at::kFloat);
  const at::Tensor x = at::randn({512, kColumns / 4}, at::kFloat).mm(mix) + 0.3 * at::randn({512, kColumns}, at::kFloat);
  return exports::gptq_factor(x.t().mm(x));
}

// d H d^T of each row, f64 (rows).
at::Tensor costs(const at::Tensor& weight, const at::Tensor& gram, const Rounded& rounded) {
  const at::Tensor d = rounded.values().to(at::kDouble) - weight.to(at::kDouble);
  return (d.mm(gram.to(at::kDouble)) * d).sum(1);
}

Rounded copy_of(const Rounded& rounded) {
  return {{rounded.grid.scale.clone(), rounded.grid.zero.defined() ? rounded.grid.zero.clone() : at::Tensor()},
          rounded.codes.clone()};
}

}  // namespace

TEST_CASE("of GPTQ's error a part is won back, by codes alone and more by scales", "[export][refine]") {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({kRows, kColumns}, at::kFloat);
  const exports::GptqFactor factor = factor_of_inputs();
  const at::Tensor gram = factor.gram;
  for (const auto& scheme : {kBy32, kBy32WithZeros, kFp8ByRow}) {
    INFO(scheme.stored_as());
    const Rounded before = exports::gptq(weight, factor, scheme);
    Rounded codes = copy_of(before), both = copy_of(before), again = copy_of(before);
    exports::refine(weight, gram, scheme, Refine::codes, codes);
    exports::refine(weight, gram, scheme, Refine::scales_and_codes, both);
    exports::refine(weight, gram, scheme, Refine::scales_and_codes, again);
    CHECK(at::equal(codes.grid.scale, before.grid.scale));
    CHECK(!at::equal(both.grid.scale, before.grid.scale));
    const at::Tensor of_none = costs(weight, gram, before), of_codes = costs(weight, gram, codes);
    CHECK((of_codes <= of_none * (1 + 1e-5)).all().item<bool>());
    CHECK(of_codes.sum().item<double>() < 0.98 * of_none.sum().item<double>());
    CHECK(costs(weight, gram, both).sum().item<double>() < 0.95 * of_none.sum().item<double>());
    CHECK(costs(weight, gram, both).sum().item<double>() < of_codes.sum().item<double>());
    CHECK(at::equal(again.codes, both.codes));
    CHECK(at::equal(again.grid.scale, both.grid.scale));
    CHECK(at::equal(both.grid.scale, both.grid.scale.to(at::kBFloat16).to(at::kFloat)));
  }
}

TEST_CASE("in the end no code alone does better elsewhere on its grid", "[export][refine]") {
  at::manual_seed(6);
  const at::Tensor weight = at::randn({4, kColumns}, at::kFloat), gram = factor_of_inputs().gram;
  for (const auto& scheme : {kBy32, kBy32WithZeros}) {
    Rounded rounded = exports::rounded_to_nearest(weight, scheme);
    at::Tensor last;
    for (int i = 0; i < 50 && (!last.defined() || !at::equal(last, rounded.codes)); ++i) {
      last = rounded.codes.clone();
      exports::refine(weight, gram, scheme, Refine::codes, rounded);
    }
    REQUIRE(at::equal(last, rounded.codes));
    const at::Tensor least = costs(weight, gram, rounded);
    for (std::int64_t column = 0; column < kColumns; ++column)
      for (const double step : {-1.0, 1.0}) {
        Rounded moved = copy_of(rounded);
        moved.codes.select(1, column).add_(step).clamp_(-8, 7);
        CHECK((costs(weight, gram, moved) >= least * (1 - 1e-5)).all().item<bool>());  // f32 sees no smaller difference
      }
  }
}

// f = |L^T (C s - w)|^2 with H = L L^T: what a solver of least squares finds for one row.
// f = |L^T (C s - w)|^2 with H = L L^T: what a solver of least squares finds for one row.
TEST_CASE("scales are those of least squares, rounded to bf16", "[export][refine]") {
  at::manual_seed(7);
  const at::Tensor weight = at::randn({kRows, kColumns}, at::kFloat);
  const at::Tensor gram = factor_of_inputs().gram, root = at::linalg_cholesky(gram.to(at::kDouble));
  Rounded rounded = exports::rounded_to_nearest(weight, kBy32);
  at::Tensor last;
  for (int i = 0; i < 50 && (!last.defined() || !at::equal(last, rounded.codes)); ++i) {
    last = rounded.codes.clone();
    exports::refine(weight, gram, kBy32, Refine::scales_and_codes, rounded);
  }
  REQUIRE(at::equal(last, rounded.codes));  // the scales are those of these codes
  for (std::int64_t row = 0; row < kRows; ++row) {
    at::Tensor points = at::zeros({kColumns, kColumns / 32}, at::kDouble);  // C: each group's codes in a column
    for (std::int64_t g = 0; g < kColumns / 32; ++g)
      points.select(1, g).narrow(0, g * 32, 32).copy_(rounded.codes[row].narrow(0, g * 32, 32));
    const at::Tensor target = root.t().mm(weight[row].to(at::kDouble).unsqueeze(1));
    const at::Tensor found = std::get<0>(at::linalg_lstsq(root.t().mm(points), target, {}, "gelsd")).squeeze(1);
    for (std::int64_t g = 0; g < kColumns / 32; ++g) {
      INFO("row " << row << ", group " << g);
      CHECK(rounded.grid.scale[row][g].item<double>() == Approx(found[g].item<double>()).epsilon(0x1p-8));  // bf16 and f32's sums
    }
  }
}

TEST_CASE("a scale that decides nothing stays, and no row takes one that is not positive", "[export][refine]") {
  at::manual_seed(8);
  at::Tensor weight = at::randn({2, 64}, at::kFloat);
  weight[0].narrow(0, 32, 32).zero_();  // its codes stay 0, for no other column's error reaches them
  const Rounded before = exports::rounded_to_nearest(weight, kBy32);
  Rounded rounded = copy_of(before);
  exports::refine(weight, at::eye(64, at::kFloat), kBy32, Refine::scales_and_codes, rounded);
  CHECK(rounded.codes[0].narrow(0, 32, 32).eq(0).all().item<bool>());
  CHECK(rounded.grid.scale[0][1].item<float>() == 0x1p-7f);
  CHECK(rounded.grid.scale[0][0].item<float>() != before.grid.scale[0][0].item<float>());

  // Codes of the wrong sign in the second group of the second row: its best scale is negative.
  Rounded turned = copy_of(before);
  turned.codes[1].narrow(0, 32, 32).neg_();
  Rounded moved = copy_of(turned);
  const at::Tensor least = costs(weight, at::eye(64, at::kFloat), turned);
  exports::refine(weight, at::eye(64, at::kFloat), kBy32, Refine::scales_and_codes, moved);
  CHECK((moved.grid.scale > 0).all().item<bool>());
  CHECK((costs(weight, at::eye(64, at::kFloat), moved) <= least).all().item<bool>());
  CHECK(costs(weight, at::eye(64, at::kFloat), moved)[1].item<double>() < 0.1 * least[1].item<double>());  // codes went back
}
