// A matrix in NF4 with double quantisation (nf4.h), in the arithmetic of bitsandbytes: what a frozen linear may be held in while
// training (docs/decisions/0022), and what the export format bnb-nf4 stores. 4.13 bits for each element.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/cpu/nf4.h"

namespace graft::kernels {

struct Nf4Weight {
  explicit Nf4Weight(const at::Tensor& weight);       // (N, K), f32 or bf16. DataError when a value is not finite
  Nf4Weight(const at::Tensor& weight, float offset);  // rows of a larger matrix, whose nf4_offset this is; on the CPU

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

 private:
  Nf4Weight(const at::Tensor& weight, std::optional<float> whole_offset);
};

// The largest |w| of each block of 64 elements, f32 (blocks); not finite where a value is not. Of a dense f32 matrix on the CPU.
at::Tensor nf4_block_scales(const at::Tensor& weight);
// What is taken from the scales of a matrix's blocks before they become codes: their mean. DataError when one is not finite.
float nf4_offset(const at::Tensor& block_scales);

std::int64_t nf4_bytes(std::int64_t elements);  // of codes, scales and group_scales

at::Tensor nf4_levels();        // f32 (16)
at::Tensor nf4_scale_levels();  // f32 (256)

}  // namespace graft::kernels
