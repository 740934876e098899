// ldmatrix and mma with the layouts of fragments over the lanes of a warp (PTX ISA 8.7, 9.7.14.5.8 and 9.7.14.5.15).
#include <bit>
#include <cstdint>

#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"

namespace graft::simt {
namespace {

struct LoadMatrix {
  const std::uint16_t* row;
  unsigned* fragment;
  bool transposed;
};

// Lane l brings the address of row l % 8 of matrix l / 8 and takes, of each matrix, elements 2 (l % 4) and the next of row l / 4,
// or of column l / 4 when transposed.
void load_matrices(void* const* lanes, unsigned) {
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      auto* to = static_cast<LoadMatrix*>(lanes[lane]);
      unsigned packed = 0;
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned across = lane / 4, along = 2 * (lane % 4) + i;
        const unsigned row = to->transposed ? along : across, column = to->transposed ? across : along;
        packed |= unsigned{static_cast<const LoadMatrix*>(lanes[matrix * 8 + row])->row[column]} << (16 * i);
      }
      to->fragment[matrix] = packed;
    }
  }
}

struct Product {
  float* c;
  const unsigned *a, *b;
};

float half(unsigned packed, unsigned i) { return std::bit_cast<float>((i == 0 ? packed << 16 : packed & 0xffff0000u)); }

void product(void* const* lanes, unsigned) {
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const auto* from = static_cast<const Product*>(lanes[lane]);
    const unsigned group = lane / 4, pair = 2 * (lane % 4);
    for (unsigned i = 0; i < 2; ++i) {
      a[group][pair + i] = half(from->a[0], i);
      a[group + 8][pair + i] = half(from->a[1], i);
      a[group][pair + 8 + i] = half(from->a[2], i);
      a[group + 8][pair + 8 + i] = half(from->a[3], i);
      b[pair + i][group] = half(from->b[0], i);
      b[pair + 8 + i][group] = half(from->b[1], i);
    }
  }
  float d[16][8] = {};
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned k = 0; k < 16; ++k)
      for (unsigned j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    float* c = static_cast<const Product*>(lanes[lane])->c;
    const unsigned group = lane / 4, pair = 2 * (lane % 4);
    for (unsigned i = 0; i < 4; ++i) c[i] += d[group + 8 * (i / 2)][pair + i % 2];
  }
}

}  // namespace

void load_matrix(const void* row, unsigned (&fragment)[4], bool transposed) {
  check_aligned(row, 16);
  access(row, 16, false, __builtin_return_address(0));
  LoadMatrix mine{static_cast<const std::uint16_t*>(row), fragment, transposed};
  warp_operation(0xffffffffu, load_matrices, &mine);
}

void multiply_accumulate(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Product mine{c, a, b};
  warp_operation(0xffffffffu, product, &mine);
}

}  // namespace graft::simt
