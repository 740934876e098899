// For the tests of CUDA kernels on the host: matrices in simulated device memory, comparison with f64, and the checks that every
// kernel passes (same bits in any order of threads; no barrier that could be left out). Without LibTorch.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "kernels/cuda/launch.h"
#include "kernels/simt/simt.h"
#include "tests/support/catch.h"

namespace graft::testing {

using simt::Buffer;

// The bits of a bf16, as kernels/cuda/device.cuh has it.
struct Bf16 {
  std::uint16_t bits;
};

inline double value_of(float x) { return static_cast<double>(x); }
inline double value_of(Bf16 x) { return static_cast<double>(std::bit_cast<float>(std::uint32_t{x.bits} << 16)); }

// Rounded to nearest even.
template <class T>
T rounded(double x) {
  const auto f = static_cast<float>(x);
  if constexpr (sizeof(T) == 4) {
    return f;
  } else {
    const auto bits = std::bit_cast<std::uint32_t>(f);
    return {static_cast<std::uint16_t>(std::isnan(f) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
  }
}

template <class T>
constexpr cuda::DType kType = sizeof(T) == 2 ? cuda::DType::bf16 : cuda::DType::f32;
template <class T>
constexpr std::size_t kPerAccess = 16 / sizeof(T);

// Where a matrix lies: `offset` elements into its buffer, rows `pad` elements more apart than they are long.
struct Layout {
  std::int64_t offset, pad;
};
constexpr Layout kDense{0, 0}, kPadded{8, 16}, kMisaligned{1, 3};

template <class T>
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, Layout layout = kDense)
      : rows_(rows),
        columns_(columns),
        stride_(columns + layout.pad),
        offset_(layout.offset),
        buffer_(static_cast<std::size_t>(rows == 0 ? 0 : offset_ + (rows - 1) * stride_ + columns)) {}

  Matrix& fill(std::uint64_t seed, double scale = 1) {
    const Random random(seed, Stream::sample);
    for (std::int64_t i = 0; i < rows_; ++i)
      for (std::int64_t j = 0; j < columns_; ++j)
        at(i, j) = rounded<T>(scale * random.normal(static_cast<std::uint64_t>(i * columns_ + j)));
    return *this;
  }
  T& at(std::int64_t i, std::int64_t j) const { return buffer_[static_cast<std::size_t>(offset_ + i * stride_ + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return value_of(at(i, j)); }
  T* data() const { return buffer_.data() + (rows_ == 0 ? 0 : offset_); }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t stride() const { return stride_; }
  simt::Traffic take_traffic() const { return buffer_.take_traffic(); }
  double bytes() const { return static_cast<double>(rows_ * columns_) * sizeof(T); }

  // Everything, the space between rows too.
  std::vector<std::uint8_t> bits() const {
    std::vector<std::uint8_t> all(buffer_.size() * sizeof(T));
    if (!all.empty()) std::memcpy(all.data(), buffer_.data(), all.size());
    return all;
  }
  // The space before and between rows holds what the buffer was born with.
  bool gaps_untouched() const {
    for (std::size_t i = 0; i < buffer_.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i) - offset_;
      if (at >= 0 && at % stride_ < columns_) continue;
      std::uint8_t bytes[sizeof(T)];
      std::memcpy(bytes, buffer_.data() + i, sizeof(T));
      for (const std::uint8_t byte : bytes)
        if (byte != 0xff) return false;
    }
    return true;
  }

 private:
  std::int64_t rows_, columns_, stride_, offset_;
  Buffer<T> buffer_;
};

template <class T>
Matrix<T> filled(std::int64_t rows, std::int64_t columns, std::uint64_t seed, Layout layout = kDense, double scale = 1) {
  Matrix<T> m(rows, columns, layout);
  m.fill(seed, scale);
  return m;
}

// |got - want| / |want| (Frobenius); infinite when something is not a number.
inline double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

// What rounding to T may cost in relative_error: half a unit of the last place for each element, half of that for many.
// In f32 the arithmetic before counts more.
template <class T>
double tolerance(std::size_t count, double roundings = 1, double f32 = 1e-6) {
  if constexpr (sizeof(T) == 4) return f32;
  return count < 200 ? roundings * 0x1p-8 : std::sqrt(roundings) * 0x1p-9;
}

template <class T>
std::vector<double> values_of(const Matrix<T>& m) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < m.rows(); ++i)
    for (std::int64_t j = 0; j < m.columns(); ++j) values.push_back(m(i, j));
  return values;
}
template <class T>
double relative_error(const Matrix<T>& got, const std::vector<double>& want) {
  return relative_error(values_of(got), want);
}
template <class T>
std::vector<double> values_of(const Buffer<T>& b) {
  std::vector<double> values;
  for (std::size_t i = 0; i < b.size(); ++i) values.push_back(value_of(b[i]));
  return values;
}

struct RestoreOptions {
  simt::Options before = simt::options();
  ~RestoreOptions() { simt::options() = before; }
};

// A launcher's answer; faults of the simulator pass as exceptions.
inline void launched(int error) {
  REQUIRE(error == 0);
  REQUIRE(simt::finish() == 0);
}

using Bits = std::vector<std::uint8_t>;

// `run` makes its inputs, launches, and returns what came out. Whatever the order of blocks, warps and lanes, that is the same;
// and without any one of the barriers and waits that it meets, it is not, or the simulator reports a fault, in some order of
// four.
inline void check_order(const std::function<Bits()>& run) {
  const RestoreOptions restore;
  simt::take_sync_points();
  simt::options().order = 1;
  const Bits want = run();
  const auto points = simt::take_sync_points();
  for (const std::uint64_t order : {2, 3}) {
    simt::options().order = order;
    CHECK(run() == want);
  }
  for (const simt::SyncPoint& point : points) {
    bool noticed = false;
    for (std::uint64_t order = 1; order <= 4 && !noticed; ++order) {
      simt::options() = {order, restore.before.noise, point};
      try {
        noticed = run() != want;
      } catch (const simt::Fault&) {
        noticed = true;
      }
    }
    INFO("nobody misses " << point.file << ":" << point.line);
    CHECK(noticed);
  }
}

inline Bits joined(std::initializer_list<Bits> parts) {
  Bits all;
  for (const Bits& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace graft::testing
