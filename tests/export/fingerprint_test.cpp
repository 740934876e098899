#include "export/fingerprint.h"

#include <ATen/ATen.h>

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

using namespace graft;

namespace {

std::uint64_t whole(const at::Tensor& values) {
  exports::Fingerprints made;
  made.add("w", 0, values, values);
  return made.of("w").value().sum;
}

}  // namespace

TEST_CASE("fingerprints know every value and its place, and no pieces", "[export][verify]") {
  const at::Tensor values = testing::random({37, 96}, 5);
  const auto expected = whole(values);
  exports::Fingerprints pieces;
  for (const auto& [begin, end] : {std::pair{30, 37}, {0, 1}, {1, 30}})
    pieces.add("w", begin, values.narrow(0, begin, end - begin), values.narrow(0, begin, end - begin));
  CHECK(pieces.of("w").value().sum == expected);
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

TEST_CASE("what is written knows how far it is from its source, and refuses what is further off than its type",
          "[export][verify]") {
  const at::Tensor values = testing::random({8, 64}, 5);
  const at::Tensor stored = values.to(at::kBFloat16).to(at::kFloat);
  exports::Fingerprints made;
  for (const std::int64_t begin : {4, 0}) made.add("w", begin, stored.narrow(0, begin, 4), values.narrow(0, begin, 4), "BF16");
  const exports::Written written = made.of("w").value();
  CHECK(written.bounded);
  CHECK(written.with_source.error() ==
        Approx((stored - values).abs().max().item<double>() / values.abs().max().item<double>()).epsilon(1e-6));
  at::Tensor off = stored.clone();
  off[5][3] = off[5][3] * 1.05 + 0.1;
  const auto add = [&](const at::Tensor& rows, const char* type) {
    return testing::message_of([&] { made.add("w", 4, rows.narrow(0, 4, 4), values.narrow(0, 4, 4), type); });
  };
  CHECK(add(off, "BF16").starts_with("tensor w (BF16) reads back as "));
  CHECK(add(off, "BF16").ends_with("; that is more than rounding"));
  CHECK(add(off, "BF16").find(" at element 323 where the source has ") != std::string::npos);
  CHECK(add(off, "").empty());  // it has no bounds
  off[5][3] = std::numeric_limits<float>::infinity();
  CHECK(add(off, "").starts_with("tensor w reads back as inf at element 323"));
}
