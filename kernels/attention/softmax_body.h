// The loops of softmax.h for one instruction set. Included by softmax_<isa>.cpp alone, which are compiled with that set's flags:
// nothing here may be an inline function that another file could share (hence the unnamed namespace).
#pragma once

#include "kernels/attention/softmax.h"
#include "kernels/lanes.h"

namespace graft::kernels::cpu {
namespace {

// Columns [low, high) of a tile that see a key.
struct Visible {
  std::int64_t low, high;
};

inline std::int64_t between(std::int64_t x, std::int64_t low, std::int64_t high) { return x < low ? low : x > high ? high : x; }

inline Visible visible(const SoftmaxBlock& b, std::int64_t row) {
  const std::int64_t low = between(b.key + row - b.first, 0, b.columns);
  return {low, b.window > 0 ? between(b.key + row - b.first + b.window, low, b.columns) : b.columns};
}

// Whether some column does not see one of the keys.
inline bool at_edge(const SoftmaxBlock& b) { return visible(b, b.keys - 1).low > 0 || visible(b, 0).high < kQueries; }

// All ones in the lanes from `column` on that see the key, zeros in the others.
GRAFT_LANES void find_seen(const SoftmaxBlock& b, std::int64_t row, std::int64_t column, Places& seen) {
  const Visible columns = visible(b, row);
  const Places place = kPlace + static_cast<std::int32_t>(column);
  seen = (place >= static_cast<std::int32_t>(columns.low)) & (place < static_cast<std::int32_t>(columns.high));
}

// What depends on the operands' type and on what the instruction set has for it.
struct FloatSet {
  GRAFT_LANES static void exp(Lanes& x) { exp_lanes(x); }
  GRAFT_LANES static void store_left(const Lanes& lanes, float* out) { store_lanes(lanes, out); }
  // Two rows, the second perhaps of zeros.
  GRAFT_LANES static void store_right(const Lanes& low, const Lanes& high, std::int64_t column, float* out) {
    store_lanes(low, out + column);
    store_lanes(high, out + kQueries + column);
  }
};

// As fast_tanh.
template <class Set>
GRAFT_LANES void tanh(Lanes& x) {
  x *= 2.f;
  Set::exp(x);
  x = 1.f - 2.f / (x + 1.f);
}

// Sixteen columns.
template <class Set, bool kEdge, bool kCap, class Element>
GRAFT_LANES void softmax_columns(const SoftmaxForward<Element>& t, std::int64_t column) {
  const SoftmaxBlock& b = t.block;
  const float inverse_cap = kCap ? 1.f / b.softcap : 0.f;
  Lanes largest, before, sum, s;
  load_lanes(before, t.largest + column);
  largest = before;
  for (std::int64_t j = 0; j < b.keys; ++j) {
    float* const row = b.scores + j * kQueries + column;
    load_lanes(s, row);
    s *= b.scale;
    if constexpr (kCap) {
      s *= inverse_cap;
      tanh<Set>(s);
      s *= b.softcap;
      store_lanes(s, row);
    }
    if constexpr (kEdge) {
      Places seen;
      find_seen(b, j, column, seen);
      largest = seen & (s > largest) ? s : largest;
    } else {
      largest = s > largest ? s : largest;
    }
  }
  Lanes factor = before - largest;
  Set::exp(factor);
  load_lanes(sum, t.sum + column);
  sum *= factor;
  const auto exp_of = [&](std::int64_t j, Lanes& x) {
    load_lanes(x, b.scores + j * kQueries + column);
    if constexpr (!kCap) x *= b.scale;
    x -= largest;
    Set::exp(x);
    if constexpr (kEdge) {
      Places seen;
      find_seen(b, j, column, seen);
      x = seen ? x : Lanes{};
    }
    sum += x;
  };
  for (std::int64_t j = 0; j < b.keys; j += 2) {
    Lanes high{};
    exp_of(j, s);
    if (j + 1 < b.keys) exp_of(j + 1, high);
    Set::store_right(s, high, column, t.packed + j * kQueries);
  }
  store_lanes(largest, t.largest + column);
  store_lanes(factor, t.factor + column);
  store_lanes(sum, t.sum + column);
}

template <class Set, bool kEdge, bool kCap, class Element>
GRAFT_LANES void softmax_backward_columns(const SoftmaxBackward<Element>& t, std::int64_t column) {
  const SoftmaxBlock& b = t.block;
  const float scale_in_cap = kCap ? b.scale / b.softcap : 0.f;
  Lanes lse, dot;
  load_lanes(lse, t.lse + column);
  load_lanes(dot, t.dot + column);
  const auto row = [&](std::int64_t j, Lanes& ds) {
    const std::int64_t at = j * kQueries + column;
    Lanes s;
    load_lanes(s, b.scores + at);
    load_lanes(ds, t.gradient + at);
    ds -= dot;
    if constexpr (kCap) {
      s *= scale_in_cap;
      tanh<Set>(s);
      ds *= 1.f - s * s;
      s = b.softcap * s - lse;
    } else {
      s = s * b.scale - lse;
    }
    Set::exp(s);
    ds *= s;
    if constexpr (kEdge) {
      Places seen;
      find_seen(b, j, column, seen);
      s = seen ? s : Lanes{};
      ds = seen ? ds : Lanes{};
    }
    Set::store_left(s, t.p + at);
    Set::store_left(ds, t.ds + at);
  };
  for (std::int64_t j = 0; j < b.keys; j += 2) {
    Lanes low, high{};
    row(j, low);
    if (j + 1 < b.keys) row(j + 1, high);
    Set::store_right(low, high, column, t.packed_ds + j * kQueries);
  }
}

template <class Arguments, class Columns>
GRAFT_LANES void for_each_columns(const Arguments& t, const Columns& columns) {
  const bool edge = at_edge(t.block), cap = t.block.softcap > 0;
  for (std::int64_t column = 0; column < kQueries; column += kLanes) {
    if (edge && cap)
      columns.template operator()<true, true>(column);
    else if (edge)
      columns.template operator()<true, false>(column);
    else if (cap)
      columns.template operator()<false, true>(column);
    else
      columns.template operator()<false, false>(column);
  }
}

template <class Set, class Element>
void softmax_of(const SoftmaxForward<Element>& t) {
  for_each_columns(t, [&]<bool kEdge, bool kCap>(std::int64_t column) { softmax_columns<Set, kEdge, kCap>(t, column); });
}
template <class Set, class Element>
void softmax_backward_of(const SoftmaxBackward<Element>& t) {
  for_each_columns(t, [&]<bool kEdge, bool kCap>(std::int64_t column) { softmax_backward_columns<Set, kEdge, kCap>(t, column); });
}

}  // namespace
}  // namespace graft::kernels::cpu
