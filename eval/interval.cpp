#include "eval/interval.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace graft::eval {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The 97.5 % point of Student's t: exact for few degrees of freedom, else by the expansion about the normal's (Abramowitz and
// Stegun 26.7.5), within 0.1 %.
double student(std::size_t degrees) {
  constexpr std::array kFew = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228};
  if (degrees <= kFew.size()) return kFew[degrees - 1];
  constexpr double z = 1.959964;
  const auto n = static_cast<double>(degrees);
  return z + (std::pow(z, 3) + z) / (4 * n) + (5 * std::pow(z, 5) + 16 * std::pow(z, 3) + 3 * z) / (96 * n * n);
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

Interval ratio_interval(std::span<const double> x, std::span<const double> y) {
  const Interval any = {-kInfinity, kInfinity};
  const std::size_t n = x.size();
  if (n < 2) return any;
  const double mx = mean(x), my = mean(y);
  double xx = 0, xy = 0, yy = 0;
  for (std::size_t i = 0; i < n; ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xy += (x[i] - mx) * (y[i] - my);
    yy += (y[i] - my) * (y[i] - my);
  }
  // (mx - R my)^2 = t^2 var(mean of x - R y), a quadratic in R
  const double scale = student(n - 1) * student(n - 1) / static_cast<double>(n * (n - 1));
  const double a = my * my - scale * yy, b = mx * my - scale * xy, c = mx * mx - scale * xx;
  if (!(a > 0)) return any;
  const double root = std::sqrt(std::fmax(b * b - a * c, 0));
  if (!std::isfinite(b) || !std::isfinite(root)) return any;
  return {(b - root) / a, (b + root) / a};
}

}  // namespace graft::eval
