// What a sample of documents says of a ratio of sums, such as the share of a gain that a file keeps.
//
//   R = sum x_i / sum y_i;   the 95 % interval: every R for which the mean of x_i - R y_i is not significantly other than 0, by
//   Student's t with n - 1 degrees of freedom (Fieller 1954)
//
// Documents are the sample, not tokens: those of one document go together. x and y are of the same documents, so that what makes
// a document hard for both models cancels.
#pragma once

#include <span>

namespace graft::eval {

struct Interval {
  double low, high;
};

// Without bounds when the documents do not tell the sum of y from 0, when there are fewer than two, or when a value is not
// finite.
Interval ratio_interval(std::span<const double> x, std::span<const double> y);

}  // namespace graft::eval
