#include "kernels/cpu/tile_body.h"

namespace graft::kernels::cpu {
namespace {

struct Set {
  using Element = float;
  using Vector = float __attribute__((vector_size(16)));  // what every x86-64 has; plain loops elsewhere
  static constexpr int kDepth = 1, kWidth = 4;
  static Vector load(const float* from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  static void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }
  static Vector zero() { return Vector{}; }
  static Vector load_b(const float* from) { return load(from); }
  static Vector broadcast_a(const float* from) { return Vector{} + *from; }
  static Vector multiply_add(Vector a, Vector b, Vector sum) { return sum + a * b; }
  static Vector times(Vector x, float factor) { return x * factor; }
  static Vector plus(Vector x, Vector y) { return x + y; }
  static Vector widen(const float* from, std::int64_t n) {
    Vector x{};
    std::memcpy(&x, from, static_cast<std::size_t>(n) * sizeof(float));
    return x;
  }
  static void narrow(float* to, std::int64_t n, Vector x) { std::memcpy(to, &x, static_cast<std::size_t>(n) * sizeof(float)); }
};

struct CodeSet {
  using Element = std::uint8_t;
  using Vector = std::int32_t __attribute__((vector_size(16)));
  static constexpr int kDepth = 4, kWidth = 4;
  struct Bytes {
    std::int8_t value[kWidth][kDepth];
  };
  struct Left {
    std::int32_t value[kDepth];
  };
  static Vector start(const std::int32_t* /*shift*/) { return Vector{}; }
  static Bytes load_b(const std::uint8_t* from) {
    Bytes b;
    std::memcpy(&b, from, sizeof b);
    return b;
  }
  static Left broadcast_a(const std::uint8_t* from) { return {{from[0] - 128, from[1] - 128, from[2] - 128, from[3] - 128}}; }
  static Vector multiply_add(const Left& a, const Bytes& b, Vector sum) {
    for (int i = 0; i < kWidth; ++i)
      for (int p = 0; p < kDepth; ++p) sum[i] += a.value[p] * b.value[i][p];
    return sum;
  }
  static void finish(float* c, Vector sums, float row_scale, const float* column_scale, bool add) {
    for (int i = 0; i < kWidth; ++i) {
      const float value = static_cast<float>(sums[i]) * row_scale * column_scale[i];
      c[i] = add ? c[i] + value : value;
    }
  }
};

}  // namespace

void TileScalar::multiply(const TileArguments<float>& arguments) { rows_of<Set, 4, 2>(arguments); }
void TileScalar::finish(const FinishArguments<float>& arguments) { rows_of<Set, 4, 2>(arguments); }
void TileScalar::multiply(const Int8Arguments& arguments) { rows_of<CodeSet, 4, 2>(arguments); }

}  // namespace graft::kernels::cpu
