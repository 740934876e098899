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

}  // namespace

void TileScalar::multiply(const TileArguments<float>& arguments) { rows_of<Set, 4, 2>(arguments); }
void TileScalar::finish(const FinishArguments<float>& arguments) { rows_of<Set, 4, 2>(arguments); }

}  // namespace graft::kernels::cpu
