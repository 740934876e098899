#include <asm/prctl.h>
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <initializer_list>
#include <new>

#include "kernels/cpu/tile.h"

// A tile is 16 rows of 64 bytes. Of the eight, 0 to 3 hold the sums of 32 rows by 32 columns (0 and 1 the upper 16 rows), 4 and 5
// what lies left of them, 6 and 7 what lies right: four products for four loads. The right side is packed as the instructions
// want it. Steps beyond a multiple of 16, of all terms, are copied side by side, so that a low-rank term costs what it weighs.
// Nothing here may be an inline function that another file could share: it is compiled for these instructions.
namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kTile = 16;           // rows of a tile, its columns of 32 bits, and steps
constexpr std::int64_t kBlock = 2 * kTile;   // rows and columns whose sums are held at one time
constexpr std::int64_t kWord = 4, kLine = kTile * kWord;

struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};
};

// The compiler does not know that tiles and their configuration are loaded from memory: what was written must be there.
inline void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

void configure(std::int64_t rows) {
  const std::int64_t upper = rows < kTile ? rows : kTile, lower = rows - upper;
  Configuration configuration;
  const auto set = [&](int tile, std::int64_t count) {
    configuration.rows[tile] = static_cast<std::uint8_t>(count);
    configuration.bytes[tile] = count > 0 ? kLine : 0;
  };
  for (const int tile : {0, 1, 4}) set(tile, upper);
  for (const int tile : {2, 3, 5}) set(tile, lower);
  for (const int tile : {6, 7}) set(tile, kTile);
  written(&configuration);
  _tile_loadconfig(&configuration);
}

class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { release(); }
  char* get(std::int64_t bytes) {
    if (bytes > size_) {
      release();
      data_ = ::operator new(static_cast<std::size_t>(bytes), kAligned);
      size_ = bytes;
    }
    return static_cast<char*>(data_);
  }

 private:
  static constexpr std::align_val_t kAligned{kLine};
  void release() {
    ::operator delete(data_, kAligned);
    data_ = nullptr, size_ = 0;
  }
  void* data_ = nullptr;
  std::int64_t size_ = 0;
};

template <class Element>
struct Operands {
  const LeftSide<Element>* left;
  std::int64_t terms;
  const void* b;
  std::int64_t b_stride;
};

// Words [steps / 16 * 16, steps) of all terms side by side, then zeros up to a multiple of 16: of 32 rows of the left side at a
// time, and of the right side's columns.
template <class Element>
class Tails {
 public:
  Tails(const Operands<Element>& in, std::int64_t columns) : in_(in) {
    for (std::int64_t i = 0; i < in.terms; ++i) words_ += in.left[i].steps % kTile;
    steps_ = (words_ + kTile - 1) / kTile * kTile;
    if (steps_ == 0) return;
    thread_local Memory memory;
    left_ = memory.get(steps_ * kWord * (kBlock + columns));
    right_ = left_ + steps_ * kWord * kBlock;
    char* to = right_;
    const auto* b = static_cast<const char*>(in.b);
    const std::size_t line = static_cast<std::size_t>(columns * kWord);
    for (std::int64_t i = 0; i < in.terms; ++i) {
      const std::int64_t steps = in.left[i].steps;
      for (std::int64_t p = steps / kTile * kTile; p < steps; ++p, to += line)
        std::memcpy(to, b + p * in.b_stride * kWord, line);
      b += steps * in.b_stride * kWord;
    }
    std::memset(to, 0, static_cast<std::size_t>(steps_ - words_) * line);
    right_stride_ = columns * kWord;
  }

  void copy_left(std::int64_t row, std::int64_t rows) {
    if (steps_ == 0) return;
    std::int64_t at = 0;
    const auto mask = [](std::int64_t words) { return static_cast<__mmask16>((1u << words) - 1); };
    for (std::int64_t i = 0; i < in_.terms; ++i) {
      const LeftSide<Element>& left = in_.left[i];
      const std::int64_t full = left.steps / kTile * kTile, words = left.steps - full;
      if (words == 0) continue;
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto* from = reinterpret_cast<const char*>(left.a + (row + r) * left.a_stride) + full * kWord;
        _mm512_mask_storeu_epi32(left_ + (r * steps_ + at) * kWord, mask(words), _mm512_maskz_loadu_epi32(mask(words), from));
      }
      at += words;
    }
    if (const std::int64_t rest = steps_ - words_; rest > 0)
      for (std::int64_t r = 0; r < rows; ++r)
        _mm512_mask_storeu_epi32(left_ + (r * steps_ + words_) * kWord, mask(rest), _mm512_setzero_si512());
    written(left_);
  }

  std::int64_t steps() const { return steps_; }
  const char* left() const { return left_; }
  std::int64_t left_stride() const { return steps_ * kWord; }
  const char* right() const { return right_; }
  std::int64_t right_stride() const { return right_stride_; }

 private:
  const Operands<Element>& in_;
  std::int64_t words_ = 0, steps_ = 0, right_stride_ = 0;
  char *left_ = nullptr, *right_ = nullptr;
};

