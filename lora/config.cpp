#include "lora/config.h"

#include <cmath>

namespace graft::lora {

double LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

}  // namespace graft::lora
