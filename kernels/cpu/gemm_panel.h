// A panel of a product: some columns of a job's output, and a part of what is summed along k. Private to gemm.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/simd.h"

namespace graft::kernels::cpu {

// out = [out +] bias + scale * sums
template <class T>
GRAFT_SIMD void round_sums(const float* sums, std::int64_t n, float scale, const T* bias, bool add, T* out) {
  if (add) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(out[i], sums[i] * scale + load(bias[i]) + load(out[i]));
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(out[i], sums[i] * scale + load(bias[i]));
  }
}
GRAFT_SIMD inline void add_row(const float* x, std::int64_t n, float* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] += x[i];
}

// Elements along k that are multiplied for a term: whole steps, and whole tiles where zeros make them whole.
template <class Element>
std::int64_t depth_of(const Term<Element>& term) {
  const std::int64_t tiles = round_up(term.k, kTileDepth);
  return sizeof(Element) == 2 && isa() == Isa::amx && term.padded >= tiles ? tiles : round_up(term.k, kDepth<Element>);
}

// A part of a job's terms along k. Sums of what is before it wait in f32, (rows, stride), unless it is all of them.
template <class Element>
struct Part {
  std::vector<Term<Element>> terms;
  bool first = true, last = true;
  float* waiting = nullptr;
  std::int64_t stride = 0;

  std::int64_t depth() const {
    std::int64_t depth = 0;
    for (const Term<Element>& term : terms) depth += depth_of(term);
    return depth;
  }
};

template <class Element>
struct Panel {
  const Job<Element>* job;
  const Part<Element>* part;
  std::int64_t column;

  std::int64_t columns() const { return std::min(panel_columns(), job->columns - column); }
  std::int64_t width() const { return round_up(columns(), kLanes); }
  std::int64_t size() const { return part->depth() * width(); }

  // The terms' right sides one after the other: of all their elements along k, [begin, end).
  void pack_into(Element* to, std::int64_t begin, std::int64_t end) const {
    for (const Term<Element>& term : part->terms) {
      const std::int64_t depth = depth_of(term), first = std::clamp<std::int64_t>(begin, 0, depth),
                         last = std::clamp<std::int64_t>(end, 0, depth);
      if (first < last) pack_term(term, first, last, to + first * width());
      to += depth * width();
      begin -= depth, end -= depth;
    }
  }

  // What pack_into reads of the first term, which is the weight.
  Ahead source() const {
    if (part->terms.empty() || part->terms.front().nf4) return {};
    const Term<Element>& term = part->terms.front();
    constexpr auto bytes = static_cast<std::int64_t>(sizeof(Element));
    if (term.transposed) return {term.right + column * term.right_stride, term.right_stride * bytes, columns(), term.k * bytes};
    return {term.right + column, term.right_stride * bytes, term.k, columns() * bytes};
  }

  void multiply_rows(const Element* right, std::int64_t begin, std::int64_t end, const Ahead& ahead = {}) const {
    if (!job->int8.empty() || !part->first || !part->last) return sum_rows(right, begin, end);
    std::vector<LeftSide<Element>> left;
    for (const Term<Element>& term : part->terms)
      left.push_back({term.left + begin * term.left_stride, term.left_stride, depth_of(term) / kDepth<Element>});
    finish({left.data(), static_cast<std::int64_t>(left.size()), end - begin, right, width(),
            job->out + begin * job->out_stride + column, job->out_stride, columns(),
            job->bias == nullptr ? nullptr : job->bias + column, job->add, job->scale, ahead});
  }

 private:
  struct Sums {
    float* data;
    std::int64_t stride;
  };
  Sums waiting(std::int64_t row) const { return {part->waiting + row * part->stride + column, part->stride}; }

  void pack_term(const Term<Element>& term, std::int64_t first, std::int64_t last, Element* to) const {
    const std::int64_t end = std::min(last, term.k), count = std::max<std::int64_t>(end - first, 0);
    if (term.nf4)
      pack_nf4(term, first, end, to);
    else if (term.transposed)
      pack_transposed(term.right + column * term.right_stride + first, term.right_stride, columns(), count, width(), to);
    else
      pack(term.right + first * term.right_stride + column, term.right_stride, count, columns(), width(), to);
    std::fill(to + round_up(count, kDepth<Element>) * width(), to + (last - first) * width(), Element{});
  }