// The sums of a block += sixteen steps of one term, times as many of its right side. The numbers of tiles must be literals.
template <class Element, int kDown, int kAcross>
inline void add_steps(const char* a, std::int64_t a_stride, const char* b, std::int64_t b_stride) {
  constexpr bool codes = sizeof(Element) == 1;
  _tile_loadd(6, b, b_stride);
  _tile_loadd(4, a, a_stride);
  if constexpr (codes)
    _tile_dpbusd(0, 4, 6);
  else
    _tile_dpbf16ps(0, 4, 6);
  if constexpr (kAcross == 2) {
    _tile_loadd(7, b + kLine, b_stride);
    if constexpr (codes)
      _tile_dpbusd(1, 4, 7);
    else
      _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (kDown == 2) {
    _tile_loadd(5, a + kTile * a_stride, a_stride);
    if constexpr (codes)
      _tile_dpbusd(2, 5, 6);
    else
      _tile_dpbf16ps(2, 5, 6);
    if constexpr (kAcross == 2) {
      if constexpr (codes)
        _tile_dpbusd(3, 5, 7);
      else
        _tile_dpbf16ps(3, 5, 7);
    }
  }
}

template <class Element, int kDown, int kAcross>
inline void add_products(const Operands<Element>& in, const Tails<Element>& tails, std::int64_t row, std::int64_t column) {
  const auto* b = static_cast<const char*>(in.b) + column * kWord;
  const std::int64_t b_stride = in.b_stride * kWord;
  for (std::int64_t i = 0; i < in.terms; ++i) {
    const LeftSide<Element>& left = in.left[i];
    const auto* a = reinterpret_cast<const char*>(left.a + row * left.a_stride);
    const std::int64_t a_stride = left.a_stride * static_cast<std::int64_t>(sizeof(Element));
    for (std::int64_t p = 0; p + kTile <= left.steps; p += kTile)
      add_steps<Element, kDown, kAcross>(a + p * kWord, a_stride, b + p * b_stride, b_stride);
    b += left.steps * b_stride;
  }
  for (std::int64_t p = 0; p < tails.steps(); p += kTile)
    add_steps<Element, kDown, kAcross>(tails.left() + p * kWord, tails.left_stride(),
                                       tails.right() + column * kWord + p * tails.right_stride(), tails.right_stride());
}

template <int kDown, int kAcross>
inline void start(const void* from, std::int64_t stride) {
  const auto* const c = static_cast<const char*>(from);
  if (c == nullptr) {
    _tile_zero(0);
    if constexpr (kAcross == 2) _tile_zero(1);
    if constexpr (kDown == 2) _tile_zero(2);
    if constexpr (kDown == 2 && kAcross == 2) _tile_zero(3);
    return;
  }
  _tile_loadd(0, c, stride);
  if constexpr (kAcross == 2) _tile_loadd(1, c + kLine, stride);
  if constexpr (kDown == 2) _tile_loadd(2, c + kTile * stride, stride);
  if constexpr (kDown == 2 && kAcross == 2) _tile_loadd(3, c + kTile * stride + kLine, stride);
}

template <int kDown, int kAcross>
inline void store(void* to, std::int64_t stride) {
  auto* const c = static_cast<char*>(to);
  _tile_stored(0, c, stride);
  if constexpr (kAcross == 2) _tile_stored(1, c + kLine, stride);
  if constexpr (kDown == 2) _tile_stored(2, c + kTile * stride, stride);
  if constexpr (kDown == 2 && kAcross == 2) _tile_stored(3, c + kTile * stride + kLine, stride);
}

// Calls block.template operator()<down, across>(row, rows, column) for each block of 32 by 32 sums, or what the edges leave.
template <class Element, class Block>
void for_each_block(Tails<Element>& tails, std::int64_t rows, std::int64_t columns, const Block& block) {
  for (std::int64_t row = 0; row < rows; row += kBlock) {
    const std::int64_t count = rows - row < kBlock ? rows - row : kBlock;
    if (row == 0 || count < kBlock) configure(count);
    tails.copy_left(row, count);
    for (std::int64_t column = 0; column < columns; column += kBlock) {
      const bool wide = columns - column > kTile;
      if (count > kTile)
        wide ? block.template at<2, 2>(row, count, column) : block.template at<2, 1>(row, count, column);
      else
        wide ? block.template at<1, 2>(row, count, column) : block.template at<1, 1>(row, count, column);
    }
  }
  _tile_release();
}

struct InPlace {
  const TileArguments<Bf16Bits>& t;
  const Operands<Bf16Bits>& in;
  const Tails<Bf16Bits>& tails;

  template <int kDown, int kAcross>
  void at(std::int64_t row, std::int64_t, std::int64_t column) const {
    float* const c = t.c + row * t.c_stride + column;
    start<kDown, kAcross>(t.add ? c : nullptr, t.c_stride * kWord);
    add_products<Bf16Bits, kDown, kAcross>(in, tails, row, column);
    store<kDown, kAcross>(c, t.c_stride * kWord);
  }
};

inline __mmask16 first(std::int64_t n) { return static_cast<__mmask16>(n < 16 ? (1u << n) - 1 : 0xffffu); }

inline __m512 widen(const Bf16Bits* from, __mmask16 mask) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
}

