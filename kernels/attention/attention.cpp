#include "kernels/attention/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr const char* kOp = "attention";
constexpr std::int64_t kTileQueries = 64;      // half of a tile on the diagonal is computed for nothing
constexpr std::int64_t kTileFloats = 8 << 20;  // of scores; long segments get fewer queries per tile

// One tile: queries [begin, end) of a segment against its keys [first_key, end_key).
struct Tile {
  std::int64_t begin, end, first_key, end_key;
  std::int64_t queries() const { return end - begin; }
  std::int64_t keys() const { return end_key - first_key; }
};

// offset: position of query 0 among the keys (0 in training, the cached length in decoding).
template <class F>
void for_each_tile(std::int64_t queries, std::int64_t offset, std::int64_t heads, std::int64_t window, F&& f) {
  const std::int64_t keys = offset + queries;
  const std::int64_t size = std::clamp<std::int64_t>(kTileFloats / std::max<std::int64_t>(heads * keys, 1), 16, kTileQueries);
  for (std::int64_t begin = 0; begin < queries; begin += size) {
    const std::int64_t end = std::min(begin + size, queries);
    const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, offset + begin - window + 1) : 0;
    f(Tile{begin, end, first, offset + end});
  }
}

// One row of scores becomes exp(s' - max) on [low, high) and 0 elsewhere. Returns the sum and the lse.
struct RowSum {
  float sum, lse;
};
GRAFT_SIMD RowSum softmax_row(float* s, std::int64_t n, std::int64_t low, std::int64_t high, float cap) {
  if (cap > 0) {
    const float inverse = 1.f / cap;
#pragma omp simd
    for (std::int64_t j = low; j < high; ++j) s[j] = cap * fast_tanh(s[j] * inverse);
  }
  float largest = s[low], sum = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t j = low; j < high; ++j) largest = s[j] > largest ? s[j] : largest;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = low; j < high; ++j) {
    const float e = fast_exp(s[j] - largest);
    s[j] = e;
    sum += e;
  }
  std::fill(s, s + low, 0.f);
  std::fill(s + high, s + n, 0.f);
  return {sum, largest + std::log(sum)};
}

// s: scores -> P; dp: dO V^T -> dS (without the scale), on [low, high); both 0 elsewhere.
GRAFT_SIMD void softmax_row_backward(float* s, float* dp, std::int64_t n, std::int64_t low, std::int64_t high, float cap,
                                     float lse, float d) {
  const float inverse = cap > 0 ? 1.f / cap : 0.f;
  if (cap > 0) {
#pragma omp simd
    for (std::int64_t j = low; j < high; ++j) {
      const float t = fast_tanh(s[j] * inverse), p = fast_exp(cap * t - lse);
      s[j] = p;
      dp[j] = p * (dp[j] - d) * (1.f - t * t);
    }
  } else {
#pragma omp simd
    for (std::int64_t j = low; j < high; ++j) {
      const float p = fast_exp(s[j] - lse);
      s[j] = p;
      dp[j] = p * (dp[j] - d);
    }
  }
  std::fill(s, s + low, 0.f);
  std::fill(dp, dp + low, 0.f);
  std::fill(s + high, s + n, 0.f);
  std::fill(dp + high, dp + n, 0.f);
}

// (n, Hq, D) -> (Hkv, G n, D) f32 times factor: the query heads of a group are rows of one product.
at::Tensor grouped(const at::Tensor& x, std::int64_t kv_heads, double factor) {
  const std::int64_t n = x.size(0), group = x.size(1) / kv_heads, d = x.size(2);
  at::Tensor out = at::empty({kv_heads, group, n, d}, x.options().dtype(at::kFloat));
  out.copy_(x.view({n, kv_heads, group, d}).permute({1, 2, 0, 3}));
  if (factor != 1) out.mul_(factor);
  return out.view({kv_heads, group * n, d});
}

// Inverse of grouped, into a (n, Hq, D) view.
void ungroup(const at::Tensor& x, at::Tensor out) {
  const std::int64_t n = out.size(0), kv_heads = x.size(0), group = out.size(1) / kv_heads, d = out.size(2);
  out.view({n, kv_heads, group, d}).copy_(x.view({kv_heads, group, n, d}).permute({2, 0, 1, 3}));
}

// (T, Hkv, D) -> (Hkv, T, D) f32; a view when it can be.
at::Tensor by_head(const at::Tensor& x) { return x.permute({1, 0, 2}).to(at::kFloat); }

