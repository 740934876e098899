#include <asm/prctl.h>
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "kernels/cpu/tile.h"

// A tile is 16 rows of 64 bytes. Of the eight, 0 to 3 hold the sums of 32 rows by 32 columns (0 and 1 the upper 16 rows), 4 and 5
// what lies left of them, 6 and 7 what lies right: four products for four loads. The right side is packed as the instructions
// want it. A tile's loads from the second cache take longer than its products, so 32 columns go through all rows with as many
// steps as leave their right side in the first cache; between those the sums wait in memory.
// Nothing here may be an inline function that another file could share: it is compiled for these instructions.
namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kTile = 16;          // rows of a tile, its columns of 32 bits, and steps
constexpr std::int64_t kBlock = 2 * kTile;  // rows and columns whose sums are held at one time
constexpr std::int64_t kWord = 4, kLine = kTile * kWord;
constexpr std::int64_t kPart = 320;  // steps: 40 KiB of a right side

struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};
};

// The compiler does not know that tiles and their configuration are loaded from memory: what was written must be there.
inline void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

constexpr Configuration of_rows(std::int64_t rows) {
  const std::int64_t upper = rows < kTile ? rows : kTile, lower = rows - upper;
  Configuration configuration;
  for (int tile = 0; tile < 8; ++tile) {
    const std::int64_t count = tile >= 6 ? kTile : tile == 0 || tile == 1 || tile == 4 ? upper : lower;
    configuration.rows[tile] = static_cast<std::uint8_t>(count);
    configuration.bytes[tile] = count > 0 ? kLine : 0;
  }
  return configuration;
}

