// Tensors as the elements that kernels/cpu works on: float, or the bits of a bf16.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::testing {

template <class Element>
constexpr at::ScalarType kType = sizeof(Element) == 2 ? at::kBFloat16 : at::kFloat;

template <class Element>
Element* data(const at::Tensor& x) {
  return static_cast<Element*>(x.mutable_data_ptr());
}

}  // namespace graft::testing