at::Tensor scratch(at::Tensor& buffer, std::int64_t a, std::int64_t b, std::int64_t c, const at::TensorOptions& options) {
  const std::int64_t size = a * b * c;
  if (!buffer.defined() || buffer.numel() < size) buffer = at::empty({size}, options);
  return buffer.narrow(0, 0, size).view({a, b, c});
}

// Visible keys of query i of a tile, as columns of the tile's scores.
struct Visible {
  std::int64_t low, high;
};
Visible visible(const Tile& tile, std::int64_t i, std::int64_t offset, std::int64_t window) {
  const std::int64_t position = offset + tile.begin + i;
  const std::int64_t low = window > 0 ? std::max<std::int64_t>(0, position - window + 1) : 0;
  return {std::max(low, tile.first_key) - tile.first_key, position + 1 - tile.first_key};
}

// Forward of one segment; q may be its last q.size(0) positions. lse (Hq, n), a view.
void segment_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options,
                     at::Tensor out, at::Tensor lse) {
  const std::int64_t n = q.size(0), heads = q.size(1), kv_heads = k.size(1), d = q.size(2), offset = k.size(0) - n;
  const auto f32 = q.options().dtype(at::kFloat);
  const at::Tensor keys = by_head(k), values = by_head(v);
  const auto cap = static_cast<float>(options.softcap);
  at::Tensor buffer;
  for_each_tile(n, offset, heads, options.window, [&](const Tile& tile) {
    const std::int64_t rows = heads / kv_heads * tile.queries(), columns = tile.keys();
    const at::Tensor queries = grouped(q.narrow(0, tile.begin, tile.queries()), kv_heads, options.scale);
    at::Tensor scores = scratch(buffer, kv_heads, rows, columns, f32);
    at::bmm_out(scores, queries, keys.narrow(1, tile.first_key, columns).transpose(1, 2));
    at::Tensor inverse_sums = at::empty({kv_heads * rows, 1}, f32);
    float* s = scores.mutable_data_ptr<float>();
    float* inverse = inverse_sums.mutable_data_ptr<float>();
    float* log_sums = lse.mutable_data_ptr<float>();
    at::parallel_for(0, heads * tile.queries(), 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t head = r / tile.queries(), i = r % tile.queries();
        const auto [low, high] = visible(tile, i, offset, options.window);
        const RowSum sum = softmax_row(s + r * columns, columns, low, high, cap);
        inverse[r] = 1.f / sum.sum;
        log_sums[head * lse.stride(0) + tile.begin + i] = sum.lse;
      }
    });
    at::Tensor weighted = at::bmm(scores, values.narrow(1, tile.first_key, columns));
    weighted.view({kv_heads * rows, d}).mul_(inverse_sums);
    ungroup(weighted, out.narrow(0, tile.begin, tile.queries()));
  });
}

struct Gradients {
  at::Tensor dq, dk, dv;
};

void segment_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const at::Tensor& lse, const at::Tensor& dot, const AttentionOptions& options, Gradients to) {
  const std::int64_t n = q.size(0), heads = q.size(1), kv_heads = k.size(1), d = q.size(2);
  const auto f32 = q.options().dtype(at::kFloat);
  const at::Tensor keys = by_head(k), values = by_head(v);
  at::Tensor dkeys = at::zeros({kv_heads, n, d}, f32), dvalues = at::zeros({kv_heads, n, d}, f32);
  const float *log_sums = lse.const_data_ptr<float>(), *dots = dot.const_data_ptr<float>();
  const auto cap = static_cast<float>(options.softcap);
  at::Tensor score_buffer, gradient_buffer;
  for_each_tile(n, 0, heads, options.window, [&](const Tile& tile) {
    const std::int64_t rows = heads / kv_heads * tile.queries(), columns = tile.keys();
    const at::Tensor queries = grouped(q.narrow(0, tile.begin, tile.queries()), kv_heads, options.scale);
    const at::Tensor douts = grouped(dout.narrow(0, tile.begin, tile.queries()), kv_heads, 1);
    const at::Tensor tile_keys = keys.narrow(1, tile.first_key, columns);
    at::Tensor scores = scratch(score_buffer, kv_heads, rows, columns, f32);
    at::Tensor gradient = scratch(gradient_buffer, kv_heads, rows, columns, f32);
    at::bmm_out(scores, queries, tile_keys.transpose(1, 2));
    at::bmm_out(gradient, douts, values.narrow(1, tile.first_key, columns).transpose(1, 2));
    float *s = scores.mutable_data_ptr<float>(), *ds = gradient.mutable_data_ptr<float>();
    at::parallel_for(0, heads * tile.queries(), 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t head = r / tile.queries(), i = r % tile.queries();
        const auto [low, high] = visible(tile, i, 0, options.window);
        softmax_row_backward(s + r * columns, ds + r * columns, columns, low, high, cap,
                             log_sums[head * lse.stride(0) + tile.begin + i], dots[head * dot.stride(0) + tile.begin + i]);
      }
    });
    dvalues.narrow(1, tile.first_key, columns).baddbmm_(scores.transpose(1, 2), douts);
    dkeys.narrow(1, tile.first_key, columns).baddbmm_(gradient.transpose(1, 2), queries);
    at::Tensor dqueries = at::bmm(gradient, tile_keys);
    dqueries.mul_(options.scale);
    ungroup(dqueries, to.dq.narrow(0, tile.begin, tile.queries()));
  });
  to.dk.copy_(dkeys.permute({1, 0, 2}));
  to.dv.copy_(dvalues.permute({1, 0, 2}));
}

