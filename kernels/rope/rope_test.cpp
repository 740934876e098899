#include "kernels/rope/rope.h"

#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::kernels {
namespace {

using namespace graft::testing;

struct Table {
  at::Tensor cos, sin;
};
Table table(std::int64_t tokens, std::int64_t half) {
  const at::Tensor angle = random({tokens, half}, 11, at::kFloat, 3);
  return {angle.cos(), angle.sin()};
}

// The textbook form in f64: x cos + rotate_half(x) sin.
at::Tensor reference(const at::Tensor& x, const Table& t) {
  const std::int64_t half = t.cos.size(1);
  const at::Tensor in = x.to(at::kDouble), c = at::cat({t.cos, t.cos}, 1).unsqueeze(1),
                   s = at::cat({t.sin, t.sin}, 1).unsqueeze(1);
  const at::Tensor turned = in.slice(2, 0, 2 * half);
  const at::Tensor other = at::cat({-in.slice(2, half, 2 * half), in.slice(2, 0, half)}, 2);
  return at::cat({turned * c + other * s, in.slice(2, 2 * half)}, 2);
}

}  // namespace

TEST_CASE("rope equals the textbook rotation; its backward undoes it", "[rope]") {
  struct Case {
    std::int64_t tokens, heads, size, half;
  };
  for (const Case c : {Case{0, 2, 8, 4}, Case{1, 1, 2, 1}, Case{5, 3, 64, 32}, Case{37, 2, 10, 3}, Case{64, 9, 64, 32}}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const Table t = table(c.tokens, c.half);
      const at::Tensor x = random({c.tokens, c.heads, c.size}, 12, type), want = reference(x, t);
      at::Tensor y = x.clone();
      rope_forward(y, t.cos, t.sin);
      CHECK(relative_error(y, want) <= (type == at::kFloat ? 2e-7 : 3e-3));
      CHECK(same_bits(y.slice(2, 2 * c.half), x.slice(2, 2 * c.half)));
      at::Tensor again = x.clone();
      rope_forward(again, t.cos, t.sin);
      CHECK(same_bits(again, y));
      rope_backward(y, t.cos, t.sin);
      CHECK(relative_error(y, x) <= (type == at::kFloat ? 2e-7 : 6e-3));
    }
  }
}

TEST_CASE("rope turns a view in place and nothing beside it", "[rope]") {
  const Table t = table(6, 4);
  const at::Tensor buffer = random({6, 50}, 13), before = buffer.clone();
  at::Tensor view = buffer.narrow(1, 5, 24).view({6, 3, 8});
  rope_forward(view, t.cos, t.sin);
  CHECK(relative_error(view, reference(before.narrow(1, 5, 24).reshape({6, 3, 8}), t)) < 2e-7);
  CHECK(same_bits(buffer.narrow(1, 0, 5), before.narrow(1, 0, 5)));
  CHECK(same_bits(buffer.narrow(1, 29, 21), before.narrow(1, 29, 21)));
}

TEST_CASE("rope keeps a NaN in its pair and names what does not fit", "[rope]") {
  const Table t = table(2, 4);
  at::Tensor x = random({2, 1, 8}, 14);
  x[1][0][2] = std::numeric_limits<float>::quiet_NaN();
  rope_forward(x, t.cos, t.sin);
  CHECK(x.isnan().sum().item<std::int64_t>() == 2);
  CHECK(message_of([&] {
          rope_forward(random({3, 1, 8}, 1), t.cos, t.sin);
        }) == "rope: cos is (2, 4) but must be (3, 4), the first size of x (3, 1, 8)");
  CHECK(message_of([&] {
          rope_forward(random({2, 1, 6}, 1), t.cos, t.sin);
        }) == "rope: cos has 4 columns but x (2, 1, 6) has room for 3");
}

}  // namespace graft::kernels
