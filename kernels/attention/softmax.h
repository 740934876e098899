// What attention's tiles do between their products, on blocks of up to kKeys rows (keys) of kQueries columns (queries).
//
//   forward:   P = exp(s' - m), m: running maximum of a column        s' = scale s, or cap tanh(scale s / cap)
//   backward:  P = exp(s' - lse),  dS = P (dP - rowsum(dO * O)) [(1 - (s' / cap)^2)], without the factor `scale`
//
// 0 where a column does not see the key. Results are operands of the next products, in their type (kernels/cpu/tile.h): rows of
// kQueries values as the left side of a product over the queries, packed as the right side of one over the keys; an odd number of
// keys has a row of zeros after it.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

inline constexpr std::int64_t kQueries = 64, kKeys = 64;  // of a tile at most

struct SoftmaxBlock {
  float* scores;                                   // (keys, kQueries); the forward may overwrite them
  std::int64_t keys, key, first, columns, window;  // key: position of row 0; first: of column 0; columns: queries there are
  float scale, softcap;                            // window, softcap: 0 for none
};
template <class Element>
struct SoftmaxForward {
  SoftmaxBlock block;
  float *largest, *sum, *factor;  // of a column: m, the sum of P, and what sums from before must be multiplied with
  Element* packed;
};
template <class Element>
struct SoftmaxBackward {
  SoftmaxBlock block;
  const float *gradient, *lse, *dot;  // gradient: dP, as scores
  Element *p, *ds, *packed_ds;
};

void softmax(const SoftmaxForward<float>& arguments);
void softmax(const SoftmaxForward<Bf16Bits>& arguments);  // only where has_bf16_dot()
void softmax_backward(const SoftmaxBackward<float>& arguments);
void softmax_backward(const SoftmaxBackward<Bf16Bits>& arguments);

// One of each per instruction set, in a file compiled for it.
struct SoftmaxScalar {
  static void forward(const SoftmaxForward<float>& arguments);
  static void backward(const SoftmaxBackward<float>& arguments);
};
struct SoftmaxAvx2 {
  static void forward(const SoftmaxForward<float>& arguments);
  static void backward(const SoftmaxBackward<float>& arguments);
};
struct SoftmaxAvx512 {
  static void forward(const SoftmaxForward<float>& arguments);
  static void backward(const SoftmaxBackward<float>& arguments);
};
struct SoftmaxAvx512Bf16 {
  static void forward(const SoftmaxForward<Bf16Bits>& arguments);
  static void backward(const SoftmaxBackward<Bf16Bits>& arguments);
};

}  // namespace graft::kernels::cpu
