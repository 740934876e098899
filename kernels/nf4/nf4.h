// 4-bit NormalFloat with double quantisation (Dettmers et al. 2023, arXiv:2305.14314, 3), in the layout of bitsandbytes.
//
//   w is cut into blocks of 64 along its elements in memory order (row after row, no padding); s = max |w| of a block
//   code(w) = number of midpoints of neighbouring levels below w (1 / max(s, 1e-38));  0 in a block of zeros is level 7, which is
//   0 two codes to a byte, the first in the high half double quantisation: offset = mean of s;  groups of 256 blocks, s2 = max |s
//   - offset| of a group; s8 = index of the value of nf4_scale_map nearest to (s - offset) / s2 back: w = levels[code] (map[s8]
//   s2 + offset), rounded once
//
// The levels are those of the paper's appendix E. The map is the signed dynamic one of Dettmers 2015, arXiv:1511.04561, 3:
// for e = 0..6, the middles of 2^e equal parts of [0.1, 1] times 10^(e - 6) and their negatives, 0 and 1.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace graft::cuda {

constexpr std::int64_t kNf4Block = 64, kNf4Group = 256;
constexpr float kNf4Smallest = 1e-38f;  // bitsandbytes' divisor of a block of zeros
constexpr std::array<float, 16> kNf4Levels = {-1.0f,
                                              -0.6961928009986877f,
                                              -0.5250730514526367f,
                                              -0.39491748809814453f,
                                              -0.28444138169288635f,
                                              -0.18477343022823334f,
                                              -0.09105003625154495f,
                                              0.0f,
                                              0.07958029955625534f,
                                              0.16093020141124725f,
                                              0.24611230194568634f,
                                              0.33791524171829224f,
                                              0.44070982933044434f,
                                              0.5626170039176941f,
                                              0.7229568362236023f,
                                              1.0f};

// Ascending. The GPU reads it from memory: the caller keeps a copy there.
std::array<float, 256> nf4_scale_map();

// Codes and scales before the double quantisation, which the host does: they are a 64th of the weight.
struct Nf4Quantize {
  const void* weight;   // (count), dense
  std::uint8_t* codes;  // (ceil(count / 2))
  float* scales;        // (ceil(count / 64))
  std::int64_t count;
};

// Writes rows of `columns` elements, `stride` apart.
// Bytes: codes and scales8 are read and the weight is written once.
struct Nf4Dequantize {
  const std::uint8_t *codes, *scales8;
  const float *group_scales, *offset, *map;
  void* weight;
  std::int64_t stride, rows, columns;
};

extern "C" int graft_nf4_quantize(DType type, const Nf4Quantize& arguments, Stream stream);
extern "C" int graft_nf4_dequantize(DType type, const Nf4Dequantize& arguments, Stream stream);

}  // namespace graft::cuda
