// Templates that attention_cpu*.cpp share. T: of the tensors. Element: of the products, kernels/cpu/tile.h.
#pragma once

#include <vector>

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/softmax.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {

// Keys [begin, end) that some column of the tile sees.
struct KeyRange {
  std::int64_t begin, end;
};
inline KeyRange keys_of(std::int64_t first, std::int64_t columns, std::int64_t window) {
  return {window > 0 ? std::max<std::int64_t>(0, first - window + 1) : 0, first + columns};
}

template <class Element, class T>
inline Element as_element(T x) {
  if constexpr (sizeof(Element) == sizeof(T))
    return std::bit_cast<Element>(x);
  else
    return load(x);
}

// (n, D) rows as the right side of a product over D with kQueries columns.
template <class Element, class T>
void pack_columns(const T* rows, std::int64_t stride, std::int64_t n, std::int64_t d, Element* out) {
  if constexpr (sizeof(T) == sizeof(Element)) {
    pack_transposed(reinterpret_cast<const Element*>(rows), stride, n, d, kQueries, out);
  } else {
    std::fill(out, out + d * kQueries, Element{});
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < d; ++j) out[j * kQueries + i] = as_element<Element>(rows[i * stride + j]);
  }
}

// The same rows as the right side of a product over kQueries of them, with `width` columns; zero beyond n.
template <class Element, class T>
void pack_rows(const T* rows, std::int64_t stride, std::int64_t n, std::int64_t d, std::int64_t width, Element* out) {
  const std::int64_t packed = round_up(n, kDepth<Element>);
  if constexpr (sizeof(T) == sizeof(Element)) {
    pack(reinterpret_cast<const Element*>(rows), stride, n, d, width, out);
  } else {
    std::fill(out, out + n * width, Element{});
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < d; ++j) out[i * width + j] = as_element<Element>(rows[i * stride + j]);
  }
  std::fill(out + packed * width, out + kQueries * width, Element{});
}

// (D, kQueries) sums of a tile as its `columns` rows of D values, times factor. `turned` has room for both.
template <class T>
GRAFT_SIMD void write_turned(const float* sums, std::int64_t d, std::int64_t columns, float factor, float* turned, T* rows,
                             std::int64_t stride) {
  transpose_words(sums, kQueries * 4, d, columns, reinterpret_cast<std::uint32_t*>(turned), d);
  for (std::int64_t i = 0; i < columns; ++i) {
#pragma omp simd
    for (std::int64_t j = 0; j < d; ++j) store(rows[i * stride + j], factor * turned[i * d + j]);
  }
}

// Pairs of bf16 as rows of their low and of their high halves.
GRAFT_SIMD inline void split_pairs(const std::uint32_t* pairs, std::int64_t n, Bf16Bits* low, Bf16Bits* high) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    low[i] = static_cast<Bf16Bits>(pairs[i]);
    high[i] = static_cast<Bf16Bits>(pairs[i] >> 16);
  }
}

// out (d, n), rows at a distance of `out_stride` = the transposed n <= kKeys rows of d elements; of an odd number of bf16 an
// element behind each row is read.
inline void transpose(const float* rows, std::int64_t stride, std::int64_t n, std::int64_t d, float* out,
                      std::int64_t out_stride) {
  transpose_words(rows, stride * 4, n, d, reinterpret_cast<std::uint32_t*>(out), out_stride);
}
inline void transpose(const Bf16Bits* rows, std::int64_t stride, std::int64_t n, std::int64_t d, Bf16Bits* out,
                      std::int64_t out_stride) {
  thread_local Scratch memory;
  const std::int64_t words = (d + 1) / 2;
  auto* pairs = memory.get<std::uint32_t>((words + 1) * kKeys);
  auto* unused = reinterpret_cast<Bf16Bits*>(pairs + words * kKeys);
  transpose_words(rows, stride * 2, n, words, pairs, kKeys);
  for (std::int64_t w = 0; w < words; ++w) {
    Bf16Bits* low = out + 2 * w * out_stride;
    split_pairs(pairs + w * kKeys, n, low, 2 * w + 1 < d ? low + out_stride : unused);
  }
}

