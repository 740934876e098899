#include "kernels/lora_linear/outer_sum.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

}  // namespace

TEST_CASE("sums of outer products equal f64, for every shape and stride", "[lora_linear]") {
  const PoisonedAllocations poisoned;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const auto& [rows, rank, columns] :
         {std::array<std::int64_t, 3>{0, 4, 40}, {1, 1, 1}, {3, 5, 31}, {257, 4, 32}, {700, 16, 97}, {300, 3, 64}}) {
      INFO(rows << " rows, rank " << rank << ", " << columns << " columns");
      const at::Tensor narrow = random({rows, rank + 3}, 1, type).narrow(1, 2, rank),
                       wide = random({rows, columns + 5}, 2, type).narrow(1, 1, columns);
      const at::Tensor got = outer_sum(narrow, wide), want = narrow.to(at::kDouble).t().matmul(wide.to(at::kDouble));
      CHECK(got.scalar_type() == at::kFloat);
      // Blocks of 256 rounded sums: far below 256 half ulps.
      CHECK(relative_error(got, want) < 1e-6);
      CHECK(same_bits(outer_sum(narrow, wide), got));
    }
  }
}

TEST_CASE("rows of zeros add nothing, a NaN stays in its rank and column", "[lora_linear]") {
  const at::Tensor narrow = random({20, 6}, 1), wide = random({20, 50}, 2);
  const at::Tensor first = outer_sum(narrow.narrow(0, 0, 10).contiguous(), wide.narrow(0, 0, 10));
  const at::Tensor silent = narrow.clone();
  silent.narrow(0, 10, 10).zero_();
  CHECK(same_bits(outer_sum(silent, wide), first));
  wide[3][40] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor nan = outer_sum(narrow, wide).isnan();
  CHECK((nan.select(1, 40).all().item<bool>() && nan.sum().item<std::int64_t>() == 6));
}

}  // namespace graft::kernels
