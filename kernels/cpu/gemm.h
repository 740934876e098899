// Products that end in one matrix, summed in f32 and rounded once: what a linear layer with a low-rank update is.
//
//   out (M, N) = [out +] [bias +] sum over terms of left (M, k) right (k, N)
//
// Right sides are packed for every call, a panel of columns at a time: one pass over N k elements against M N k products, so no
// weight is stored twice, and one in NF4 becomes numbers a piece of a panel at a time. Codes of 8 bits come packed
// (kernels/cpu/int8.h). Threads share the panels, or some hundred rows of them where panels are few or the left side is large;
// the order in which an element is summed follows from the terms' k alone, long sums in parts: same bits on any number of
// threads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/cpu/int8.h"
#include "kernels/cpu/nf4.h"
#include "kernels/cpu/tile.h"

namespace graft::kernels::cpu {

// Element: float or Bf16Bits (kernels/cpu/tile.h).
template <class Element>
struct Term {
  const Element* left;  // (M, k), rows of any stride
  std::int64_t left_stride;
  const Element* right;  // transposed: (N, k); else (k, N)
  std::int64_t right_stride, k;
  bool transposed;
  std::optional<Nf4View> nf4 = {};  // instead of right
  std::int64_t nf4_k = 0;           // where in it k begins
  std::int64_t padded = 0;          // columns of left, those from k on being 0; or 0 when nothing is known of them
};

struct Int8Term {
  const Int8Rows* left;
  const Int8Matrix* right;
};

template <class Element>
struct Job {
  Element* out;
  std::int64_t out_stride, rows, columns;
  std::vector<Term<Element>> terms;
  const Element* bias = nullptr;    // (N)
  bool add = false;                 // to what `out` holds
  float scale = 1;                  // of the sum over the terms
  std::vector<Int8Term> int8 = {};  // terms too, summed after the others
};

// All jobs side by side; none may read what another writes.
template <class Element>
void gemm(const std::vector<Job<Element>>& jobs);

// Memory of such a product (rows, columns) over k, all threads together; element: bytes.
std::int64_t gemm_scratch_bytes(std::int64_t rows, std::int64_t columns, std::int64_t k, std::int64_t element);

// out (r, C) f32, rows of any stride, += narrow^T wide, both (M, .) with rows of any stride: the gradient of a low-rank factor.
// out_step: distance of out's columns, so that it may be written transposed.
template <class Element>
struct OuterSum {
  const Element* narrow;
  std::int64_t narrow_stride, rank;
  const Element* wide;
  std::int64_t wide_stride, columns, rows;
  float* out;
  std::int64_t out_stride, out_step;
};
template <class Element>
void outer_sums(const std::vector<OuterSum<Element>>& sums);

}  // namespace graft::kernels::cpu
