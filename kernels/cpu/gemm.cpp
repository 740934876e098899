#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <deque>

#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/tasks.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kPiecesPerThread = 8;      // at least, so that none waits long for the last
constexpr std::int64_t kPanelsPerThread = 8;      // from which on threads share panels, not rows of them
constexpr std::int64_t kRows = 256;               // of a piece at most
constexpr std::int64_t kLeftBytes = 768 << 10;    // of a piece: what stays in the second cache while panels pass by
constexpr std::int64_t kWholeBytes = 1280 << 10;  // of a left side that all panels pass by whole
constexpr std::int64_t kPackedRows = 64;          // of a right side, for all panels
constexpr std::int64_t kPackedBytes = 8 << 20;    // of the panels that are packed at one time, all threads together

// Elements along k: of a sum that is not cut, and of the parts of a longer one, each added to what was summed before. In bf16
// what the second cache takes of a left side, in f32 so that the error of a long sum stays small. A rest that is short, as a
// low-rank term after a weight's, goes with what is before it.
template <class Element>
constexpr std::int64_t kUncut = sizeof(Element) == 2 ? 4096 : 1024;
template <class Element>
constexpr std::int64_t kLongest = sizeof(Element) == 2 ? 1536 : 1024;
constexpr std::int64_t with_rest(std::int64_t longest) { return longest + longest / 8; }
constexpr std::int64_t kPlannedRank = 128;  // columns of low-rank terms that the plan of memory allows for

std::int64_t ceil_div(std::int64_t n, std::int64_t of) { return (n + of - 1) / of; }

// Each thread packs a panel for itself and takes it through all rows, while the source of the next comes from memory.
template <class Element>
void gemm_by_panels(const std::vector<Panel<Element>>& panels) {
  for_each_task(static_cast<std::int64_t>(panels.size()), [&](std::int64_t i) {
    thread_local Scratch memory;
    const Panel<Element>& panel = panels[static_cast<std::size_t>(i)];
    auto* right = memory.get<Element>(panel.size());
    panel.pack_into(right, 0, panel.part->depth());
    const auto next = static_cast<std::size_t>(i + 1);
    panel.multiply_rows(right, 0, panel.job->rows, next < panels.size() ? panels[next].source() : Ahead{});
  });
}

// Of the left side, for each of its rows.
template <class Element>
std::int64_t left_bytes(const Panel<Element>& panel) {
  std::int64_t bytes = panel.part->depth() * static_cast<std::int64_t>(sizeof(Element));
  if (panel.part->last)
    for (const Int8Term& term : panel.job->int8) bytes += term.right->depth();
  return bytes;
}

// Rows of the pieces that a panel's job is shared in, all jobs together having this many panels.
template <class Element>
std::int64_t piece_rows(const Panel<Element>& panel, std::int64_t panels) {
  const std::int64_t unit = isa() == Isa::amx ? 32 : 6;  // of a tile
  const std::int64_t rows = panel.job->rows,
                     most = std::clamp(kLeftBytes / std::max<std::int64_t>(left_bytes(panel), 1), unit, kRows);
  return round_up(ceil_div(rows, std::max(ceil_div(rows, most), ceil_div(kPiecesPerThread * at::get_num_threads(), panels))),
                  unit);
}

// Panels packed for all threads. Rows in memory are read whole, some at a time for all panels.
template <class Element>
void pack_panels(const Panel<Element>* panels, std::int64_t count, const std::vector<Element*>& to) {
  std::int64_t depth = 0;
  bool rows = true;
  for (std::int64_t i = 0; i < count; ++i) {
    depth = std::max(depth, panels[i].part->depth());
    for (const Term<Element>& term : panels[i].part->terms) rows = rows && !term.transposed;
  }
  if (rows && ceil_div(depth, kPackedRows) >= at::get_num_threads())
    for_each_task(ceil_div(depth, kPackedRows), [&](std::int64_t piece) {
      const std::int64_t begin = piece * kPackedRows, end = begin + kPackedRows;
      for (std::int64_t i = 0; i < count; ++i) panels[i].pack_into(to[static_cast<std::size_t>(i)], begin, end);
    });
  else
    for_each_task(count, [&](std::int64_t i) { panels[i].pack_into(to[static_cast<std::size_t>(i)], 0, depth); });
}

// All panels are packed first, then shared in pieces of rows: those of the same rows follow each other. The pieces of
// a sum that is cut are the same threads' from one equal part to the next: the sums wait in their caches.
template <class Element>
void gemm_by_pieces(const Panel<Element>* panels, std::int64_t count) {
  struct Piece {
    std::int64_t panel, begin, end;
  };
  std::int64_t size = 0;
  for (std::int64_t i = 0; i < count; ++i) size += panels[i].size();
  thread_local Scratch memory;
  std::vector<Element*> rights;
  std::vector<Piece> pieces;
  auto* right = memory.get<Element>(size);
  for (std::int64_t i = 0; i < count; ++i) {
    rights.push_back(right);
    right += panels[i].size();
    const std::int64_t rows = panels[i].job->rows, step = piece_rows(panels[i], count);
    for (std::int64_t begin = 0; begin < rows; begin += step) pieces.push_back({i, begin, std::min(begin + step, rows)});
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  pack_panels(panels, count, rights);
  for_each_task(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const Piece& piece = pieces[static_cast<std::size_t>(i)];
    panels[piece.panel].multiply_rows(rights[static_cast<std::size_t>(piece.panel)], piece.begin, piece.end);
  });
}

