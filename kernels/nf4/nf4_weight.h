// A matrix in NF4 with double quantisation (nf4.h), in the arithmetic of bitsandbytes: what a frozen linear may be held in while
// training (docs/decisions/0022), and what the export format bnb-nf4 stores. 4.13 bits for each element.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/cpu/nf4.h"

namespace graft::kernels {

struct Nf4Weight {
  explicit Nf4Weight(const at::Tensor& weight);  // (N, K), f32 or bf16. DataError when a value is not finite

  std::int64_t out() const { return shape[0]; }
  std::int64_t in() const { return shape[1]; }
  std::int64_t bytes() const;
  at::Tensor values(at::ScalarType type) const;  // (N, K) f32 or bf16: what is read back
  cpu::Nf4View view() const;

  std::int64_t shape[2];
  at::Tensor codes;         // U8 (ceil(N K / 2))
  at::Tensor scales;        // U8 (blocks of 64): index into the map of 256
  at::Tensor group_scales;  // f32 (groups of 256 blocks)
  at::Tensor scale_map;     // f32 (257): the map and, behind it, the offset, as device kernels read them
  float offset;
};

std::int64_t nf4_bytes(std::int64_t elements);  // of codes, scales and group_scales

at::Tensor nf4_levels();        // f32 (16)
at::Tensor nf4_scale_levels();  // f32 (256)

}  // namespace graft::kernels
