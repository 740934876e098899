// The words of AWQ's layout: eight rows of 4-bit codes, one word for each column.
//
//   nibble k of a word, lowest bits first    the code plus 8 of row 0, 2, 4, 6, 1, 3, 5, 7
//
// Codes: I8 (8 n, columns) in -8 .. 7. Words: I32 (n, columns); a file has them turned, (columns, n).
// Source: AutoAWQ's "gemm" version, vLLM model_executor/layers/quantization/auto_awq.py.
#pragma once

#include <ATen/core/Tensor.h>

namespace graft::model {

at::Tensor pack_awq(const at::Tensor& codes);
at::Tensor unpack_awq(const at::Tensor& words);

}  // namespace graft::model