bool many(std::int64_t panels) { return panels >= kPanelsPerThread * at::get_num_threads(); }

// Panels of this size that are packed at one time where there are as many.
std::int64_t packed_at_once(std::int64_t bytes) {
  return std::max<std::int64_t>(at::get_num_threads(), kPackedBytes / std::max<std::int64_t>(bytes, 1));
}

template <class Element>
void run(const std::vector<Panel<Element>>& panels) {
  std::int64_t largest = 0, left = 0;
  for (const Panel<Element>& panel : panels) {
    largest = std::max(largest, panel.size());
    left = std::max(left, panel.job->rows * left_bytes(panel));
  }
  const auto count = static_cast<std::int64_t>(panels.size());
  if (many(count) && left <= kWholeBytes) return gemm_by_panels(panels);
  const std::int64_t at_once = packed_at_once(largest * static_cast<std::int64_t>(sizeof(Element)));
  for (std::int64_t i = 0; i < count; i += at_once) gemm_by_pieces(panels.data() + i, std::min(at_once, count - i));
}

// The terms, cut where as many elements are together as a sum may have.
template <class Element>
std::vector<Part<Element>> parts_of(const Job<Element>& job) {
  std::vector<Part<Element>> parts(1);
  std::int64_t left = 0, room = kLongest<Element>;
  for (const Term<Element>& term : job.terms) left += term.k;
  if (left <= with_rest(kUncut<Element>)) {
    parts.front().terms = job.terms;
    return parts;
  }
  for (const Term<Element>& term : job.terms)
    for (std::int64_t k = 0; k < term.k;) {
      if (room <= 0 && left > kLongest<Element> / 8) {
        parts.emplace_back();
        room = kLongest<Element>;
      }
      const std::int64_t count = room > 0 ? std::min(room, term.k - k) : term.k - k;
      Term<Element> cut = term;
      cut.left += k, cut.k = count;
      cut.padded = k + count == term.k ? std::max<std::int64_t>(0, term.padded - k) : 0;
      if (term.nf4)
        cut.nf4_k += k;
      else
        cut.right += term.transposed ? k : k * term.right_stride;
      parts.back().terms.push_back(cut);
      room -= depth_of(cut);  // so that cuts fall where whole tiles do
      left -= count;
      k += count;
    }
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i].first = i == 0, parts[i].last = i + 1 == parts.size();
  return parts;
}

template <class Element>
void add_panels(const Job<Element>& job, const Part<Element>& part, std::vector<Panel<Element>>& panels) {
  for (std::int64_t column = 0; column < job.columns; column += panel_columns()) panels.push_back({&job, &part, column});
}

}  // namespace

std::int64_t gemm_scratch_bytes(std::int64_t rows, std::int64_t columns, std::int64_t k, std::int64_t element) {
  const bool bf16 = element == 2;
  const std::int64_t uncut = with_rest(bf16 ? kUncut<Bf16Bits> : kUncut<float>);
  const std::int64_t part = with_rest(bf16 ? kLongest<Bf16Bits> : kLongest<float>);
  const std::int64_t panels = ceil_div(columns, panel_columns()), depth = k > uncut ? part : k;
  const std::int64_t panel = panel_columns() * depth * element;
  const auto whole = [&](std::int64_t deep) { return many(panels) && rows * deep * element <= kWholeBytes; };
  const std::int64_t packed =
      panel * std::min(panels, whole(depth + kPlannedRank) ? at::get_num_threads() : packed_at_once(panel));
  const std::int64_t waits = whole(depth) ? rows : std::min(rows, kRows);  // of a call of tile_amx.cpp
  const std::int64_t aside = bf16 && isa() == Isa::amx ? at::get_num_threads() * waits * panel_columns() * 4 : 0;
  return packed + aside +
         (k + kPlannedRank > uncut ? rows * round_up(columns, kPanel) * static_cast<std::int64_t>(sizeof(float)) : 0);
}

template <class Element>
void gemm(const std::vector<Job<Element>>& jobs) {
  std::deque<std::vector<Part<Element>>> parts;
  std::vector<Panel<Element>> panels;
  for (const Job<Element>& job : jobs) {
    parts.push_back(parts_of(job));
    if (parts.back().size() == 1) add_panels(job, parts.back().front(), panels);
  }
  run(panels);
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    if (parts[j].size() == 1) continue;
    thread_local Scratch memory;
    const std::int64_t stride = round_up(jobs[j].columns, kPanel);
    auto* waiting = memory.get<float>(jobs[j].rows * stride);
    for (Part<Element>& part : parts[j]) {
      part.waiting = waiting, part.stride = stride;
      panels.clear();
      add_panels(jobs[j], part, panels);
      run(panels);
    }
  }
}

template void gemm<float>(const std::vector<Job<float>>&);
template void gemm<Bf16Bits>(const std::vector<Job<Bf16Bits>>&);

}  // namespace graft::kernels::cpu
