#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <deque>

#include "kernels/cpu/pairs.h"
#include "kernels/cpu/transpose.h"
#include "tests/support/catch.h"
#include "tests/support/elements.h"
#include "tests/support/tensors.h"

namespace graft::kernels::cpu {
namespace {

using namespace graft::testing;

template <class Element>
Term<Element> term(const at::Tensor& left, const at::Tensor& right, bool transposed) {
  return {data<Element>(left), left.stride(0), data<Element>(right), right.stride(0), left.size(1), transposed};
}

// (rows, columns) inside a wider matrix whose other elements are NaN: reading or writing beyond a row shows.
at::Tensor framed(std::int64_t rows, std::int64_t columns, std::uint64_t seed, at::ScalarType type) {
  at::Tensor whole = at::full({rows + 1, columns + 6}, std::numeric_limits<double>::quiet_NaN(), at::TensorOptions(type));
  at::Tensor part = whole.narrow(0, 0, rows).narrow(1, 2, columns);
  part.copy_(random({rows, columns}, seed, type));
  return part;
}

// f32 sums of k products, rounded once to the type: the unit roundoff.
double tolerance(at::ScalarType type) { return type == at::kFloat ? 1e-6 : std::exp2(-8); }

template <class Element>
void check_gemm() {
  const at::ScalarType type = kType<Element>;
  const std::int64_t even = sizeof(Element) == 2 ? 2 : 1;
  for (const std::int64_t rows : {0, 1, 5, 6, 7, 64, 253})
    for (const std::int64_t columns : {1, 15, 16, 17, 48, 50, 64, 65, 130})
      for (const std::int64_t k : {0, 1, 2, 33, 130})
        for (const bool transposed : {true, false}) {
          const std::int64_t depth = k * even, low = 4;
          INFO("M " << rows << ", N " << columns << ", k " << depth << (transposed ? ", transposed" : ""));
          const at::Tensor x = framed(rows, depth, 1, type), s = framed(rows, low, 2, type), bias = random({columns}, 5, type);
          const at::Tensor w = transposed ? framed(columns, depth, 3, type) : framed(depth, columns, 3, type);
          const at::Tensor b = transposed ? framed(columns, low, 4, type) : framed(low, columns, 4, type);
          at::Tensor out = framed(rows, columns, 6, type), frame = out.as_strided({rows + 1, columns + 6}, {out.stride(0), 1}, 0);
          const auto exact = [](const at::Tensor& t) { return t.to(at::kDouble); };
          const auto side = [&](const at::Tensor& t) { return transposed ? exact(t).t() : exact(t); };
          const at::Tensor want = exact(out) + exact(bias) + 0.5 * (exact(x).mm(side(w)) + exact(s).mm(side(b)));
          const at::Tensor before = frame.isnan();
          Job<Element> job{data<Element>(out),
                           out.stride(0),
                           rows,
                           columns,
                           {term<Element>(x, w, transposed), term<Element>(s, b, transposed)},
                           data<Element>(bias),
                           true,
                           0.5f};
          gemm(std::vector<Job<Element>>{job});
          CHECK((frame.isnan() == before).all().item<bool>());
          CHECK(relative_error(out, want) <= tolerance(type));

          job.add = false, job.bias = nullptr, job.scale = 1;
          at::Tensor first = nan_like(out.contiguous()), second = nan_like(first);  // overwritten, and with the same bits
          job.out = data<Element>(first), job.out_stride = first.stride(0);
          gemm(std::vector<Job<Element>>{job});
          job.out = data<Element>(second);
          gemm(std::vector<Job<Element>>{job});
          CHECK(same_bits(first, second));
          CHECK(relative_error(first, exact(x).mm(side(w)) + exact(s).mm(side(b))) <= tolerance(type));
        }
}

// Sums so long that they are cut, through all kinds of terms; f64 of the same operands.
template <class Element>
void check_long() {
  const at::ScalarType type = kType<Element>;
  for (const auto& [rows, columns, k] : {std::tuple{70, 100, 1500}, {70, 100, 4112}, {3, 40, 9000}, {300, 100, 9002}})
    for (const bool transposed : {true, false}) {
      INFO("M " << rows << ", N " << columns << ", k " << k << (transposed ? ", transposed" : ""));
      const at::Tensor x = framed(rows, k, 1, type), w = transposed ? framed(columns, k, 2, type) : framed(k, columns, 2, type);
      const at::Tensor codes_x = random({rows, 128}, 3), codes_w = random({columns, 128}, 4), bias = random({columns}, 5, type);
      const Int8Rows left(data<float>(codes_x), 128, rows, 128);
      const Int8Matrix right(data<float>(codes_w), 128, columns, 128);
      at::Tensor codes = at::empty({rows, columns});
      gemm(std::vector<Job<float>>{{data<float>(codes), columns, rows, columns, {}, nullptr, false, 1, {{&left, &right}}}});
      at::Tensor out = framed(rows, columns, 6, type);
      const auto exact = [](const at::Tensor& t) { return t.to(at::kDouble); };
      const at::Tensor want = exact(out) + exact(bias) + 0.5 * (exact(x).mm(transposed ? exact(w).t() : exact(w)) + exact(codes));
      Job<Element> job{data<Element>(out),  out.stride(0), rows, columns,          {term<Element>(x, w, transposed)},
                       data<Element>(bias), true,          0.5f, {{&left, &right}}};
      gemm(std::vector<Job<Element>>{job});
      CHECK(relative_error(out, want) <= tolerance(type));
      job.add = false;
      at::Tensor one = nan_like(out.contiguous()), all = nan_like(one);
      job.out_stride = columns;
      const int threads = at::get_num_threads();
      at::set_num_threads(1);
      job.out = data<Element>(one);
      gemm(std::vector<Job<Element>>{job});
      at::set_num_threads(threads);
      job.out = data<Element>(all);
      gemm(std::vector<Job<Element>>{job});
      CHECK(same_bits(one, all));
    }
}

// Side by side: the first is neither the widest nor the deepest, and what is packed beyond its end belongs to another.
template <class Element>
void check_jobs() {
  const at::ScalarType type = kType<Element>;
  for (const bool transposed : {true, false}) {
    std::deque<at::Tensor> kept;
    std::vector<at::Tensor> outs, wants;
    std::vector<Job<Element>> jobs;
    for (const auto& [columns, k] : {std::pair{16, 34}, {70, 640}, {33, 2}, {64, 130}}) {
      const at::Tensor& x = kept.emplace_back(framed(65, k, 1, type));
      const at::Tensor& w = kept.emplace_back(transposed ? framed(columns, k, 2, type) : framed(k, columns, 2, type));
      wants.push_back(x.to(at::kDouble).mm(transposed ? w.to(at::kDouble).t() : w.to(at::kDouble)));
      at::Tensor out = nan_like(at::empty({65, columns}, type));
      jobs.push_back({data<Element>(out), columns, 65, columns, {term<Element>(x, w, transposed)}});
      outs.push_back(out);
    }
    gemm(jobs);
    for (std::size_t i = 0; i < outs.size(); ++i) {
      INFO("job " << i << (transposed ? ", transposed" : ""));
      CHECK(relative_error(outs[i], wants[i]) <= tolerance(type));
    }
  }
}

// Weights and low-rank terms in turn, as of q, k and v together, each low-rank term in whole tiles with zeros behind its rank.
void check_many_terms() {
  constexpr std::int64_t rows = 37, columns = 50;
  for (const std::int64_t width : {64, 448})
    for (const std::int64_t rank : {1, 8, 16, 31}) {
      INFO("width " << width << ", rank " << rank);
      std::deque<at::Tensor> kept;
      at::Tensor out = nan_like(at::empty({rows, columns}, at::kBFloat16)), want = at::zeros({rows, columns}, at::kDouble);
      Job<Bf16Bits> job{data<Bf16Bits>(out), columns, rows, columns, {}};
      for (std::int64_t i = 0; i < 6; ++i) {
        const std::int64_t k = i % 2 == 0 ? width : rank, padded = i % 2 == 0 ? 0 : 32;
        const auto seed = static_cast<std::uint64_t>(i);
        at::Tensor& left = kept.emplace_back(framed(rows, std::max(k, padded), seed, at::kBFloat16));
        if (padded > 0) left.narrow(1, k, padded - k).zero_();
        const at::Tensor& right = kept.emplace_back(framed(k, columns, seed + 9, at::kBFloat16));
        want += left.narrow(1, 0, k).to(at::kDouble).mm(right.to(at::kDouble));
        job.terms.push_back({data<Bf16Bits>(left), left.stride(0), data<Bf16Bits>(right), right.stride(0), k, false});
        job.terms.back().padded = padded;
      }
      gemm(std::vector<Job<Bf16Bits>>{job});
      CHECK(relative_error(out, want) <= tolerance(at::kBFloat16));
    }
}

// As many panels as threads take whole, of a sum that is cut and of one that is not; some of the rows alone are the same bits.
template <class Element>
void check_many_panels() {
  const at::ScalarType type = kType<Element>;
  constexpr std::int64_t rows = 70, columns = 1100;
  for (const std::int64_t k : {96, 5000})
    for (const bool transposed : {true, false}) {
      INFO("k " << k << (transposed ? ", transposed" : ""));
      const at::Tensor x = framed(rows, k, 1, type), w = transposed ? framed(columns, k, 2, type) : framed(k, columns, 2, type);
      const auto product = [&](std::int64_t count, int threads) {
        at::Tensor out = nan_like(at::empty({count, columns}, type));
        const int before = at::get_num_threads();
        at::set_num_threads(threads);
        gemm(std::vector<Job<Element>>{{data<Element>(out), columns, count, columns, {term<Element>(x, w, transposed)}}});
        at::set_num_threads(before);
        return out;
      };
      const at::Tensor all = product(rows, at::get_num_threads());
      CHECK(relative_error(all, x.to(at::kDouble).mm(transposed ? w.to(at::kDouble).t() : w.to(at::kDouble))) <= tolerance(type));
      CHECK(same_bits(product(rows, 1), all));
      CHECK(same_bits(product(33, 1), all.narrow(0, 0, 33)));
    }
}

// No terms at all: the bias.
template <class Element>
void check_no_terms() {
  const at::ScalarType type = kType<Element>;
  const at::Tensor bias = random({50}, 1, type);
  at::Tensor out = nan_like(at::empty({40, 50}, type));
  gemm(std::vector<Job<Element>>{{data<Element>(out), 50, 40, 50, {}, data<Element>(bias)}});
  CHECK(same_bits(out, bias.expand({40, 50}).contiguous()));
}

// Zeros behind k that make whole tiles change nothing; what is behind them is not read.
void check_padded() {
  const at::Tensor whole = framed(70, 32, 1, at::kBFloat16), w = framed(100, 10, 2, at::kBFloat16);
  at::Tensor x = whole;
  x.narrow(1, 10, 22).zero_();
  Term<Bf16Bits> with = term<Bf16Bits>(x.narrow(1, 0, 10), w, true), without = with;
  with.padded = 32;
  at::Tensor padded = nan_like(at::empty({70, 100}, at::kBFloat16)), plain = nan_like(padded);
  gemm(std::vector<Job<Bf16Bits>>{{data<Bf16Bits>(padded), 100, 70, 100, {with}},
                                  {data<Bf16Bits>(plain), 100, 70, 100, {without}}});
  CHECK(same_bits(padded, plain));
}

template <class Element>
void check_outer_sums() {
  const at::ScalarType type = kType<Element>;
  for (const std::int64_t rows : {0, 1, 2, 255, 257, 600})
    for (const std::int64_t columns : {1, 16, 63, 65, 200})
      for (const std::int64_t rank : {1, 7, 16}) {
        INFO("M " << rows << ", C " << columns << ", r " << rank);
        const at::Tensor narrow = framed(rows, rank, 1, type), wide = framed(rows, columns, 2, type);
        at::Tensor out = random({rank, columns}, 3), turned = out.t().clone(at::MemoryFormat::Contiguous);
        const at::Tensor want = out.to(at::kDouble) + narrow.to(at::kDouble).t().mm(wide.to(at::kDouble));
        const auto sum = [&](at::Tensor& to, std::int64_t stride, std::int64_t step) {
          return OuterSum<Element>{
              data<Element>(narrow),        narrow.stride(0), rank, data<Element>(wide), wide.stride(0), columns, rows,
              to.mutable_data_ptr<float>(), stride,           step};
        };
        outer_sums(std::vector<OuterSum<Element>>{sum(out, columns, 1), sum(turned, 1, rank)});
        CHECK(relative_error(out, want) <= 2e-6);
        CHECK(same_bits(turned.t().contiguous(), out));
      }
}

}  // namespace

TEST_CASE("products of several terms equal f64, stay in their frame, same bits twice", "[cpu]") {
  check_gemm<float>();
  if (has_bf16_dot()) check_gemm<Bf16Bits>();
}

TEST_CASE("long sums of all kinds of terms equal f64, same bits on any number of threads", "[cpu]") {
  check_long<float>();
  if (has_bf16_dot()) check_long<Bf16Bits>();
}

TEST_CASE("products of any depth side by side equal f64", "[cpu]") {
  check_jobs<float>();
  if (has_bf16_dot()) check_jobs<Bf16Bits>();
}

TEST_CASE("many terms, and many panels, equal f64, same bits on any number of threads and rows", "[cpu]") {
  check_many_panels<float>();
  if (!has_bf16_dot()) return;
  check_many_panels<Bf16Bits>();
  check_many_terms();
}

TEST_CASE("a product of no terms is its bias", "[cpu]") {
  check_no_terms<float>();
  if (has_bf16_dot()) check_no_terms<Bf16Bits>();
}

TEST_CASE("zeros behind a short term change nothing", "[cpu]") {
  if (has_bf16_dot()) check_padded();
}

TEST_CASE("outer sums equal f64 in both layouts", "[cpu]") {
  check_outer_sums<float>();
  if (has_bf16_dot()) check_outer_sums<Bf16Bits>();
}

TEST_CASE("a NaN in a product is seen in its row and column and nowhere else", "[cpu]") {
  at::Tensor x = random({20, 32}, 1), w = random({70, 32}, 2), out = nan_like(at::empty({20, 70}));
  x[3][5] = std::numeric_limits<float>::quiet_NaN();
  w[66][31] = std::numeric_limits<float>::quiet_NaN();
  gemm(std::vector<Job<float>>{{data<float>(out), 70, 20, 70, {term<float>(x, w, true)}}});
  at::Tensor want = at::zeros({20, 70}, at::kBool);
  want[3].fill_(true);
  want.select(1, 66).fill_(true);
  CHECK((out.isnan() == want).all().item<bool>());
}

TEST_CASE("words of rows become words of columns, whatever the size and alignment", "[cpu]") {
  for (const std::int64_t rows : {0, 1, 15, 16, 17, 33})
    for (const std::int64_t words : {1, 2, 15, 16, 17, 40}) {
      INFO(rows << " rows of " << words << " words");
      const std::int64_t stride = 4 * words + 6;  // rows begin at odd halves of words
      std::vector<unsigned char> in(static_cast<std::size_t>(rows * stride + 2));
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(i * 37 % 251);
      std::vector<std::uint32_t> out(static_cast<std::size_t>(words * (rows + 3)), 0xdeadbeef);
      transpose_words(in.data() + 2, stride, rows, words, out.data(), rows + 3);
      for (std::int64_t w = 0; w < words; ++w)
        for (std::int64_t r = 0; r < rows + 3; ++r) {
          std::uint32_t want = 0xdeadbeef;
          if (r < rows) std::memcpy(&want, in.data() + 2 + r * stride + 4 * w, 4);
          REQUIRE(out[static_cast<std::size_t>(w * (rows + 3) + r)] == want);
        }
    }
}

TEST_CASE("rows become pairs, whatever the size and alignment", "[cpu]") {
  for (const std::int64_t rows : {0, 1, 2, 5, 64, 67})
    for (const std::int64_t n : {1, 15, 16, 17, 31, 32, 33, 64, 70}) {
      INFO(rows << " rows of " << n);
      const std::int64_t stride = n + 3, pairs = (rows + 1) / 2, out_stride = n + 2;
      std::vector<Bf16Bits> in(static_cast<std::size_t>(rows * stride + 1));
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<Bf16Bits>(i * 40503 % 65521);
      std::vector<std::uint32_t> out(static_cast<std::size_t>((pairs + 1) * out_stride), 0xdeadbeef);
      const Bf16Bits* const first = in.data() + 1;
      interleave_rows(first, stride, rows, n, out.data(), out_stride);
      for (std::int64_t p = 0; p <= pairs; ++p)
        for (std::int64_t j = 0; j < out_stride; ++j) {
          const auto at = [&](std::int64_t row) { return row < rows ? std::uint32_t{first[row * stride + j]} : 0; };
          const std::uint32_t want = p < pairs && j < n ? at(2 * p) | at(2 * p + 1) << 16 : 0xdeadbeef;
          REQUIRE(out[static_cast<std::size_t>(p * out_stride + j)] == want);
        }
    }
}

}  // namespace graft::kernels::cpu
