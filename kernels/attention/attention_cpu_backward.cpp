#include "kernels/attention/attention_cpu_impl.h"

namespace graft::kernels::cpu {
namespace {

constexpr std::int64_t kRange = 512;  // queries of a task, so that one long document keeps many threads busy to the end
constexpr std::int64_t kRanges = 4;   // of a segment at most, for the memory of their sums

// Queries of a segment that are one task for each head, and the keys that they see. at: rows of sums before its own.
struct Range {
  std::int64_t begin, end, key, keys, at;

  std::int64_t row(std::int64_t head, std::int64_t of_key) const { return at + head * keys + of_key - key; }
};

// Of each segment; by lengths alone, so that sums have the same bits on any number of threads.
std::vector<std::vector<Range>> ranges_of(const std::vector<Segment>& segments, std::int64_t heads, std::int64_t window) {
  std::vector<std::vector<Range>> all;
  std::int64_t at = 0;
  for (const Segment& segment : segments) {
    all.emplace_back();
    const std::int64_t count = std::clamp<std::int64_t>((segment.queries + kRange - 1) / kRange, 1, kRanges);
    const std::int64_t step = round_up((segment.queries + count - 1) / count, kQueries);
    for (std::int64_t begin = 0; begin < segment.queries; begin += step) {
      const std::int64_t end = std::min(begin + step, segment.queries);
      const auto [from, to] = keys_of(segment.keys - segment.queries + begin, end - begin, window);
      const std::int64_t key = from / 2 * 2;  // where pairs start
      all.back().push_back({begin, end, key, to - key, at});
      at += heads * (to - key);
    }
  }
  return all;
}

struct Columns {  // of a tile: log sum of exp(s'), and rowsum(dO * O)
  float lse[kQueries], dot[kQueries];
};

template <class T>
GRAFT_SIMD float dot_of(const T* a, const T* b, std::int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += load(a[i]) * load(b[i]);
  return sum;
}

// Gradients of one query head in a range of one segment. dk, dv: (keys of the range, width) f32, added to.
template <class T, class Element>
struct Head {
  const Forwarded& in;
  const AttentionOptions& options;
  const Side<Element>&keys, &values;
  at::Tensor dq;
  std::int64_t d, width, group;

  void operator()(const Segment& segment, std::size_t index, std::int64_t head, const Range& range, float* dk, float* dv) const {
    for (std::int64_t begin = range.begin; begin < range.end; begin += kQueries)
      tile(segment, index, head, begin, range.key, dk, dv);
  }

 private:
  const T* rows(const at::Tensor& x, std::int64_t token, std::int64_t head) const {
    return x.const_data_ptr<T>() + token * x.stride(0) + head * x.stride(1);
  }

  void tile(const Segment& segment, std::size_t index, std::int64_t head, std::int64_t begin, std::int64_t first_key, float* dk,
            float* dv) const {
    constexpr std::int64_t depth = kDepth<Element>;
    const std::int64_t columns = std::min(kQueries, segment.queries - begin), kv_head = head / group;
    const std::int64_t first = segment.keys - segment.queries + begin, token = segment.query + begin;
    const std::int64_t steps = round_up(d, depth) / depth, packed_size = steps * depth * kQueries;

    thread_local Scratch packed_memory, score_memory, rounded_memory, sum_memory;
    auto* query_columns = packed_memory.get<Element>(2 * packed_size + 2 * kQueries * width);
    auto *dout_columns = query_columns + packed_size, *query_rows = dout_columns + packed_size;
    auto* dout_rows = query_rows + kQueries * width;
    auto* scores = score_memory.get<float>(2 * kKeys * kQueries);
    auto* gradient = scores + kKeys * kQueries;
    auto* rounded = rounded_memory.get<Element>(3 * kKeys * kQueries);
    auto *rounded_gradient = rounded + kKeys * kQueries, *packed_gradient = rounded_gradient + kKeys * kQueries;
    auto* sums = sum_memory.get<float>(2 * d * kQueries);

    const T *q = rows(in.q, token, head), *dout = rows(in.dout, token, head), *out = rows(in.out, token, head);
    pack_columns(q, in.q.stride(0), columns, d, query_columns);
    pack_columns(dout, in.dout.stride(0), columns, d, dout_columns);
    pack_rows(q, in.q.stride(0), columns, d, width, query_rows);
    pack_rows(dout, in.dout.stride(0), columns, d, width, dout_rows);
    Columns state{};
    for (std::int64_t i = 0; i < columns; ++i) {
      state.lse[i] = in.lse.const_data_ptr<float>()[head * in.lse.stride(0) + token + i];
      state.dot[i] = dot_of(dout + i * in.dout.stride(0), out + i * in.out.stride(0), d);
    }
    std::fill(sums, sums + d * kQueries, 0.f);

    const auto [from, end] = keys_of(first, columns, options.window);
    for (std::int64_t key = from / depth * depth; key < end; key += kKeys) {  // pairs of keys start where they were packed
      const std::int64_t count = std::min(kKeys, end - key);
      multiply({keys.row(segment, kv_head, key), keys.row_stride(), count, query_columns, kQueries, steps, scores, kQueries,
                kQueries, false});
      multiply({values.row(segment, kv_head, key), values.row_stride(), count, dout_columns, kQueries, steps, gradient, kQueries,
                kQueries, false});
      softmax_backward(SoftmaxBackward<Element>{{scores, count, key, first, columns, options.window,
                                                 static_cast<float>(options.scale), static_cast<float>(options.softcap)},
                                                gradient,
                                                state.lse,
                                                state.dot,
                                                rounded,
                                                rounded_gradient,
                                                packed_gradient});
      multiply(
          {rounded, kQueries, count, dout_rows, width, kQueries / depth, dv + (key - first_key) * width, width, width, true});
      multiply({rounded_gradient, kQueries, count, query_rows, width, kQueries / depth, dk + (key - first_key) * width, width,
                width, true});
      multiply({keys.turned(index, kv_head, key), keys.turned_stride(), d, packed_gradient, kQueries,
                round_up(count, depth) / depth, sums, kQueries, kQueries, true});
    }
    T* to_dq = dq.mutable_data_ptr<T>() + token * dq.stride(0) + head * dq.stride(1);
    write_turned(sums, d, columns, static_cast<float>(options.scale), sums + d * kQueries, to_dq, dq.stride(0));
  }
};

// out (D) = factor * the sum of rows, summed in their order.
template <class T>
GRAFT_SIMD void sum_rows(const std::vector<const float*>& rows, std::int64_t d, float factor, T* out) {
  constexpr std::int64_t kTogether = 64;
  for (std::int64_t begin = 0; begin < d; begin += kTogether) {
    const std::int64_t n = std::min(kTogether, d - begin);
    float sums[kTogether] = {};
    for (const float* row : rows) {
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) sums[j] += row[begin + j];
    }
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) store(out[begin + j], factor * sums[j]);
  }
}

