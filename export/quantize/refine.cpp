#include "export/quantize/refine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/stop.h"
#include "export/quantize/code_range.h"

namespace graft::exports {
namespace {

constexpr int kTurns = 2;
constexpr std::int64_t kBlock = 128;                // columns after which the slopes of the rest are brought up to date
constexpr std::int64_t kSystemElements = 1 << 22;   // of A at a time
constexpr double kRidge = 1e-6, kSmallest = 1e-30;  // draws a scale that decides nothing to where it was

at::Tensor centred(const Rounded& rounded) {
  const std::int64_t rows = rounded.codes.size(0), groups = rounded.grid.scale.size(1);
  const at::Tensor codes = rounded.codes.view({rows, groups, -1});
  return rounded.grid.zero.defined() ? codes - rounded.grid.zero.unsqueeze(2) : codes;
}

// s^T A s - 2 b^T s of each row: f but for what does not depend on s.
at::Tensor cost(const at::Tensor& a, const at::Tensor& b, const at::Tensor& s) {
  return (at::matmul(a, s.unsqueeze(2)).squeeze(2) - 2 * b).mul_(s).sum(1, /*keepdim=*/true);
}

// outputs: w H, f32 (out, in).
void fit_scales(const at::Tensor& outputs, const at::Tensor& gram, Rounded& rounded) {
  const std::int64_t rows = outputs.size(0), columns = outputs.size(1), groups = rounded.grid.scale.size(1);
  const std::int64_t group = columns / groups, step = std::max<std::int64_t>(1, kSystemElements / (groups * groups));
  const at::Tensor points = centred(rounded);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    throw_if_stopped();
    const std::int64_t n = std::min(step, rows - begin);
    const at::Tensor c = points.narrow(0, begin, n), flat = c.reshape({n, columns});
    const auto by_group = [&](const at::Tensor& products) { return (products * flat).view({n, groups, group}).sum(2); };
    at::Tensor a = at::empty({n, groups, groups}, at::kDouble);
    for (std::int64_t g = 0; g < groups; ++g) a.select(1, g).copy_(by_group(c.select(1, g).mm(gram.narrow(0, g * group, group))));
    const at::Tensor scale = rounded.grid.scale.narrow(0, begin, n), old = scale.to(at::kDouble);
    const at::Tensor b = by_group(outputs.narrow(0, begin, n)).to(at::kDouble);
    const at::Tensor ridge = a.diagonal(0, 1, 2).mean(1, /*keepdim=*/true) * kRidge + kSmallest;
    const at::Tensor drawn = a + at::diag_embed(ridge.expand({n, groups}));
    const at::Tensor found = at::linalg_solve(drawn, (b + old * ridge).unsqueeze(2)).squeeze(2).to(at::kBFloat16).to(at::kDouble);
    const at::Tensor better = found.gt(0).all(1, /*keepdim=*/true).logical_and_(cost(a, b, found) < cost(a, b, old));
    scale.copy_(at::where(better, found, old));
  }
}

// Columns [begin, end). slopes (out, end - begin): (d H) of them; errors: d, kept up to date.
void descend_block(const at::Tensor& weight, const at::Tensor& gram, const model::CompressedScheme& scheme,
                   const at::Tensor& slopes, std::int64_t begin, std::int64_t end, const at::Tensor& errors, Rounded& rounded) {
  const CodeRange range(scheme);
  const std::int64_t columns = weight.size(1), width = end - begin, per_row = rounded.grid.scale.size(1);
  const std::int64_t group = columns / per_row;
  const float* const h = gram.const_data_ptr<float>() + begin * columns + begin;  // rows of stride `columns`
  const float* const scale = rounded.grid.scale.const_data_ptr<float>();
  float* const code_rows = rounded.codes.mutable_data_ptr<float>() + begin;
  float* const error_rows = errors.mutable_data_ptr<float>() + begin;
  float* const slope_rows = slopes.mutable_data_ptr<float>();
  at::parallel_for(0, weight.size(0), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      float* const slope = slope_rows + row * width;
      for (std::int64_t i = 0; i < width; ++i) {
        const float step = scale[row * per_row + (begin + i) / group];
        float& code = code_rows[row * columns + i];
        const float better = range.nearest(code - slope[i] / (h[i * columns + i] * step));
        const float moved = (better - code) * step;
        if (moved == 0) continue;
        code = better;
        error_rows[row * columns + i] += moved;
        const float* const hi = h + i * columns;
        for (std::int64_t j = i + 1; j < width; ++j) slope[j] += moved * hi[j];
      }
    }
  });
}

void descend(const at::Tensor& weight, const at::Tensor& gram, const model::CompressedScheme& scheme, Rounded& rounded) {
  const std::int64_t columns = weight.size(1);
  const at::Tensor errors = rounded.values().sub_(weight);
  for (std::int64_t begin = 0; begin < columns; begin += kBlock) {
    throw_if_stopped();
    const std::int64_t end = std::min(begin + kBlock, columns);
    descend_block(weight, gram, scheme, errors.mm(gram.narrow(1, begin, end - begin)), begin, end, errors, rounded);
  }
}

}  // namespace

void refine(const at::Tensor& weight, const at::Tensor& gram, const model::CompressedScheme& scheme, Refine what,
            Rounded& rounded) {
  const at::Tensor outputs = what == Refine::scales_and_codes ? weight.mm(gram) : at::Tensor();
  for (int turn = 0; turn < kTurns; ++turn) {
    if (outputs.defined()) fit_scales(outputs, gram, rounded);
    descend(weight, gram, scheme, rounded);
  }
}

}  // namespace graft::exports
