#include "export/quantize/gptq.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "export/quantize/code_range.h"

namespace graft::exports {
namespace {

constexpr std::int64_t kBlock = 128;  // columns after which the rest of the matrix is brought up to date
constexpr int kLeastPercent = 60, kPercentStep = 4;

Grid best_grid(const at::Tensor& x, const at::Tensor& cost, const model::CompressedScheme& by_row) {
  Grid best;
  at::Tensor least;
  for (int percent = 100; percent >= kLeastPercent; percent -= kPercentStep) {
    Grid grid = grid_of(x * (percent / 100.0), by_row);
    const Rounded rounded = {grid, codes_on(grid, x, by_row)};
    const at::Tensor error = ((rounded.values() - x).square_() * cost).sum(1, true);
    if (!least.defined()) {
      least = error;
      best = std::move(grid);
      continue;
    }
    const at::Tensor better = error < least;
    least = at::where(better, error, least);
    best.scale = at::where(better, grid.scale, best.scale);
    if (best.zero.defined()) best.zero = at::where(better, grid.zero, best.zero);
  }
  return best;
}

// Of each group of columns.
Grid best_grids(const at::Tensor& weight, const at::Tensor& cost, const model::CompressedScheme& scheme) {
  const std::int64_t columns = weight.size(1), group = scheme.group == 0 ? columns : scheme.group;
  model::CompressedScheme by_row = scheme;
  by_row.group = 0;
  std::vector<at::Tensor> scales, zeros;
  for (std::int64_t begin = 0; begin < columns; begin += group) {
    const Grid grid = best_grid(weight.narrow(1, begin, group).contiguous(), cost.narrow(0, begin, group), by_row);
    scales.push_back(grid.scale);
    if (grid.zero.defined()) zeros.push_back(grid.zero);
  }
  return {at::cat(scales, 1), zeros.empty() ? at::Tensor() : at::cat(zeros, 1)};
}

// Rounds the columns [begin, end) of `left`, updating those of them that are still to come. groups: of each column. errors
// (out, end - begin): each column's e, for the rest of the matrix.
void round_block(const at::Tensor& left, const at::Tensor& codes, const at::Tensor& errors, const at::Tensor& factor,
                 const Grid& grid, const at::Tensor& groups, std::int64_t begin, std::int64_t end,
                 const model::CompressedScheme& scheme) {
  const CodeRange range(scheme);
  const std::int64_t columns = left.size(1), width = end - begin;
  const float* u = factor.const_data_ptr<float>() + begin * columns + begin;  // rows of stride `columns`
  const float* scale = grid.scale.const_data_ptr<float>();
  const float* zero = grid.zero.defined() ? grid.zero.const_data_ptr<float>() : nullptr;
  const std::int64_t* const group = groups.const_data_ptr<std::int64_t>() + begin;
  const std::int64_t per_row = grid.scale.size(1);
  const float* weights = left.const_data_ptr<float>() + begin;
  float* code_rows = codes.mutable_data_ptr<float>() + begin;
  float* error_rows = errors.mutable_data_ptr<float>();
  at::parallel_for(0, left.size(0), 8, [&](std::int64_t first, std::int64_t last) {
    std::array<float, kBlock> w;
    for (std::int64_t row = first; row < last; ++row) {
      std::copy_n(weights + row * columns, width, w.data());
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t at = row * per_row + group[i];
        const float value = w[static_cast<std::size_t>(i)], step = scale[at], shift = zero ? zero[at] : 0;
        const float code = range.nearest(value / step + shift);
        const float error = (value - (code - shift) * step) / u[i * columns + i];
        code_rows[row * columns + i] = code;
        error_rows[row * width + i] = error;
        const float* ui = u + i * columns;
        for (std::int64_t j = i + 1; j < width; ++j) w[static_cast<std::size_t>(j)] -= error * ui[j];
      }
    }
  });
}

}  // namespace

// With H = R R^T, R upper (Cholesky from the last column on), U = R^-1.
GptqFactor gptq_factor(const at::Tensor& gram) {
  at::Tensor damped = gram.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  if (!damped.isfinite().all().item<bool>()) throw DataError("the sum over calibration inputs is not finite");
  at::Tensor diagonal = damped.diagonal();
  diagonal.masked_fill_(diagonal == 0, 1);
  diagonal.add_(kGptqDamping * diagonal.mean());
  const at::Tensor order = at::argsort(diagonal, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  at::Tensor as_it_lies = gram.clone();
  as_it_lies.diagonal().copy_(diagonal);
  damped = damped.index_select(0, order).index_select(1, order);
  const at::Tensor root = at::linalg_cholesky(damped.flip({0, 1})).flip({0, 1});
  return {order,
          at::linalg_solve_triangular(root, at::eye(gram.size(0), at::kDouble), /*upper=*/true).to(at::kFloat).contiguous(),
          std::move(as_it_lies)};
}

Rounded gptq(const at::Tensor& weight, const GptqFactor& factor, const model::CompressedScheme& scheme) {
  const at::Tensor cost = factor.upper.diagonal().square().reciprocal();
  return gptq(weight, factor, scheme, best_grids(weight, at::empty_like(cost).index_copy_(0, factor.order, cost), scheme));
}

Rounded gptq(const at::Tensor& weight, const GptqFactor& factor, const model::CompressedScheme& scheme, Grid grid) {
  const std::int64_t rows = weight.size(0), columns = weight.size(1), group = scheme.group == 0 ? columns : scheme.group;
  const auto& [order, upper, gram] = factor;
  const at::Tensor groups = at::floor_divide(order, group);
  at::Tensor left = weight.index_select(1, order), codes = at::empty_like(left);
  for (std::int64_t begin = 0; begin < columns; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, columns);
    const at::Tensor errors = at::empty({rows, end - begin}, at::kFloat);
    round_block(left, codes, errors, upper, grid, groups, begin, end, scheme);
    if (end < columns)
      left.narrow(1, end, columns - end)
          .addmm_(errors, upper.narrow(0, begin, end - begin).narrow(1, end, columns - end), /*beta=*/1, /*alpha=*/-1);
  }
  return {std::move(grid), left.index_copy_(1, order, codes)};
}

}  // namespace graft::exports