void configure(std::int64_t rows) {
  static constexpr Configuration whole = of_rows(kBlock);
  if (rows == kBlock) return _tile_loadconfig(&whole);
  const Configuration configuration = of_rows(rows);
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

// Steps beyond a multiple of 16 of all terms side by side, then zeros up to a multiple of 16, of both sides: a low-rank term
// costs what it weighs.
template <class Element>
class Tails {
 public:
  Tails(const Operands<Element>& in, std::int64_t rows, std::int64_t columns) {
    std::int64_t words = 0;
    for (std::int64_t i = 0; i < in.terms; ++i) words += in.left[i].steps % kTile;
    steps_ = (words + kTile - 1) / kTile * kTile;
    if (steps_ == 0) return;
    right_stride_ = columns * kWord;
    thread_local Memory memory;
    left_ = memory.get(steps_ * kWord * (rows + columns));
    right_ = left_ + steps_ * kWord * rows;
    std::memset(right_ + words * right_stride_, 0, static_cast<std::size_t>((steps_ - words) * right_stride_));
    const auto* b = static_cast<const char*>(in.b);
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < in.terms; ++i) {
      const LeftSide<Element>& left = in.left[i];
      const std::int64_t full = left.steps / kTile * kTile, tail = left.steps - full;
      for (std::int64_t p = 0; p < tail; ++p)
        std::memcpy(right_ + (at + p) * right_stride_, b + (full + p) * in.b_stride * kWord,
                    static_cast<std::size_t>(right_stride_));
      if (tail > 0) copy(left, full, tail, rows, at);
      at += tail;
      b += left.steps * in.b_stride * kWord;
    }
    for (std::int64_t r = 0; r < rows && words < steps_; ++r)
      _mm512_mask_storeu_epi32(left_ + (r * steps_ + words) * kWord, mask(steps_ - words), _mm512_setzero_si512());
    written(left_);
  }

  std::int64_t steps() const { return steps_; }
  const char* left(std::int64_t row) const { return left_ + row * steps_ * kWord; }
  std::int64_t left_stride() const { return steps_ * kWord; }
  const char* right() const { return right_; }
  std::int64_t right_stride() const { return right_stride_; }

 private:
  static __mmask16 mask(std::int64_t words) { return static_cast<__mmask16>((1u << words) - 1); }
  void copy(const LeftSide<Element>& left, std::int64_t from, std::int64_t words, std::int64_t rows, std::int64_t to) {
    for (std::int64_t r = 0; r < rows; ++r)
      _mm512_mask_storeu_epi32(
          left_ + (r * steps_ + to) * kWord, mask(words),
          _mm512_maskz_loadu_epi32(mask(words), reinterpret_cast<const char*>(left.a + r * left.a_stride) + from * kWord));
  }

  std::int64_t steps_ = 0, right_stride_ = 0;
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

// Steps [first, last), multiples of 16, of all terms one after the other, and then of their tails. between: what else there is to
// do, a piece after each sixteen steps, while the tiles are busy.
template <class Element, int kDown, int kAcross, class Between>
inline void add_products(const Operands<Element>& in, const Tails<Element>& tails, std::int64_t row, std::int64_t column,
                         std::int64_t first, std::int64_t last, const Between& between) {
  const auto* b = static_cast<const char*>(in.b) + column * kWord;
  const std::int64_t b_stride = in.b_stride * kWord;
  const auto add = [&](const char* a, std::int64_t a_stride, const char* right, std::int64_t right_stride, std::int64_t steps) {
    for (std::int64_t p = first > 0 ? first : 0; p < steps && p < last; p += kTile) {
      add_steps<Element, kDown, kAcross>(a + p * kWord, a_stride, right + p * right_stride, right_stride);
      between();
    }
    first -= steps, last -= steps;
  };
  for (std::int64_t i = 0; i < in.terms; ++i) {
    const LeftSide<Element>& left = in.left[i];
    add(reinterpret_cast<const char*>(left.a + row * left.a_stride), left.a_stride * static_cast<std::int64_t>(sizeof(Element)),
        b, b_stride, left.steps / kTile * kTile);
    b += left.steps * b_stride;
  }
  add(tails.left(row), tails.left_stride(), tails.right() + column * kWord, tails.right_stride(), tails.steps());
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

// Where the sums of a block wait for the next steps.
struct Waiting {
  char* data;
  std::int64_t row_bytes;
};

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
  const std::int64_t parts = (steps + kPart - 1) / kPart, step = parts > 1 ? (steps / kTile + parts - 1) / parts * kTile : steps;
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

struct InPlace {
  const TileArguments<Bf16Bits>& t;

  Waiting waiting(std::int64_t row, std::int64_t column) const {
    return {reinterpret_cast<char*>(t.c + row * t.c_stride + column), t.c_stride * kWord};
  }
  const char* initial(std::int64_t row, std::int64_t column) const { return t.add ? waiting(row, column).data : nullptr; }
  void expect(std::int64_t, std::int64_t, std::int64_t) const {}
  void ready(std::int64_t, std::int64_t, std::int64_t) const {}
  void do_some() const {}
  void finish_all() const {}
};

// Sums that are not what is wanted yet: of one block of columns. Derived::finish(row, from) makes a row of it what is wanted, and
// Derived::target(row, column) is where that is written: the line is fetched while the products are still computed.
template <class Derived>
class Aside {
 public:
  Waiting waiting(std::int64_t row, std::int64_t) const { return {data_ + row * kBlock * kWord, kBlock * kWord}; }
  const char* initial(std::int64_t, std::int64_t) const { return nullptr; }
  void expect(std::int64_t row, std::int64_t rows, std::int64_t column) {
    expected_ = row, expected_end_ = row + rows, expected_column_ = column;
  }
  void ready(std::int64_t row, std::int64_t rows, std::int64_t column) {
    next_ = row, end_ = row + rows;
    static_cast<Derived*>(this)->begin(column);
  }
  void do_some() {
    for (int i = 0; i < 4 && next_ < end_; ++i) finish_next();
    for (int i = 0; i < 4 && expected_ < expected_end_; ++i)
      __builtin_prefetch(static_cast<Derived*>(this)->target(expected_++, expected_column_), /*write*/ 1, 3);
  }
  void finish_all() {
    while (next_ < end_) finish_next();
  }

 protected:
  explicit Aside(std::int64_t rows) {
    thread_local Memory memory;
    data_ = memory.get(rows * kBlock * kWord);
  }

 private:
  void finish_next() {
    static_cast<Derived*>(this)->finish(next_, data_ + next_ * kBlock * kWord);
    ++next_;
  }

  char* data_;
  std::int64_t next_ = 0, end_ = 0, expected_ = 0, expected_end_ = 0, expected_column_ = 0;
};

inline __mmask32 first(std::int64_t n) { return n < kBlock ? (1u << n) - 1 : ~0u; }

inline __m512 widened(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline void widen(const Bf16Bits* from, __mmask32 mask, __m512& low, __m512& high) {
  const __m512i bits = _mm512_maskz_loadu_epi16(mask, from);
  low = widened(_mm512_castsi512_si256(bits)), high = widened(_mm512_extracti64x4_epi64(bits, 1));
}

// A row of 32 columns of out = [out +] [bias +] scale * sums, rounded.
class Row {
 public:
  Row(Bf16Bits* out, std::int64_t stride, std::int64_t columns, const Bf16Bits* bias, bool add, float scale)
      : out_(out), bias_(bias), stride_(stride), columns_(columns), add_(add), scale_(_mm512_set1_ps(scale)) {}

  const void* at(std::int64_t row, std::int64_t column) const { return out_ + row * stride_ + column; }
  void begin(std::int64_t column) {
    column_ = column;
    mask_ = first(columns_ - column);
    low_bias_ = high_bias_ = _mm512_setzero_ps();
    if (bias_ != nullptr) widen(bias_ + column, mask_, low_bias_, high_bias_);
  }
  void write(std::int64_t row, __m512 low, __m512 high) const {
    Bf16Bits* const out = out_ + row * stride_ + column_;
    low = _mm512_fmadd_ps(low, scale_, low_bias_), high = _mm512_fmadd_ps(high, scale_, high_bias_);
    if (add_) {
      __m512 low_before, high_before;
      widen(out, mask_, low_before, high_before);
      low = _mm512_add_ps(low, low_before), high = _mm512_add_ps(high, high_before);
    }
    _mm512_mask_storeu_epi16(out, mask_, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }

 private:
  Bf16Bits* out_;
  const Bf16Bits* bias_;
  std::int64_t stride_, columns_, column_ = 0;
  bool add_;
  __mmask32 mask_ = 0;
  __m512 scale_, low_bias_, high_bias_;
};

class Rounded : public Aside<Rounded> {
 public:
  explicit Rounded(const FinishArguments<Bf16Bits>& t)
      : Aside(t.rows), row_(t.out, t.out_stride, t.columns, t.bias, t.add, t.scale) {}

  const void* target(std::int64_t row, std::int64_t column) const { return row_.at(row, column); }
  void begin(std::int64_t column) { row_.begin(column); }
  void finish(std::int64_t row, const char* from) const { row_.write(row, _mm512_load_ps(from), _mm512_load_ps(from + kLine)); }

 private:
  Row row_;
};

// Sixteen columns of a row of c.
inline __m512 scaled(const Int8Arguments& t, std::int64_t row, std::int64_t column, const char* from) {
  const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(from), _mm512_loadu_si512(t.shift + column)));
  const __m512 value =
      _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_set1_ps(t.row_scale[row])), _mm512_loadu_ps(t.column_scale + column));
  return t.add ? _mm512_add_ps(_mm512_loadu_ps(t.c + row * t.c_stride + column), value) : value;
}

