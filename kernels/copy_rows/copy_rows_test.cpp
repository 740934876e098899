#include "kernels/copy_rows/copy_rows.h"

#include "kernels/check.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

const at::Tensor kIndex = at::tensor({4, 0, -1, 4, 5, 2}, at::kLong);  // 5 is no row either

}  // namespace

TEST_CASE("rows are those that the index names, zeros where there is none", "[copy_rows]") {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor wide = random({5, 13}, 1, type), x = wide.narrow(1, 2, 9);
    at::Tensor want = x.index_select(0, kIndex.clamp(0, 4));
    want.select(0, 2).zero_();
    want.select(0, 4).zero_();
    CHECK(same_bits(take_rows(x, kIndex), want));
    CHECK(same_bits(take_rows(x, kIndex, 0.3), want.to(at::kFloat).mul(0.3f).to(type)));
    at::Tensor around = nan_like(at::empty({6, 12}, type));
    copy_rows(around.narrow(1, 1, 9), x, kIndex);
    CHECK(same_bits(around.narrow(1, 1, 9), want));
    CHECK(around.narrow(1, 10, 2).isnan().all().item<bool>());
  }
}

TEST_CASE("rows change their type, and one may be for all", "[copy_rows]") {
  const at::Tensor x = random({5, 9}, 1);
  CHECK(same_bits(to_type(x, at::kBFloat16), x.to(at::kBFloat16)));
  CHECK(to_type(x, at::kFloat).is_same(x));
  at::Tensor y = nan_like(x);
  copy_rows(y, x.narrow(0, 2, 1).expand({5, 9}));
  CHECK(same_bits(y, x.narrow(0, 2, 1).expand({5, 9})));
  CHECK(take_rows(x, at::empty({0}, at::kLong)).sizes() == at::IntArrayRef({0, 9}));
}

TEST_CASE("rows of other shapes and types are refused", "[copy_rows]") {
  const at::Tensor x = random({5, 9}, 1);
  CHECK(message_of([&] {
          copy_rows(at::empty({5, 8}), x);
        }) == "copy_rows: y is (5, 8) but must be (5, 9), as many rows as index, or x, and the columns of x");
  CHECK_THROWS_AS(copy_rows(at::empty({5, 9}), x.to(at::kBFloat16)), ShapeError);
  CHECK_THROWS_AS(take_rows(x, kIndex.to(at::kInt)), ShapeError);
  CHECK_THROWS_AS(take_rows(x.t(), kIndex), ShapeError);
}

}  // namespace graft::kernels
