#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 252;           // of a piece at most; 42 times the 6 that a tile has
constexpr std::int64_t kPiecesPerThread = 8;  // at least, so that none waits long for the last
constexpr std::int64_t kBlock = 256;          // of an outer sum
constexpr std::int64_t kSums = 48;            // rows whose sums wait in f32: what stays in the first cache
constexpr std::int64_t kPanelsPerThread = 8;  // from which on threads share panels, not rows of them
constexpr std::int64_t kPiece = 128;          // of NF4 along k: what stays in the first cache between written and packed

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

// Up to kPanel columns of a job's output.
template <class Element>
struct Panel {
  const Job<Element>* job;
  std::int64_t column;

  std::int64_t columns() const { return std::min(kPanel, job->columns - column); }
  std::int64_t width() const { return round_up(columns(), kLanes); }
  std::int64_t size() const {
    std::int64_t depth = 0;
    for (const Term<Element>& term : job->terms) depth += round_up(term.k, kDepth<Element>);
    return depth * kPanel;
  }

  // The terms' right sides one after the other.
  void pack_into(Element* to) const {
    for (const Term<Element>& term : job->terms) {
      if (term.nf4)
        pack_nf4(term, to);
      else if (term.transposed)
        pack_transposed(term.right + column * term.right_stride, term.right_stride, columns(), term.k, width(), to);
      else
        pack(term.right + column, term.right_stride, term.k, columns(), width(), to);
      to += round_up(term.k, kDepth<Element>) * width();
    }
  }

  void pack_nf4(const Term<Element>& term, Element* to) const {
    thread_local Scratch memory;
    auto* numbers = memory.get<Element>(kPanel * kPiece);
    for (std::int64_t k = 0; k < term.k; k += kPiece) {
      const std::int64_t count = std::min(kPiece, term.k - k);
      if (term.transposed) {
        dequantize(*term.nf4, column, columns(), k, count, numbers, kPiece);
        pack_transposed(numbers, kPiece, columns(), count, width(), to);
      } else {
        dequantize(*term.nf4, k, count, column, columns(), numbers, kPanel);
        pack(numbers, kPanel, count, columns(), width(), to);
      }
      to += round_up(count, kDepth<Element>) * width();
    }
  }

  void multiply_rows(const Element* right, std::int64_t begin, std::int64_t end) const {
    if (!job->int8.empty()) return multiply_int8_rows(right, begin, end);
    std::vector<LeftSide<Element>> left;
    for (const Term<Element>& term : job->terms)
      left.push_back(
          {term.left + begin * term.left_stride, term.left_stride, round_up(term.k, kDepth<Element>) / kDepth<Element>});
    finish({left.data(), static_cast<std::int64_t>(left.size()), end - begin, right, width(),
            job->out + begin * job->out_stride + column, job->out_stride, columns(),
            job->bias == nullptr ? nullptr : job->bias + column, job->add, job->scale});
  }

  // Sums of terms of both kinds meet in f32.
  void multiply_int8_rows(const Element* right, std::int64_t begin, std::int64_t end) const {
    thread_local Scratch memory;
    auto* sums = memory.get<float>(kSums * kPanel);
    for (std::int64_t row = begin; row < end; row += kSums) {
      const std::int64_t count = std::min(kSums, end - row);
      bool add = false;
      const Element* b = right;
      for (const Term<Element>& term : job->terms) {
        const std::int64_t steps = round_up(term.k, kDepth<Element>) / kDepth<Element>;
        multiply({term.left + row * term.left_stride, term.left_stride, count, b, width(), steps, sums, kPanel, width(),
                  std::exchange(add, true)});
        b += steps * kDepth<Element> * width();
      }
      for (const Int8Term& term : job->int8)
        term.right->multiply_panel(*term.left, row, count, column, sums, kPanel, std::exchange(add, true));
      write(sums, row, count);
    }
  }

