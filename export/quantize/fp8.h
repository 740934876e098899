// fp8 (e4m3) with one scale for each tile of a matrix:  s = f32(max |x| / 448) over the tile,  q = e4m3(x / s), to the nearest,
// ties to even. A tile of zeros has the scale 2^-7.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/fp8_layout.h"

namespace graft::exports {

struct Fp8Weight {
  at::Tensor codes;                                 // F8_E4M3 (out, in)
  at::Tensor scale;                                 // f32 (tiles along out, tiles along in)
  at::Tensor values(const model::Fp8Tiles&) const;  // f32 (out, in): what is read back
};

// x: f32 (out, in). least: at least so much is taken for max |x| of every tile. DataError when a value is not finite.
Fp8Weight round_to_fp8(const at::Tensor& x, const model::Fp8Tiles& tiles, float least = 0);

}  // namespace graft::exports
