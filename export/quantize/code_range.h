// The codes that a scheme has (export/quantize/grid.h), and which is nearest to a place among them.
#pragma once

#include <algorithm>
#include <cmath>

#include "export/quantize/e4m3.h"
#include "model/compressed_tensors.h"

namespace graft::exports {

struct CodeRange {
  bool floating;
  float low, high;

  explicit CodeRange(const model::CompressedScheme& scheme)
      : floating(scheme.format == model::CompressedFormat::floating),
        low(floating ? -kLargestE4M3 : -static_cast<float>(1 << (scheme.bits - 1))),
        high(floating ? -low : -low - 1) {}

  float nearest(float place) const {
    const float inside = std::clamp(place, low, high);
    return floating ? nearest_e4m3(inside) : std::nearbyint(inside);
  }
};

}  // namespace graft::exports