class Scaled : public Aside<Scaled> {
 public:
  explicit Scaled(const Int8Arguments& t) : Aside(t.rows), t_(t) {}

  const void* target(std::int64_t row, std::int64_t column) const { return t_.c + row * t_.c_stride + column; }
  void begin(std::int64_t column) { column_ = column; }
  void finish(std::int64_t row, const char* from) const {
    for (std::int64_t i = column_; i < column_ + kBlock && i < t_.columns; i += kTile, from += kLine)
      _mm512_storeu_ps(t_.c + row * t_.c_stride + i, scaled(t_, row, i, from));
  }

 private:
  const Int8Arguments& t_;
  std::int64_t column_ = 0;
};

class ScaledRounded : public Aside<ScaledRounded> {
 public:
  explicit ScaledRounded(const Int8Finish& t)
      : Aside(t.sums.rows), t_(t.sums), row_(t.out, t.out_stride, t.columns, t.bias, t.add, t.scale) {}

  const void* target(std::int64_t row, std::int64_t column) const { return row_.at(row, column); }
  void begin(std::int64_t column) {
    column_ = column;
    row_.begin(column);
  }
  void finish(std::int64_t row, const char* from) const {
    const __m512 low = scaled(t_, row, column_, from);
    const bool wide = column_ + kTile < t_.columns;
    row_.write(row, low, wide ? scaled(t_, row, column_ + kTile, from + kLine) : _mm512_setzero_ps());
  }

 private:
  const Int8Arguments& t_;
  Row row_;
  std::int64_t column_ = 0;
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
  add_all<Bf16Bits>({&left, 1, t.b, t.b_stride}, t.rows, t.columns, InPlace{t});
}

void TileAmx::finish(const FinishArguments<Bf16Bits>& t) {
  add_all<Bf16Bits>({t.left, t.terms, t.b, t.b_stride}, t.rows, (t.columns + kTile - 1) / kTile * kTile, Rounded(t));
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