  static constexpr std::int64_t kPiece = 128;  // of NF4 along k: what stays in the first cache between written and packed

  void pack_nf4(const Term<Element>& term, std::int64_t first, std::int64_t end, Element* to) const {
    thread_local Scratch memory;
    auto* numbers = memory.get<Element>(kPanel * kPiece);
    for (std::int64_t k = first; k < end; k += kPiece) {
      const std::int64_t count = std::min(kPiece, end - k);
      if (term.transposed) {
        dequantize(*term.nf4, column, columns(), term.nf4_k + k, count, numbers, kPiece);
        pack_transposed(numbers, kPiece, columns(), count, width(), to);
      } else {
        dequantize(*term.nf4, term.nf4_k + k, count, column, columns(), numbers, kPanel);
        pack(numbers, kPanel, count, columns(), width(), to);
      }
      to += round_up(count, kDepth<Element>) * width();
    }
  }

  // Sums of terms of both kinds, and of parts, meet in f32: of as many rows as stay in the first cache. In bf16 the sums of a
  // part go on from those of the part before, where they wait; in f32, whose result shows the error of a long chain, they are
  // added.
  void sum_rows(const Element* right, std::int64_t begin, std::int64_t end) const {
    const bool whole = part->first && part->last, chained = sizeof(Element) == 2 && !whole;
    const std::int64_t rows = chained ? end - begin : isa() == Isa::amx ? 128 : 48;
    thread_local Scratch memory;
    for (std::int64_t row = begin; row < end; row += rows) {
      const std::int64_t count = std::min(rows, end - row);
      const Sums sums = chained ? waiting(row) : Sums{memory.get<float>(rows * kPanel), kPanel};
      bool add = chained && !part->first;
      const Element* b = right;
      for (const Term<Element>& term : part->terms) {
        const std::int64_t steps = depth_of(term) / kDepth<Element>;
        multiply({term.left + row * term.left_stride, term.left_stride, count, b, width(), steps, sums.data, sums.stride, width(),
                  std::exchange(add, true)});
        b += steps * kDepth<Element> * width();
      }
      if (whole && finish_int8(sums, row, count, add)) continue;
      if (part->last)
        for (const Int8Term& term : job->int8)
          term.right->multiply_panel(*term.left, row, count, column, sums.data, sums.stride, std::exchange(add, true));
      for (std::int64_t i = 0; i < count && !chained && !part->first; ++i)
        add_row(waiting(row + i).data, columns(), sums.data + i * sums.stride);
      for (std::int64_t i = 0; i < count && !chained && !part->last; ++i)
        std::copy(sums.data + i * sums.stride, sums.data + i * sums.stride + columns(), waiting(row + i).data);
      if (part->last) write(sums, row, count);
    }
  }

  // The terms of codes, the last of them together with what comes after it, where that is done beside the products.
  bool finish_int8(const Sums& sums, std::int64_t row, std::int64_t count, bool add) const {
    if constexpr (sizeof(Element) == 2) {
      if (isa() != Isa::amx || job->int8.empty()) return false;
      const Int8Term& last = job->int8.back();
      for (const Int8Term& term : job->int8)
        if (&term != &last)
          term.right->multiply_panel(*term.left, row, count, column, sums.data, sums.stride, std::exchange(add, true));
      TileAmx::finish({last.right->panel(*last.left, row, count, column, sums.data, sums.stride, add),
                       job->out + row * job->out_stride + column, job->out_stride, columns(),
                       job->bias == nullptr ? nullptr : job->bias + column, job->add, job->scale});
      return true;
    }
    return false;
  }

  void write(const Sums& sums, std::int64_t row, std::int64_t count) const {
    using T = std::conditional_t<sizeof(Element) == 2, c10::BFloat16, float>;
    static constexpr std::array<Element, kPanel> zeros{};
    const Element* bias = job->bias == nullptr ? zeros.data() : job->bias + column;
    for (std::int64_t i = 0; i < count; ++i)
      round_sums(sums.data + i * sums.stride, columns(), job->scale, reinterpret_cast<const T*>(bias), job->add,
                 reinterpret_cast<T*>(job->out + (row + i) * job->out_stride + column));
  }
};

}  // namespace graft::kernels::cpu
