#include <cmath>

#include "kernels/attention/attention_cpu_impl.h"

namespace graft::kernels::cpu {
namespace {

constexpr float kLowest = -1e30f;  // below every score, and kLowest - kLowest is 0

struct Columns {  // of a tile: running maximum and sum of exp, and what the sums so far are multiplied with
  float largest[kQueries], sum[kQueries], factor[kQueries];
};

GRAFT_SIMD void multiply_columns(float* rows, std::int64_t n, const float* factor) {
  for (std::int64_t j = 0; j < n; ++j) {
#pragma omp simd
    for (std::int64_t i = 0; i < kQueries; ++i) rows[j * kQueries + i] *= factor[i];
  }
}

template <class T, class Element>
struct Tile {
  const at::Tensor &q, &out, &lse;
  const AttentionOptions& options;
  const Side<Element>&keys, &values;
  std::int64_t d, group;

  void operator()(const std::vector<Segment>& segments, std::size_t index, std::int64_t head, std::int64_t begin) const {
    constexpr std::int64_t depth = kDepth<Element>;
    thread_local Scratch query_memory, score_memory, packed_memory, sum_memory;
    auto* queries = query_memory.get<Element>(round_up(d, depth) * kQueries);
    auto* scores = score_memory.get<float>(kKeys * kQueries);
    auto* packed = packed_memory.get<Element>(kKeys * kQueries);
    auto* sums = sum_memory.get<float>(2 * d * kQueries);
    const Segment& segment = segments[index];
    const std::int64_t columns = std::min(kQueries, segment.queries - begin), kv_head = head / group;
    const std::int64_t first = segment.keys - segment.queries + begin;
    pack_columns(q.const_data_ptr<T>() + (segment.query + begin) * q.stride(0) + head * q.stride(1), q.stride(0), columns, d,
                 queries);
    std::fill(sums, sums + d * kQueries, 0.f);
    Columns state;
    std::fill(state.largest, state.largest + kQueries, kLowest);
    std::fill(state.sum, state.sum + kQueries, 0.f);

    const auto [from, to] = keys_of(first, columns, options.window);
    for (std::int64_t key = from / depth * depth; key < to; key += kKeys) {  // pairs of keys start where they were packed
      const std::int64_t count = std::min(kKeys, to - key), steps = round_up(count, depth) / depth;
      multiply({keys.row(segment, kv_head, key), keys.row_stride(), count, queries, kQueries, round_up(d, depth) / depth, scores,
                kQueries, kQueries, false});
      softmax(SoftmaxForward<Element>{{scores, count, key, first, columns, options.window, static_cast<float>(options.scale),
                                       static_cast<float>(options.softcap)},
                                      state.largest,
                                      state.sum,
                                      state.factor,
                                      packed});
      if (key > from) multiply_columns(sums, d, state.factor);
      multiply({values.turned(index, kv_head, key), values.turned_stride(), d, packed, kQueries, steps, sums, kQueries, kQueries,
                true});
    }
    write(segment, head, begin, columns, state, sums);
  }

 private:
  void write(const Segment& segment, std::int64_t head, std::int64_t begin, std::int64_t columns, const Columns& state,
             float* sums) const {
    float inverse[kQueries];
    for (std::int64_t i = 0; i < kQueries; ++i) inverse[i] = 1.f / state.sum[i];
    multiply_columns(sums, d, inverse);
    T* to = out.mutable_data_ptr<T>() + (segment.query + begin) * out.stride(0) + head * out.stride(1);
    float* logs = lse.mutable_data_ptr<float>() + head * lse.stride(0) + segment.query + begin;
    write_turned(sums, d, columns, 1.f, sums + d * kQueries, to, out.stride(0));
    for (std::int64_t i = 0; i < columns; ++i) logs[i] = state.largest[i] + std::log(state.sum[i]);
  }
};

}  // namespace

template <class T, class Element>
void forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Segment>& segments,
             const AttentionOptions& options, at::Tensor out, at::Tensor lse) {
  const Side<Element> keys(k, segments, false, T{}), values(v, segments, true, T{});
  const std::int64_t heads = q.size(1);
  struct Place {
    std::size_t segment;
    std::int64_t head, begin, keys;  // that its tile sees
  };
  std::vector<Place> places;  // most keys first: not one of the longest is left for the end
  for (std::size_t s = 0; s < segments.size(); ++s)
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t begin = 0; begin < segments[s].queries; begin += kQueries) {
        const auto [from, to] = keys_of(segments[s].keys - segments[s].queries + begin,
                                        std::min(kQueries, segments[s].queries - begin), options.window);
        places.push_back({s, head, begin, to - from});
      }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.keys > b.keys; });
  const Tile<T, Element> tile{q, out, lse, options, keys, values, q.size(2), heads / k.size(1)};
  for_each_task(static_cast<std::int64_t>(places.size()), [&](std::int64_t i) {
    const Place& place = places[static_cast<std::size_t>(i)];
    tile(segments, place.segment, place.head, place.begin);
  });
}

template void forward<float, float>(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::vector<Segment>&,
                                    const AttentionOptions&, at::Tensor, at::Tensor);
template void forward<c10::BFloat16, float>(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::vector<Segment>&,
                                            const AttentionOptions&, at::Tensor, at::Tensor);
template void forward<c10::BFloat16, Bf16Bits>(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                               const std::vector<Segment>&, const AttentionOptions&, at::Tensor, at::Tensor);

}  // namespace graft::kernels::cpu