void check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  check_dim(kOp, "q", q, 3);
  check_dim(kOp, "k", k, 3);
  check_float_or_bf16(kOp, "q", q);
  const std::int64_t kv_heads = k.size(1);
  if (kv_heads == 0 || q.size(1) % kv_heads != 0) {
    fail(kOp, cat("q has ", q.size(1), " heads, which is not a multiple of the ", kv_heads, " heads of k"));
  }
  const std::string as_k = cat("as k ", shape_text(k.sizes()));
  check_shape(kOp, "k", k, {k.size(0), kv_heads, q.size(2)}, cat("the last size of q ", shape_text(q.sizes())));
  check_shape(kOp, "v", v, k.sizes(), as_k);
  check_type(kOp, "k", k, q.scalar_type(), "the type of q");
  check_type(kOp, "v", v, q.scalar_type(), "the type of q");
  for (const auto* x : {&q, &k, &v}) check_rows_dense(kOp, "q, k or v", *x);
}

void check_packed(const at::Tensor& q, const at::Tensor& k, std::span<const std::int32_t> starts) {
  if (k.size(0) != q.size(0)) fail(kOp, cat("k has ", k.size(0), " tokens but q has ", q.size(0)));
  const auto tokens = static_cast<std::int32_t>(q.size(0));
  if (starts.empty() || starts.front() != 0 || starts.back() != tokens || !std::is_sorted(starts.begin(), starts.end())) {
    fail(kOp, cat("segment starts must ascend from 0 to the ", tokens, " tokens of q"));
  }
}

}  // namespace

at::Tensor attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                             const AttentionOptions& options, at::Tensor* lse) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  check_packed(q, k, starts);
  at::Tensor out = at::empty(q.sizes(), q.options());
  at::Tensor log_sums = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::int64_t begin = starts[i], n = starts[i + 1] - starts[i];
    if (n == 0) continue;
    segment_forward(q.narrow(0, begin, n), k.narrow(0, begin, n), v.narrow(0, begin, n), options, out.narrow(0, begin, n),
                    log_sums.narrow(1, begin, n));
  }
  if (lse != nullptr) *lse = log_sums;
  return out;
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  check_packed(q, k, starts);
  check_shape(kOp, "dout", dout, q.sizes(), "as q");
  check_shape(kOp, "out", out, q.sizes(), "as q");
  check_shape(kOp, "dq", dq, q.sizes(), "as q");
  check_shape(kOp, "dk", dk, k.sizes(), "as k");
  check_shape(kOp, "dv", dv, k.sizes(), "as k");
  check_shape(kOp, "lse", lse, {q.size(1), q.size(0)}, "heads by tokens of q");
  const at::Tensor dot = at::sum(at::mul(dout.to(at::kFloat), out.to(at::kFloat)), -1).t().contiguous();
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::int64_t begin = starts[i], n = starts[i + 1] - starts[i];
    if (n == 0) continue;
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, n); };
    segment_backward(part(dout), part(q), part(k), part(v), lse.narrow(1, begin, n), dot.narrow(1, begin, n), options,
                     {part(dq), part(dk), part(dv)});
  }
}

at::Tensor attention_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const c10::InferenceMode no_autograd;
  check_arguments(q, k, v);
  if (q.size(0) > k.size(0)) fail(kOp, cat("q has ", q.size(0), " tokens but only ", k.size(0), " keys are there"));
  at::Tensor out = at::empty(q.sizes(), q.options());
  if (q.size(0) == 0) return out;
  segment_forward(q, k, v, options, out, at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat)));
  return out;
}

}  // namespace graft::kernels