// to (token, kv_head) = factor * the sum over the ranges that see the token, and the heads of its group.
template <class T>
void sum_parts(const float* partial, const std::vector<Segment>& segments, const std::vector<std::vector<Range>>& ranges,
               std::int64_t heads, std::int64_t width, float factor, at::Tensor to) {
  const std::int64_t kv_heads = to.size(1), d = to.size(2), group = heads / kv_heads;
  T* data = to.mutable_data_ptr<T>();
  std::vector<std::pair<std::size_t, std::int64_t>> blocks;
  for (std::size_t s = 0; s < segments.size(); ++s)
    for (std::int64_t key = 0; key < segments[s].keys; key += kKeys) blocks.push_back({s, key});
  for_each_task(static_cast<std::int64_t>(blocks.size()), [&](std::int64_t task) {
    const auto [s, first] = blocks[static_cast<std::size_t>(task)];
    std::vector<const float*> rows;
    for (std::int64_t key = first; key < std::min(first + kKeys, segments[s].keys); ++key)
      for (std::int64_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
        rows.clear();
        for (const Range& range : ranges[s])
          if (key >= range.key && key < range.key + range.keys)
            for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
              rows.push_back(partial + range.row(head, key) * width);
        sum_rows(rows, d, factor, data + (segments[s].key + key) * to.stride(0) + kv_head * to.stride(1));
      }
  });
}

}  // namespace

std::int64_t partial_rows(std::int64_t tokens) {
  const auto ranges = ranges_of({{0, tokens, 0, tokens}}, 1, 0);
  std::int64_t rows = 0;
  for (const Range& range : ranges.front()) rows += range.keys;
  return rows;
}

template <class T, class Element>
void backward(const Forwarded& in, const std::vector<Segment>& segments, const AttentionOptions& options, at::Tensor dq,
              at::Tensor dk, at::Tensor dv) {
  const std::int64_t heads = in.q.size(1), d = in.q.size(2), width = round_up(d, kLanes);
  const Side<Element> keys(in.k, segments, true, T{}), values(in.v, segments, false, T{});
  struct Place {
    std::size_t segment;
    const Range* range;
    std::int64_t head;
  };
  const std::vector<std::vector<Range>> ranges = ranges_of(segments, heads, options.window);
  std::vector<Place> places;  // most work first: not one of the longest is left for the end
  std::int64_t size = 0;
  for (std::size_t s = 0; s < segments.size(); ++s)
    for (const Range& range : ranges[s]) {
      for (std::int64_t head = 0; head < heads; ++head) places.push_back({s, &range, head});
      size += heads * range.keys * width;
    }
  const auto work = [](const Range& range) { return (range.end - range.begin) * range.keys; };
  std::stable_sort(places.begin(), places.end(), [&](const Place& a, const Place& b) { return work(*a.range) > work(*b.range); });

  // One for each range and query head, summed in order afterwards: the same bits whoever computed which.
  thread_local Scratch memory;
  auto* partial_dk = memory.get<float>(2 * size);
  auto* partial_dv = partial_dk + size;
  const Head<T, Element> gradients{in, options, keys, values, dq, d, width, heads / in.k.size(1)};
  for_each_task(static_cast<std::int64_t>(places.size()), [&](std::int64_t i) {
    const auto& [s, range, head] = places[static_cast<std::size_t>(i)];
    const std::int64_t at = range->row(head, range->key) * width, count = range->keys * width;
    std::fill(partial_dk + at, partial_dk + at + count, 0.f);
    std::fill(partial_dv + at, partial_dv + at + count, 0.f);
    gradients(segments[s], s, head, *range, partial_dk + at, partial_dv + at);
  });
  sum_parts<T>(partial_dk, segments, ranges, heads, width, static_cast<float>(options.scale), dk);
  sum_parts<T>(partial_dv, segments, ranges, heads, width, 1.f, dv);
}

template void backward<float, float>(const Forwarded&, const std::vector<Segment>&, const AttentionOptions&, at::Tensor,
                                     at::Tensor, at::Tensor);
template void backward<c10::BFloat16, float>(const Forwarded&, const std::vector<Segment>&, const AttentionOptions&, at::Tensor,
                                             at::Tensor, at::Tensor);
template void backward<c10::BFloat16, Bf16Bits>(const Forwarded&, const std::vector<Segment>&, const AttentionOptions&,
                                                at::Tensor, at::Tensor, at::Tensor);

}  // namespace graft::kernels::cpu