// The keys or values of all segments: as rows (keys, D), in place where their type is the products', and turned, (D, keys).
template <class Element>
class Side {
 public:
  template <class T>
  Side(const at::Tensor& x, const std::vector<Segment>& segments, bool turned, T /*type*/) : d_(x.size(2)) {
    const std::int64_t tokens = x.size(0), heads = x.size(1), depth = kDepth<Element>, width = round_up(d_, depth);
    const T* data = x.const_data_ptr<T>();
    if (sizeof(T) == sizeof(Element) && width == d_) {
      rows_ = reinterpret_cast<const Element*>(data);
      row_stride_ = x.stride(0), head_stride_ = x.stride(1);
    } else {
      auto* copied = copied_.get<Element>(heads * tokens * width);
      for_each_task((tokens + kKeys - 1) / kKeys, [&](std::int64_t block) {
        for (std::int64_t t = block * kKeys; t < std::min((block + 1) * kKeys, tokens); ++t)
          for (std::int64_t head = 0; head < heads; ++head) {
            const T* from = data + t * x.stride(0) + head * x.stride(1);
            Element* to = copied + (head * tokens + t) * width;
            for (std::int64_t j = 0; j < d_; ++j) to[j] = as_element<Element>(from[j]);
            std::fill(to + d_, to + width, Element{});
          }
      });
      rows_ = copied;
      row_stride_ = width, head_stride_ = tokens * width;
    }
    if (!turned) return;
    struct Block {
      std::size_t segment;
      std::int64_t key;
    };
    std::vector<Block> blocks;
    // A step of two keys must not reach into the next segment: NaN may be there.
    for (std::size_t s = 0; s < segments.size(); ++s) {
      column_.push_back(turned_stride_);
      turned_stride_ += round_up(segments[s].keys, depth);
      for (std::int64_t key = 0; key < segments[s].keys; key += kKeys) blocks.push_back({s, key});
    }
    auto* all = turned_memory_.get<Element>(heads * d_ * turned_stride_);
    turned_ = all;
    const auto count = static_cast<std::int64_t>(blocks.size());
    for_each_task(heads * count, [&](std::int64_t task) {
      const std::int64_t head = task / count;
      const auto [s, key] = blocks[static_cast<std::size_t>(task % count)];
      const std::int64_t n = std::min(kKeys, segments[s].keys - key), padded = round_up(n, depth);
      Element* to = all + head * d_ * turned_stride_ + column_[s] + key;
      transpose(row(segments[s], head, key), row_stride_, n, d_, to, turned_stride_);
      for (std::int64_t j = 0; j < d_; ++j) std::fill(to + j * turned_stride_ + n, to + j * turned_stride_ + padded, Element{});
    });
  }

  std::int64_t row_stride() const { return row_stride_; }
  std::int64_t turned_stride() const { return turned_stride_; }
  const Element* row(const Segment& segment, std::int64_t head, std::int64_t key) const {
    return rows_ + (segment.key + key) * row_stride_ + head * head_stride_;
  }
  const Element* turned(std::size_t segment, std::int64_t head, std::int64_t key) const {
    return turned_ + head * d_ * turned_stride_ + column_[segment] + key;
  }

 private:
  std::int64_t d_;
  const Element *rows_ = nullptr, *turned_ = nullptr;
  std::int64_t row_stride_ = 0, head_stride_ = 0, turned_stride_ = 0;
  Scratch copied_, turned_memory_;
  std::vector<std::int64_t> column_;
};

template <class T, class Element>
void forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Segment>& segments,
             const AttentionOptions& options, at::Tensor out, at::Tensor lse);

struct Forwarded {
  const at::Tensor &dout, &q, &k, &v, &out, &lse;
};
template <class T, class Element>
void backward(const Forwarded& in, const std::vector<Segment>& segments, const AttentionOptions& options, at::Tensor dq,
              at::Tensor dk, at::Tensor dv);

}  // namespace graft::kernels::cpu
