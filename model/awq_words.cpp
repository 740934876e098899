#include "model/awq_words.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/simd.h"

namespace graft::model {
namespace {

constexpr int kRows = 8;

// Bits below the code of a row.
constexpr int shift_of(int row) { return 4 * (row / 2 + row % 2 * 4); }

GRAFT_SIMD void pack_rows(const std::int8_t* codes, std::int64_t columns, std::int32_t* words) {
#pragma omp simd
  for (std::int64_t i = 0; i < columns; ++i) {
    std::uint32_t word = 0;
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) word |= static_cast<std::uint32_t>(codes[row * columns + i] + 8) << shift_of(row);
    words[i] = static_cast<std::int32_t>(word);
  }
}

GRAFT_SIMD void unpack_rows(const std::int32_t* words, std::int64_t columns, std::int8_t* codes) {
  for (int row = 0; row < kRows; ++row) {
    const int shift = shift_of(row);
    std::int8_t* const out = codes + row * columns;
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i)
      out[i] = static_cast<std::int8_t>(static_cast<int>(static_cast<std::uint32_t>(words[i]) >> shift & 15) - 8);
  }
}

template <class Each>
void for_words(std::int64_t count, std::int64_t columns, const Each& each) {
  constexpr std::int64_t grain = 1 << 15;  // codes that one thread takes at the least
  at::parallel_for(0, count, grain / (kRows * columns + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t word = begin; word < end; ++word) each(word);
  });
}

}  // namespace

at::Tensor pack_awq(const at::Tensor& codes) {
  const at::Tensor from = codes.contiguous();
  const std::int64_t count = from.size(0) / kRows, columns = from.size(1);
  at::Tensor words = at::empty({count, columns}, at::kInt);
  const auto* const x = from.const_data_ptr<std::int8_t>();
  auto* const out = words.mutable_data_ptr<std::int32_t>();
  for_words(count, columns, [&](std::int64_t i) { pack_rows(x + i * kRows * columns, columns, out + i * columns); });
  return words;
}

at::Tensor unpack_awq(const at::Tensor& words) {
  const at::Tensor from = words.contiguous();
  const std::int64_t count = from.size(0), columns = from.size(1);
  at::Tensor codes = at::empty({count * kRows, columns}, at::kChar);
  const auto* const x = from.const_data_ptr<std::int32_t>();
  auto* const out = codes.mutable_data_ptr<std::int8_t>();
  for_words(count, columns, [&](std::int64_t i) { unpack_rows(x + i * columns, columns, out + i * kRows * columns); });
  return codes;
}

}  // namespace graft::model
