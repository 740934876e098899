// GPTQ against the same algorithm written out in f64 with the inverse of what is left, column by column.
#include "export/quantize/gptq.h"

#include <limits>

#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using exports::Rounded;
using graft::testing::message_of;

namespace {

const model::CompressedScheme kByRow = {model::CompressedFormat::packed, 4, 0, true};
const model::CompressedScheme kBy32 = {model::CompressedFormat::packed, 4, 32, true};
const model::CompressedScheme kFp8ByRow = {model::CompressedFormat::floating, 8, 0, true};
const model::CompressedScheme kBy32WithZeros = {model::CompressedFormat::packed, 4, 32, false};

// Inputs whose features hang together, as those of a model do.
at::Tensor correlated_inputs(std::int64_t tokens, std::int64_t columns) {
  const at::Tensor mix = at::randn({columns / 4, columns}, at::kFloat);
  return at::mm(at::randn({tokens, columns / 4}, at::kFloat), mix) + 0.3 * at::randn({tokens, columns}, at::kFloat);
}

double output_error(const at::Tensor& weight, const at::Tensor& rounded, const at::Tensor& inputs) {
  return at::mm(inputs, (rounded - weight).t()).norm().item<double>();
}

// Optimal brain surgeon, the columns by falling H_qq (equation 2 of the paper): with F the columns that are left,
//   delta = -(w_q - quant(w_q)) / [H_F^-1]_qq * (H_F^-1)_{:, q}
at::Tensor reference_codes(const at::Tensor& weight, const at::Tensor& gram, const exports::Grid& grid, bool floating) {
  const std::int64_t columns = weight.size(1), group = columns / grid.scale.size(1);
  at::Tensor h = gram.to(at::kDouble).clone();
  h.diagonal().add_(exports::kGptqDamping * h.diagonal().mean());
  const at::Tensor order = std::get<1>(at::sort(h.diagonal(), /*stable=*/true, /*dim=*/0, /*descending=*/true));
  h = h.index_select(0, order).index_select(1, order);
  at::Tensor left = weight.to(at::kDouble).index_select(1, order);
  const at::Tensor scale = grid.scale.to(at::kDouble);
  const at::Tensor zero = grid.zero.defined() ? grid.zero.to(at::kDouble) : at::zeros_like(scale);
  at::Tensor codes = at::empty_like(left);
  for (std::int64_t q = 0; q < columns; ++q) {
    const at::Tensor inverse = at::linalg_inv(h.narrow(0, q, columns - q).narrow(1, q, columns - q).contiguous());
    const std::int64_t at = order[q].item<std::int64_t>();  // in the matrix, where groups are
    const at::Tensor column = left.select(1, q), s = scale.select(1, at / group), z = zero.select(1, at / group);
    const at::Tensor place = column / s + z;
    at::Tensor code = codes.select(1, at);
    code.copy_(floating ? place.clamp(-448, 448).to(at::kFloat).to(at::kFloat8_e4m3fn).to(at::kDouble)
                        : at::round(place).clamp(-8, 7));
    const at::Tensor error = (column - (code - z) * s) / inverse[0][0];
    left.narrow(1, q, columns - q).sub_(at::outer(error, inverse.select(1, 0)));
  }
  return codes.to(at::kFloat);
}

}  // namespace

TEST_CASE("GPTQ's codes are those of the algorithm in f64", "[export][gptq]") {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({12, 160}, at::kFloat), inputs = correlated_inputs(512, 160);  // more than one block
  const at::Tensor gram = at::mm(inputs.t(), inputs);
  for (const auto& scheme : {kByRow, kBy32, kBy32WithZeros, kFp8ByRow}) {
    INFO(scheme.stored_as());
    const Rounded rounded = exports::gptq(weight, exports::gptq_factor(gram), scheme);
    const at::Tensor expected = reference_codes(weight, gram, rounded.grid, scheme.format == kFp8ByRow.format);
    // The factor in f32 is off by 2^-24 of numbers whose condition is that of H, here 160 * (1 + 4 * 160 / 3) / 0.1 at most; a
    // column that lands within 1e-3 steps of a tie may then go either way: of 1,920 codes some two, and a few that follow each.
    CHECK(rounded.codes.ne(expected).sum().item<std::int64_t>() <= 20);
    const double reference = output_error(weight, Rounded{rounded.grid, expected}.values(), inputs);
    CHECK(output_error(weight, rounded.values(), inputs) < 1.02 * reference);
  }
}

TEST_CASE("GPTQ leaves less than half of the outputs' error where inputs hang together", "[export][gptq]") {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({64, 256}, at::kFloat), inputs = correlated_inputs(1024, 256);
  const at::Tensor gram = at::mm(inputs.t(), inputs);
  for (const auto& scheme : {kBy32, kBy32WithZeros}) {
    const Rounded nearest = exports::rounded_to_nearest(weight, scheme),
                  ours = exports::gptq(weight, exports::gptq_factor(gram), scheme);
    CHECK(output_error(weight, ours.values(), inputs) < 0.5 * output_error(weight, nearest.values(), inputs));
    CHECK(ours.grid.scale.sizes() == nearest.grid.scale.sizes());
    CHECK(ours.codes.amin().item<float>() >= -8);
    CHECK(ours.codes.amax().item<float>() <= 7);
    CHECK(at::equal(exports::gptq(weight, exports::gptq_factor(gram), scheme).codes, ours.codes));
  }
}

TEST_CASE("inputs that never come, and inputs that do not hang together, are rounded to nearest", "[export][gptq]") {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({8, 64}, at::kFloat);
  for (const double size : {0.0, 3.0}) {
    const Rounded rounded = exports::gptq(weight, exports::gptq_factor(at::eye(64, at::kFloat) * size), kBy32);
    CHECK(at::equal(rounded.codes, exports::codes_on(rounded.grid, weight, kBy32)));
  }
  at::Tensor bad = at::eye(64, at::kFloat);
  bad[3][3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message_of<DataError>([&] { exports::gptq_factor(bad); }) == "the sum over calibration inputs is not finite");
  at::Tensor infinite = weight.clone();
  infinite[2][40] = std::numeric_limits<float>::infinity();
  CHECK(message_of<DataError>([&] { exports::gptq(infinite, exports::gptq_factor(at::eye(64, at::kFloat)), kBy32); }) ==
        "a weight is not finite");
}