struct Rounded {
  const FinishArguments<Bf16Bits>& t;
  const Operands<Bf16Bits>& in;
  const Tails<Bf16Bits>& tails;

  template <int kDown, int kAcross>
  void at(std::int64_t row, std::int64_t rows, std::int64_t column) const {
    alignas(kLine) float sums[kBlock * kBlock];
    start<kDown, kAcross>(nullptr, 0);
    add_products<Bf16Bits, kDown, kAcross>(in, tails, row, column);
    store<kDown, kAcross>(sums, kBlock * kWord);
    const __m512 scale = _mm512_set1_ps(t.scale);
    for (std::int64_t part = 0; part < kAcross * kTile && column + part < t.columns; part += kTile) {
      const __mmask16 mask = first(t.columns - column - part);
      const __m512 bias = t.bias == nullptr ? _mm512_setzero_ps() : widen(t.bias + column + part, mask);
      Bf16Bits* out = t.out + row * t.out_stride + column + part;
      for (std::int64_t r = 0; r < rows; ++r, out += t.out_stride) {
        __m512 value = _mm512_fmadd_ps(_mm512_load_ps(sums + r * kBlock + part), scale, bias);
        if (t.add) value = _mm512_add_ps(value, widen(out, mask));
        _mm256_mask_storeu_epi16(out, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
      }
    }
  }
};

struct Scaled {
  const Int8Arguments& t;
  const Operands<std::uint8_t>& in;
  const Tails<std::uint8_t>& tails;

  template <int kDown, int kAcross>
  void at(std::int64_t row, std::int64_t rows, std::int64_t column) const {
    alignas(kLine) std::int32_t sums[kBlock * kBlock];
    start<kDown, kAcross>(nullptr, 0);
    add_products<std::uint8_t, kDown, kAcross>(in, tails, row, column);
    store<kDown, kAcross>(sums, kBlock * kWord);
    for (std::int64_t part = 0; part < kAcross * kTile; part += kTile) {
      const __m512i shift = _mm512_loadu_si512(t.shift + column + part);
      const __m512 scale = _mm512_loadu_ps(t.column_scale + column + part);
      float* c = t.c + row * t.c_stride + column + part;
      for (std::int64_t r = 0; r < rows; ++r, c += t.c_stride) {
        const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums + r * kBlock + part), shift);
        const __m512 value = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(t.row_scale[row + r])), scale);
        _mm512_storeu_ps(c, t.add ? _mm512_add_ps(_mm512_loadu_ps(c), value) : value);
      }
    }
  }
};

}  // namespace

// The processor has tiles of bf16 and of 8 bits, the system saves them (some virtual machines show the first without the second),
// and lets this process use them, which must be asked for.
bool TileAmx::usable() {
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, AMX-TILE, AMX-INT8
  constexpr unsigned kSaved = 3u << 17;                         // XCR0: TILECFG, TILEDATA
  constexpr int kTileData = 18, kRequestPermission = 0x1023;    // ARCH_REQ_XCOMP_PERM of Linux 5.16
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kNeeded) != kNeeded) return false;
  unsigned saved = 0, high = 0;
  asm("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  return (saved & kSaved) == kSaved && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

void TileAmx::multiply(const TileArguments<Bf16Bits>& t) {
  const LeftSide<Bf16Bits> left{t.a, t.a_stride, t.steps};
  const Operands<Bf16Bits> in{&left, 1, t.b, t.b_stride};
  Tails<Bf16Bits> tails(in, t.columns);
  for_each_block(tails, t.rows, t.columns, InPlace{t, in, tails});
}

void TileAmx::finish(const FinishArguments<Bf16Bits>& t) {
  const Operands<Bf16Bits> in{t.left, t.terms, t.b, t.b_stride};
  const std::int64_t columns = (t.columns + kTile - 1) / kTile * kTile;
  Tails<Bf16Bits> tails(in, columns);
  for_each_block(tails, t.rows, columns, Rounded{t, in, tails});
}

void TileAmx::multiply(const Int8Arguments& t) {
  const LeftSide<std::uint8_t> left{t.a, t.a_stride, t.steps};
  const Operands<std::uint8_t> in{&left, 1, t.b, t.b_stride};
  Tails<std::uint8_t> tails(in, t.columns);
  for_each_block(tails, t.rows, t.columns, Scaled{t, in, tails});
}

}  // namespace graft::kernels::cpu