  void write(const float* sums, std::int64_t row, std::int64_t count) const {
    using T = std::conditional_t<sizeof(Element) == 2, c10::BFloat16, float>;
    static constexpr std::array<Element, kPanel> zeros{};
    const Element* bias = job->bias == nullptr ? zeros.data() : job->bias + column;
    for (std::int64_t i = 0; i < count; ++i)
      round_sums(sums + i * kPanel, columns(), job->scale, reinterpret_cast<const T*>(bias), job->add,
                 reinterpret_cast<T*>(job->out + (row + i) * job->out_stride + column));
  }
};

// Each thread packs a panel for itself and takes it through all rows.
template <class Element>
void gemm_by_panels(const std::vector<Panel<Element>>& panels) {
  for_each_task(static_cast<std::int64_t>(panels.size()), [&](std::int64_t i) {
    thread_local Scratch memory;
    const Panel<Element>& panel = panels[static_cast<std::size_t>(i)];
    auto* right = memory.get<Element>(panel.size());
    panel.pack_into(right);
    panel.multiply_rows(right, 0, panel.job->rows);
  });
}

// Rows of the pieces that a job is shared in, all jobs together having this many panels.
std::int64_t piece_rows(std::int64_t rows, std::int64_t panels) {
  const auto parts = [](std::int64_t n, std::int64_t of) { return (n + of - 1) / of; };
  const std::int64_t wanted = parts(kPiecesPerThread * at::get_num_threads(), panels);
  return round_up(parts(rows, std::max(parts(rows, kRows), wanted)), 6);
}

// Few panels: all are packed first, then shared in pieces of rows.
template <class Element>
void gemm_by_pieces(const std::vector<Panel<Element>>& panels) {
  struct Piece {
    const Panel<Element>* panel;
    const Element* right;
    std::int64_t begin, end;
  };
  std::int64_t size = 0;
  for (const auto& panel : panels) size += panel.size();
  thread_local Scratch memory;
  std::vector<Element*> rights;
  std::vector<Piece> pieces;
  for (auto* right = memory.get<Element>(size); const auto& panel : panels) {
    rights.push_back(right);
    const std::int64_t rows = panel.job->rows, step = piece_rows(rows, static_cast<std::int64_t>(panels.size()));
    for (std::int64_t begin = 0; begin < rows; begin += step)
      pieces.push_back({&panel, right, begin, std::min(begin + step, rows)});
    right += panel.size();
  }
  for_each_task(static_cast<std::int64_t>(panels.size()),
                [&](std::int64_t i) { panels[static_cast<std::size_t>(i)].pack_into(rights[static_cast<std::size_t>(i)]); });
  for_each_task(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const Piece& piece = pieces[static_cast<std::size_t>(i)];
    piece.panel->multiply_rows(piece.right, piece.begin, piece.end);
  });
}

bool by_panels(std::int64_t panels) { return panels >= kPanelsPerThread * at::get_num_threads(); }

}  // namespace

std::int64_t packed_elements(std::int64_t columns, std::int64_t k) {
  const std::int64_t panels = (columns + kPanel - 1) / kPanel;
  return (by_panels(panels) ? at::get_num_threads() : panels) * kPanel * k;
}

template <class Element>
void gemm(const std::vector<Job<Element>>& jobs) {
  std::vector<Panel<Element>> panels;
  for (const Job<Element>& job : jobs)
    for (std::int64_t column = 0; column < job.columns; column += kPanel) panels.push_back({&job, column});
  if (by_panels(static_cast<std::int64_t>(panels.size())))
    gemm_by_panels(panels);
  else
    gemm_by_pieces(panels);
}

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
    for (std::int64_t column = 0; column < sums[s].columns; column += kPanel) all.push_back({s, column});
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
    const std::int64_t n = std::min(kPanel, sum.columns - column), width = round_up(n, kLanes);
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

template void gemm<float>(const std::vector<Job<float>>&);
template void gemm<Bf16Bits>(const std::vector<Job<Bf16Bits>>&);
template void outer_sums<float>(const std::vector<OuterSum<float>>&);
template void outer_sums<Bf16Bits>(const std::vector<OuterSum<Bf16Bits>>&);

}  // namespace graft::kernels::cpu
