#include "export/fingerprint.h"

#include <ATen/ATen.h>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

using namespace graft;

namespace {

std::optional<std::uint64_t> whole(const at::Tensor& values) {
  exports::Fingerprints made;
  made.add("w", 0, values);
  return made.of("w");
}

}  // namespace

TEST_CASE("fingerprints know every value and its place, and no pieces", "[export][verify]") {
  const at::Tensor values = testing::random({37, 96}, 5);
  const auto expected = whole(values);
  exports::Fingerprints pieces;
  for (const auto& [begin, end] : {std::pair{30, 37}, {0, 1}, {1, 30}})
    pieces.add("w", begin, values.narrow(0, begin, end - begin));
  CHECK(pieces.of("w") == expected);
  CHECK(!pieces.of("v"));
  CHECK(whole(values.t().contiguous().t()) == expected);  // another order in memory

  for (const std::int64_t at : {0, 95, 96, 37 * 96 - 1}) {
    at::Tensor changed = values.clone();
    float& value = changed.mutable_data_ptr<float>()[at];
    value = std::nextafter(value, 9.0f);
    CHECK(whole(changed) != expected);
  }
  at::Tensor swapped = values.clone();
  std::swap(swapped.mutable_data_ptr<float>()[7], swapped.mutable_data_ptr<float>()[8]);
  CHECK(whole(swapped) != expected);
  CHECK(whole(values.roll(1, 0)) != expected);
  CHECK(whole(at::full({2, 3}, -0.0)) == whole(at::zeros({2, 3})));
}
