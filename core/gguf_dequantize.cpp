// Block layouts: llama.cpp ggml/src/ggml-common.h. Arithmetic is that of gguf-py's gguf.quants, in
// f32 and in its order, so that the results have the same bits.
#include <cstring>

#include "core/error.h"
#include "core/gguf.h"
#include "core/half.h"
#include "core/simd.h"

namespace graft {
namespace {

using Byte = std::uint8_t;

std::uint16_t load16(const Byte* source) {
  std::uint16_t value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

float load_half(const Byte* source) { return f32_from_f16(load16(source)); }

void block_f16(const Byte* in, float* out) { *out = load_half(in); }

void block_bf16(const Byte* in, float* out) { *out = f32_from_bf16(load16(in)); }

void block_f32(const Byte* in, float* out) { std::memcpy(out, in, sizeof *out); }

// d | 32 int8
void block_q8_0(const Byte* in, float* out) {
  const float d = load_half(in);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<std::int8_t>(in[2 + j])) * d;
}

// d | 16 bytes: low nibbles are elements 0..15, high nibbles 16..31
void block_q4_0(const Byte* in, float* out) {
  const float d = load_half(in);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((in[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((in[2 + j] >> 4) - 8);
  }
}

// d | m | 16 bytes
void block_q4_1(const Byte* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(in[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(in[4 + j] >> 4) + m;
  }
}

// The 5-bit formats keep each element's top bit in a 32-bit word.
void unpack_5bit(const Byte* high, const Byte* low, int* out) {
  std::uint32_t bits;
  std::memcpy(&bits, high, sizeof bits);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<int>((low[j] & 15u) | (bits >> j & 1u) << 4);
    out[j + 16] = static_cast<int>((low[j] >> 4) | (bits >> (j + 16) & 1u) << 4);
  }
}

// d | top bits | 16 bytes
void block_q5_0(const Byte* in, float* out) {
  const float d = load_half(in);
  int q[32];
  unpack_5bit(in + 2, in + 6, q);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(q[j] - 16);
}

// d | m | top bits | 16 bytes
void block_q5_1(const Byte* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  int q[32];
  unpack_5bit(in + 4, in + 8, q);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(q[j]) + m;
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes, for eight sub-blocks of 32.
struct SubBlocks {
  float scale[8], minimum[8];
};
SubBlocks load_sub_blocks(const Byte* in) {
  const float d = load_half(in), dmin = load_half(in + 2);
  const Byte* s = in + 4;
  SubBlocks out;
  for (int j = 0; j < 4; ++j) {
    out.scale[j] = d * static_cast<float>(s[j] & 63);
    out.minimum[j] = dmin * static_cast<float>(s[j + 4] & 63);
    out.scale[j + 4] = d * static_cast<float>((s[j + 8] & 15) | (s[j] >> 6) << 4);
    out.minimum[j + 4] = dmin * static_cast<float>((s[j + 8] >> 4) | (s[j + 4] >> 6) << 4);
  }
  return out;
}

// d | dmin | 12 scale bytes | 128 bytes: per 64 elements, 32 low nibbles then 32 high ones
void block_q4_k(const Byte* in, float* out) {
  const SubBlocks sub = load_sub_blocks(in);
  for (int c = 0; c < 4; ++c) {
    const Byte* q = in + 16 + 32 * c;
    for (int j = 0; j < 32; ++j) out[64 * c + j] = sub.scale[2 * c] * static_cast<float>(q[j] & 15) - sub.minimum[2 * c];
    for (int j = 0; j < 32; ++j)
      out[64 * c + 32 + j] = sub.scale[2 * c + 1] * static_cast<float>(q[j] >> 4) - sub.minimum[2 * c + 1];
  }
}

// d | dmin | 12 scale bytes | 32 bytes of top bits (bit k for sub-block k) | 128 bytes
void block_q5_k(const Byte* in, float* out) {
  const SubBlocks sub = load_sub_blocks(in);
  const Byte* high = in + 16;
  for (int k = 0; k < 8; ++k) {
    const Byte* q = in + 48 + 32 * (k / 2);
    const int shift = k % 2 * 4;
    for (int j = 0; j < 32; ++j) {
      const int value = (q[j] >> shift & 15) | (high[j] >> k & 1) << 4;
      out[32 * k + j] = sub.scale[k] * static_cast<float>(value) - sub.minimum[k];
    }
  }
}

// 128 bytes of low nibbles | 64 bytes of top pairs | 16 int8 scales | d
void block_q6_k(const Byte* in, float* out) {
  const float d = load_half(in + 208);
  for (int half = 0; half < 2; ++half) {
    const Byte *low = in + 64 * half, *high = in + 128 + 32 * half, *scales = in + 192 + 8 * half;
    for (int k = 0; k < 4; ++k)  // 32 elements each, 16 to a scale
      for (int part = 0; part < 2; ++part) {
        const Byte *nibbles = low + 32 * (k % 2) + 16 * part, *top = high + 16 * part;
        const float scale = d * static_cast<float>(static_cast<std::int8_t>(scales[2 * k + part]));
        float* const to = out + 128 * half + 32 * k + 16 * part;
        for (int j = 0; j < 16; ++j) {
          const int value = (nibbles[j] >> (k / 2 * 4) & 15) | (top[j] >> (2 * k) & 3) << 4;
          to[j] = scale * static_cast<float>(value - 32);
        }
      }
  }
}

template <int kBlock, int kBytes, void (*kDecode)(const Byte*, float*)>
void decode_blocks(const std::byte* source, std::int64_t n, float* out) {
  auto* in = reinterpret_cast<const Byte*>(source);
  for (std::int64_t i = 0; i < n / kBlock; ++i) kDecode(in + i * kBytes, out + i * kBlock);
}

}  // namespace

[[gnu::flatten]] GRAFT_SIMD void dequantize(GgmlType type, const std::byte* source, std::int64_t n, float* out) {
  switch (type) {
    case GgmlType::f32:
      return decode_blocks<1, 4, block_f32>(source, n, out);
    case GgmlType::f16:
      return decode_blocks<1, 2, block_f16>(source, n, out);
    case GgmlType::bf16:
      return decode_blocks<1, 2, block_bf16>(source, n, out);
    case GgmlType::q8_0:
      return decode_blocks<32, 34, block_q8_0>(source, n, out);
    case GgmlType::q4_0:
      return decode_blocks<32, 18, block_q4_0>(source, n, out);
    case GgmlType::q4_1:
      return decode_blocks<32, 20, block_q4_1>(source, n, out);
    case GgmlType::q5_0:
      return decode_blocks<32, 22, block_q5_0>(source, n, out);
    case GgmlType::q5_1:
      return decode_blocks<32, 24, block_q5_1>(source, n, out);
    case GgmlType::q4_k:
      return decode_blocks<256, 144, block_q4_k>(source, n, out);
    case GgmlType::q5_k:
      return decode_blocks<256, 176, block_q5_k>(source, n, out);
    case GgmlType::q6_k:
      return decode_blocks<256, 210, block_q6_k>(source, n, out);
    default:
      throw UnsupportedError(cat("tensors of type ", info_of(type).name,
                                 " cannot be read; use a Q4_K, Q5_K, Q6_K, Q8_0 or F16 version of this model"));
  }
}

}  // namespace graft
