#include "export/quantize/channel_scales.h"

#include <ATen/ATen.h>

#include <limits>

namespace graft::exports {
namespace {

constexpr int kGrid = 20;
constexpr double kLeastScale = 1e-4, kLeastMagnitude = 1e-5;

// Sum over the inputs and the rows of the squared change of the outputs.
double output_error(const Reader& reader, const at::Tensor& scales, const model::CompressedScheme& scheme) {
  const at::Tensor change = nearest_values(reader.weight * scales, scheme).div_(scales).sub_(reader.weight);
  return at::mm(change, reader.inputs->gram).mul_(change).sum(at::kDouble).item<double>();
}

}  // namespace

void InputSums::add(const at::Tensor& x, bool with_gram) {
  const at::Tensor values = x.to(at::kFloat), size = values.abs();
  if (rows == 0) {
    sum = at::zeros({x.size(1)}, at::kDouble);
    squares = at::zeros_like(sum);
    largest = at::zeros({x.size(1)}, at::kFloat);
    if (with_gram) gram = at::zeros({x.size(1), x.size(1)}, at::kFloat);
  }
  rows += x.size(0);
  sum.add_(size.sum(0, /*keepdim=*/false, at::kDouble));
  squares.add_(values.square().sum(0, /*keepdim=*/false, at::kDouble));
  largest = at::maximum(largest, size.amax(0));
  if (with_gram) gram.addmm_(values.t(), values);
}

at::Tensor awq_scales(const std::vector<Reader>& readers, const model::CompressedScheme& scheme) {
  at::Tensor sum = at::zeros({readers.front().weight.size(1)}, at::kDouble);
  double rows = 0;
  for (const Reader& reader : readers) {
    if (reader.inputs->rows == 0) continue;
    sum += reader.inputs->sum;
    rows += static_cast<double>(reader.inputs->rows);
  }
  const at::Tensor mean = (sum / std::max(rows, 1.0)).to(at::kFloat);
  at::Tensor best;
  double least = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kGrid; ++step) {
    at::Tensor scales = at::pow(mean, static_cast<double>(step) / kGrid).clamp_min_(kLeastScale);
    scales = scales / (scales.max() * scales.min()).sqrt();
    double error = 0;
    for (const Reader& reader : readers)
      if (reader.inputs->rows > 0) error += output_error(reader, scales, scheme);
    if (error >= least && best.defined()) continue;
    least = error;
    best = scales;
  }
  return best;
}

at::Tensor smooth_scales(const std::vector<Reader>& readers) {
  at::Tensor input = at::zeros({readers.front().weight.size(1)}, at::kFloat), weight = at::zeros_like(input);
  for (const Reader& reader : readers) {
    if (reader.inputs->rows > 0) input = at::maximum(input, reader.inputs->largest);
    weight = at::maximum(weight, reader.weight.abs().amax(0));
  }
  return (input.clamp_min(kLeastMagnitude) / weight.clamp_min(kLeastMagnitude)).sqrt();
}

}  // namespace graft::exports
