#include <algorithm>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 256;  // rows whose products are added at one time
// Of a task: rows lie far apart and come from memory, which gives two lines at a time to the processor that asks for one.
constexpr std::int64_t kColumns = 128;

}  // namespace

template <class Element>
void outer_sums(const std::vector<OuterSum<Element>>& sums) {
  struct Piece {
    std::size_t sum;
    std::int64_t column;  // or row
  };
  std::vector<Piece> all, blocks;
  std::vector<Element*> turned;  // narrow^T, as the left side: (r, M)
  std::int64_t size = 0;
  for (const OuterSum<Element>& sum : sums) size += sum.rank * round_up(sum.rows, 2);
  thread_local Scratch memory;
  auto* left = memory.get<Element>(size);
  for (std::size_t s = 0; s < sums.size(); ++s) {
    turned.push_back(left);
    left += sums[s].rank * round_up(sums[s].rows, 2);
    for (std::int64_t column = 0; column < sums[s].columns; column += kColumns) all.push_back({s, column});
    for (std::int64_t row = 0; row < sums[s].rows; row += kBlock) blocks.push_back({s, row});
  }
  for_each_task(static_cast<std::int64_t>(blocks.size()), [&](std::int64_t task) {
    const auto [s, row] = blocks[static_cast<std::size_t>(task)];
    const OuterSum<Element>& sum = sums[s];
    const std::int64_t stride = round_up(sum.rows, 2), end = std::min(row + kBlock, sum.rows);
    for (std::int64_t j = 0; j < sum.rank; ++j) {
      Element* to = turned[s] + j * stride;
      for (std::int64_t t = row; t < end; ++t) to[t] = sum.narrow[t * sum.narrow_stride + j];
      std::fill(to + end, to + round_up(end, 2), Element{});
    }
  });
  for_each_task(static_cast<std::int64_t>(all.size()), [&](std::int64_t task) {
    constexpr std::int64_t depth = kDepth<Element>;
    thread_local Scratch packed_memory, result_memory;
    const auto [s, column] = all[static_cast<std::size_t>(task)];
    const OuterSum<Element>& sum = sums[s];
    const std::int64_t n = std::min(kColumns, sum.columns - column), width = round_up(n, kLanes);
    auto* right = packed_memory.get<Element>(kBlock * width);
    auto* result = result_memory.get<float>(sum.rank * width);
    for (std::int64_t row = 0; row < sum.rows; row += kBlock) {
      const std::int64_t count = std::min(kBlock, sum.rows - row);
      pack(sum.wide + row * sum.wide_stride + column, sum.wide_stride, count, n, width, right);
      multiply({turned[s] + row, round_up(sum.rows, 2), sum.rank, right, width, round_up(count, depth) / depth, result, width,
                width, row > 0});
    }
    if (sum.rows == 0) return;
    for (std::int64_t j = 0; j < sum.rank; ++j)
      for (std::int64_t i = 0; i < n; ++i) sum.out[j * sum.out_stride + (column + i) * sum.out_step] += result[j * width + i];
  });
}

template void outer_sums<float>(const std::vector<OuterSum<float>>&);
template void outer_sums<Bf16Bits>(const std::vector<OuterSum<Bf16Bits>>&);

}  // namespace graft::kernels::cpu
