#include "kernels/cpu/gemm.h"

#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kPanel = 64;   // columns that are packed together
constexpr std::int64_t kRows = 252;   // of a piece: enough to pay for reading the panel, few enough to share; 42 times 6
constexpr std::int64_t kBlock = 256;  // of an outer sum

inline std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// A job with its right sides packed, panel by panel, the terms of a panel one after the other.
template <class Element>
struct Packed {
  const Job<Element>* job;
  Element* right;
  std::int64_t depth;  // of all terms together, in elements

  std::int64_t panels() const { return pieces(job->columns, kPanel); }
  std::int64_t width(std::int64_t panel) const {
    return std::min(kPanel, round_up(job->columns - panel * kPanel, kLanes));
  }
  Element* panel(std::int64_t index) const { return right + index * kPanel * depth; }

  void pack_panel(std::int64_t index) const {
    const std::int64_t column = index * kPanel, n = std::min(kPanel, job->columns - column);
    Element* to = panel(index);
    for (const Term<Element>& term : job->terms) {
      if (term.transposed)
        pack_transposed(term.right + column * term.right_stride, term.right_stride, n, term.k, width(index), to);
      else
        pack(term.right + column, term.right_stride, term.k, n, width(index), to);
      to += round_up(term.k, kDepth<Element>) * width(index);
    }
  }

  void multiply_piece(std::int64_t index, std::int64_t begin, std::int64_t end) const {
    const std::int64_t column = index * kPanel, n = std::min(kPanel, job->columns - column);
    std::vector<LeftSide<Element>> left;
    for (const Term<Element>& term : job->terms)
      left.push_back({term.left + begin * term.left_stride, term.left_stride, round_up(term.k, kDepth<Element>) / kDepth<Element>});
    finish({left.data(), static_cast<std::int64_t>(left.size()), end - begin, panel(index), width(index),
            job->out + begin * job->out_stride + column, job->out_stride, n, job->bias == nullptr ? nullptr : job->bias + column,
            job->add, job->scale});
  }
};

}  // namespace

template <class Element>
void gemm(const std::vector<Job<Element>>& jobs) {
  struct Piece {
    std::size_t job;
    std::int64_t panel, begin;
  };
  std::vector<Packed<Element>> packed;
  std::vector<Piece> panels, all;
  std::int64_t size = 0;
  for (const Job<Element>& job : jobs) {
    std::int64_t depth = 0;
    for (const Term<Element>& term : job.terms) depth += round_up(term.k, kDepth<Element>);
    packed.push_back({&job, nullptr, depth});
    size += packed.back().panels() * kPanel * depth;
  }
  thread_local Scratch memory;
  auto* right = memory.get<Element>(size);
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    packed[j].right = right;
    right += packed[j].panels() * kPanel * packed[j].depth;
    for (std::int64_t panel = 0; panel < packed[j].panels(); ++panel) {
      panels.push_back({j, panel, 0});
      for (std::int64_t begin = 0; begin < jobs[j].rows; begin += kRows) all.push_back({j, panel, begin});
    }
  }
  for_each_task(static_cast<std::int64_t>(panels.size()), [&](std::int64_t i) {
    const Piece& piece = panels[static_cast<std::size_t>(i)];
    packed[piece.job].pack_panel(piece.panel);
  });
  for_each_task(static_cast<std::int64_t>(all.size()), [&](std::int64_t i) {
    const Piece& piece = all[static_cast<std::size_t>(i)];
    packed[piece.job].multiply_piece(piece.panel, piece.begin, std::min(piece.begin + kRows, jobs[piece.job].rows));
  });
}

template <class Element>
void outer_sums(const std::vector<OuterSum<Element>>& sums) {
  // narrow^T, as the left side: (r, M).
  std::vector<std::vector<Element>> turned;
  struct Piece {
    std::size_t sum;
    std::int64_t column;
  };
  std::vector<Piece> all;
  for (std::size_t s = 0; s < sums.size(); ++s) {
    const OuterSum<Element>& sum = sums[s];
    std::vector<Element> left(static_cast<std::size_t>(sum.rank * round_up(sum.rows, 2)));
    for (std::int64_t t = 0; t < sum.rows; ++t)
      for (std::int64_t j = 0; j < sum.rank; ++j)
        left[static_cast<std::size_t>(j * round_up(sum.rows, 2) + t)] = sum.narrow[t * sum.narrow_stride + j];
    turned.push_back(std::move(left));
    for (std::int64_t column = 0; column < sum.columns; column += kPanel) all.push_back({s, column});
  }
  for_each_task(static_cast<std::int64_t>(all.size()), [&](std::int64_t task) {
    constexpr std::int64_t depth = kDepth<Element>;
    thread_local Scratch packed_memory, result_memory;
    const auto [s, column] = all[static_cast<std::size_t>(task)];
    const OuterSum<Element>& sum = sums[s];
    const std::int64_t n = std::min(kPanel, sum.columns - column), width = round_up(n, kLanes);
    auto* right = packed_memory.get<Element>(kBlock * width);
    auto* result = result_memory.get<float>(sum.rank * width);
    for (std::int64_t row = 0; row < sum.rows; row += kBlock) {
      const std::int64_t count = std::min(kBlock, sum.rows - row);
      pack(sum.wide + row * sum.wide_stride + column, sum.wide_stride, count, n, width, right);
      multiply({turned[s].data() + row, round_up(sum.rows, 2), sum.rank, right, width, round_up(count, depth) / depth, result, width,
                width, row > 0});
    }
    if (sum.rows == 0) return;
    for (std::int64_t j = 0; j < sum.rank; ++j)
      for (std::int64_t i = 0; i < n; ++i) sum.out[j * sum.out_stride + (column + i) * sum.out_step] += result[j * width + i];
  });
}

template void gemm<float>(const std::vector<Job<float>>&);
template void gemm<Bf16Bits>(const std::vector<Job<Bf16Bits>>&);
template void outer_sums<float>(const std::vector<OuterSum<float>>&);
template void outer_sums<Bf16Bits>(const std::vector<OuterSum<Bf16Bits>>&);

}  // namespace graft::kernels::cpu
