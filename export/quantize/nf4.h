// NF4 with double quantisation, in the arithmetic and layout of bitsandbytes (kernels/nf4/nf4.h, model/layouts/bitsandbytes.cpp).
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::exports {

struct Nf4Weight {
  at::Tensor codes;         // U8 (elements / 2): the first code of a byte in its high half
  at::Tensor scales;        // U8 (blocks of 64): index into the map of 256
  at::Tensor group_scales;  // f32 (groups of 256 blocks)
  double offset = 0;
  at::Tensor values() const;  // f32 (elements): what is read back
};

// x: f32, an even number of elements. DataError when a value is not finite.
Nf4Weight round_to_nf4(const at::Tensor& x);

at::Tensor nf4_levels();        // f32 (16)
at::Tensor nf4_scale_levels();  // f32 (256)

}  // namespace graft::exports
