#include "kernels/lora_linear/outer_sum.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr std::int64_t kLanes = 16, kColumns = 2 * kLanes, kRanks = 4, kRows = 256;

// Sixteen floats; the compiler takes as many registers for them as the machine needs.
using Lanes = float __attribute__((vector_size(64)));

inline void load_lanes(Lanes& out, const float* from) { std::memcpy(&out, from, sizeof out); }
inline void load_lanes(Lanes& out, const c10::BFloat16* from) {
  std::uint32_t words[kLanes];
#pragma omp simd
  for (std::int64_t i = 0; i < kLanes; ++i) words[i] = static_cast<std::uint32_t>(from[i].x) << 16;
  std::memcpy(&out, words, sizeof out);
}

// Adds four ranks of `rows` rows times 32 columns. narrow: (rows, 4).
template <class T>
GRAFT_SIMD void add_tile(const float* narrow, std::int64_t rows, const T* wide, std::int64_t stride, float* out,
                         std::int64_t out_stride) {
  Lanes low[kRanks] = {}, high[kRanks] = {};
  for (std::int64_t t = 0; t < rows; ++t) {
    Lanes x, y;
    load_lanes(x, wide + t * stride);
    load_lanes(y, wide + t * stride + kLanes);
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < kRanks; ++j) {
      low[j] += x * narrow[t * kRanks + j];
      high[j] += y * narrow[t * kRanks + j];
    }
  }
  for (std::int64_t j = 0; j < kRanks; ++j) {
    for (std::int64_t i = 0; i < kLanes; ++i) {
      out[j * out_stride + i] += low[j][i];
      out[j * out_stride + kLanes + i] += high[j][i];
    }
  }
}

// The last columns, fewer than a tile.
template <class T>
void add_rest(const float* narrow, std::int64_t rows, const T* wide, std::int64_t stride, std::int64_t columns, float* out,
              std::int64_t out_stride) {
  for (std::int64_t j = 0; j < kRanks; ++j) {
    for (std::int64_t i = 0; i < columns; ++i) {
      float sum = 0;
      for (std::int64_t t = 0; t < rows; ++t) sum += load(wide[t * stride + i]) * narrow[t * kRanks + j];
      out[j * out_stride + i] += sum;
    }
  }
}

// (M, r) as groups of four ranks, each (M, 4) f32; ranks beyond r are zero.
template <class T>
std::vector<float> by_groups(const at::Tensor& narrow, std::int64_t groups) {
  const std::int64_t rows = narrow.size(0), rank = narrow.size(1);
  std::vector<float> packed(static_cast<std::size_t>(groups * rows * kRanks), 0.f);
  const T* data = narrow.const_data_ptr<T>();
  for (std::int64_t t = 0; t < rows; ++t) {
    const T* row = data + t * narrow.stride(0);
    for (std::int64_t j = 0; j < rank; ++j)
      packed[static_cast<std::size_t>(((j / kRanks) * rows + t) * kRanks + j % kRanks)] = load(row[j]);
  }
  return packed;
}

template <class T>
void sum_into(float* out, const at::Tensor& narrow, const at::Tensor& wide, std::int64_t groups) {
  const std::int64_t rows = wide.size(0), columns = wide.size(1), stride = wide.stride(0);
  const std::vector<float> packed = by_groups<T>(narrow, groups);
  const T* data = wide.const_data_ptr<T>();
  at::parallel_for(0, (columns + kColumns - 1) / kColumns, 4, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t strip = first; strip < last; ++strip) {
      const std::int64_t column = strip * kColumns, width = std::min(kColumns, columns - column);
      for (std::int64_t begin = 0; begin < rows; begin += kRows) {
        const std::int64_t count = std::min(kRows, rows - begin);
        const T* block = data + begin * stride + column;
        for (std::int64_t g = 0; g < groups; ++g) {
          const float* ranks = packed.data() + (g * rows + begin) * kRanks;
          float* target = out + g * kRanks * columns + column;
          if (width == kColumns)
            add_tile(ranks, count, block, stride, target, columns);
          else
            add_rest(ranks, count, block, stride, width, target, columns);
        }
      }
    }
  });
}

}  // namespace

at::Tensor outer_sum(const at::Tensor& narrow, const at::Tensor& wide) {
  const std::int64_t rank = narrow.size(1), groups = (rank + kRanks - 1) / kRanks;
  const at::Tensor out = at::zeros({groups * kRanks, wide.size(1)}, wide.options().dtype(at::kFloat));
  by_type(wide.scalar_type(), [&](auto type) { sum_into<decltype(type)>(out.mutable_data_ptr<float>(), narrow, wide, groups); });
  return out.narrow(0, 0, rank);
}

}  // namespace graft::kernels
