#include "kernels/cpu/amx_sums.h"

namespace graft::kernels::cpu {
namespace {

// One block of 32 rows and columns, or what the edges leave: a part of the steps. What the block before left to do is done beside
// its products.
template <class Element, class Sums, int kDown, int kAcross>
void add_part(const Operands<Element>& in, const Tails<Element>& tails, Sums& sums, std::int64_t row, std::int64_t rows,
              std::int64_t column, std::int64_t first, std::int64_t end, bool last) {
  const Waiting waiting = sums.waiting(row, column);
  if (last) sums.expect(row, rows, column);
  start<kDown, kAcross>(first > 0 ? waiting.data : sums.initial(row, column), waiting.row_bytes);
  add_products<Element, kDown, kAcross>(in, tails, row, column, first, end, [&] { sums.do_some(); });
  sums.finish_all();
  store<kDown, kAcross>(waiting.data, waiting.row_bytes);
  if (last) sums.ready(row, rows, column);
}

template <class Element, class Sums>
void add_all(const Operands<Element>& in, std::int64_t rows, std::int64_t columns, Sums sums) {
  Tails<Element> tails(in, rows, columns);
  std::int64_t steps = tails.steps(), configured = 0;
  for (std::int64_t i = 0; i < in.terms; ++i) steps += in.left[i].steps / kTile * kTile;
  const std::int64_t parts = steps > kWhole ? (steps + kPart - 1) / kPart : 1;
  const std::int64_t step = parts > 1 ? (steps / kTile + parts - 1) / parts * kTile : kWhole;
  if (parts <= 1) sums.once();
  for (std::int64_t column = 0; column < columns; column += kBlock) {
    const bool wide = columns - column > kTile;
    for (std::int64_t first = 0; first == 0 || first < steps; first += step)
      for (std::int64_t row = 0; row < rows; row += kBlock) {
        const std::int64_t count = rows - row < kBlock ? rows - row : kBlock;
        if (count != configured) configure(configured = count);
        const auto part = count > kTile ? wide ? &add_part<Element, Sums, 2, 2> : &add_part<Element, Sums, 2, 1>
                          : wide ? &add_part<Element, Sums, 1, 2>
                                        : &add_part<Element, Sums, 1, 1>;
        part(in, tails, sums, row, count, column, first, first + step, first + step >= steps);
      }
  }
  sums.finish_all();
  _tile_release();
}

}  // namespace

void TileAmx::multiply(const TileArguments<Bf16Bits>& t) {
  const LeftSide<Bf16Bits> left{t.a, t.a_stride, t.steps};
  add_all<Bf16Bits>({&left, 1, t.b, t.b_stride}, t.rows, t.columns, InPlace{t});
}

void TileAmx::finish(const FinishArguments<Bf16Bits>& t) {
  std::int64_t steps = 0;
  for (std::int64_t i = 0; i < t.terms; ++i) steps += t.left[i].steps / kTile;
  steps *= (t.rows + kBlock - 1) / kBlock * ((t.columns + kBlock - 1) / kBlock);
  add_all<Bf16Bits>({t.left, t.terms, t.b, t.b_stride}, t.rows, (t.columns + kTile - 1) / kTile * kTile, Rounded(t, steps));
}

void TileAmx::multiply(const Int8Arguments& t) {
  const LeftSide<std::uint8_t> left{t.a, t.a_stride, t.steps};
  add_all<std::uint8_t>({&left, 1, t.b, t.b_stride}, t.rows, t.columns, Scaled(t));
}

void TileAmx::finish(const Int8Finish& t) {
  const LeftSide<std::uint8_t> left{t.sums.a, t.sums.a_stride, t.sums.steps};
  add_all<std::uint8_t>({&left, 1, t.sums.b, t.sums.b_stride}, t.sums.rows, t.sums.columns, ScaledRounded(t));
}

}  // namespace graft::kernels::cpu
