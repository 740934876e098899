// Linears in fp8 with one scale for each tile of the matrix: a row, a block, or all of it. What quant_method fp8, ModelOpt's FP8
// algorithms and compressed-tensors' strategies "tensor" and "block" have in common.
//
//   weight              F8_E4M3 (out, in)
//   weight<suffix>      F32, BF16 or F16 (tiles along out, tiles along in); the last tile of either may be smaller
//   input_scale         F32, one number; there when activations are scaled by what calibration found
//   value               weight * scale      in f32
#pragma once

#include <optional>

#include "model/linear_layout.h"

namespace graft::model {

struct Fp8Tiles {
  std::int64_t rows = 0, columns = 0;  // of the tile that has one scale; 0: all of them
  bool input_scale = false;

  std::int64_t down(std::int64_t out) const { return rows == 0 ? 1 : (out + rows - 1) / rows; }
  std::int64_t across(std::int64_t in) const { return columns == 0 ? 1 : (in + columns - 1) / columns; }
  std::string stored_as() const;  // "FP8", "FP8 by row", "FP8 by 128 x 128"
};

at::Tensor f32_from_fp8(const at::Tensor& codes);  // F8_E4M3, dense

// The scale of each element: f32 (out, in), from (tiles along out, tiles along in).
at::Tensor spread(const at::Tensor& scale, const Fp8Tiles& tiles, std::int64_t out, std::int64_t in);

std::unique_ptr<LinearLayout> fp8_layout(const Fp8Tiles& tiles, const std::string& suffix);

// "weight_block_size": [rows, columns] of a config; FormatError when it is not two positive numbers.
Fp8Tiles block_tiles(const Json& sizes, const std::string& origin);

}  // namespace graft::model
