#include "lora/adapter.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/rng.h"
#include "core/simd.h"

namespace graft::lora {
namespace {

std::string shape_text(std::int64_t rows, std::int64_t columns) { return cat("(", rows, ", ", columns, ")"); }

// Shared by attach (a loaded decoder) and check_base (a file): the adapter's shapes against those of the base's weight.
void check_shape(const Adapter& adapter, std::int64_t out, std::int64_t in) {
  const std::int64_t adapter_out = adapter.low_rank.b.size(0), adapter_in = adapter.low_rank.a.size(1);
  if (adapter_out != out || adapter_in != in)
    throw DataError(cat("the adapter is for another base: ", adapter.module, " has weight ", shape_text(out, in),
                        " here, the adapter was made for ", shape_text(adapter_out, adapter_in)));
}

// out = w + scale b a of `rows` rows, some columns at a time whose sums stay in the cache.
GRAFT_SIMD void merge(const float* w, const float* b, const float* a, float scale, std::int64_t rows, std::int64_t columns,
                      std::int64_t rank, float* out) {
  constexpr std::int64_t kColumns = 1024;
  std::array<float, kColumns> sums;
  for (std::int64_t begin = 0; begin < columns; begin += kColumns) {
    const std::int64_t count = std::min(kColumns, columns - begin);
    for (std::int64_t row = 0; row < rows; ++row) {
      const float* factors = b + row * rank;
      std::fill_n(sums.data(), count, 0.0f);
      std::int64_t k = 0;
      for (; k + 4 <= rank; k += 4) {  // the sums are fetched and stored once for four terms
        const float *v0 = a + k * columns + begin, *v1 = v0 + columns, *v2 = v1 + columns, *v3 = v2 + columns;
        const float f0 = factors[k], f1 = factors[k + 1], f2 = factors[k + 2], f3 = factors[k + 3];
#pragma omp simd
        for (std::int64_t j = 0; j < count; ++j) {
          float& sum = sums[static_cast<std::size_t>(j)];
          sum = sum + f0 * v0[j] + f1 * v1[j] + f2 * v2[j] + f3 * v3[j];
        }
      }
      for (; k < rank; ++k) {
        const float factor = factors[k];
        const float* values = a + k * columns + begin;
#pragma omp simd
        for (std::int64_t j = 0; j < count; ++j) sums[static_cast<std::size_t>(j)] += factor * values[j];
      }
      const std::int64_t at = row * columns + begin;
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) out[at + j] = w[at + j] + scale * sums[static_cast<std::size_t>(j)];
    }
  }
}

[[noreturn]] void missing(const Adapter& adapter) {
  throw DataError(cat("the adapter is for another base: this model has no linear layer ", adapter.module));
}

}  // namespace

const Adapter* AdapterSet::find(const std::string& module) const {
  const auto it = by_module.find(module);
  return it == by_module.end() ? nullptr : it->second;
}

std::unique_ptr<AdapterSet> allocate(const LoraConfig& config, const std::vector<AdapterShape>& shapes, bool trainable) {
  auto set = std::make_unique<AdapterSet>();
  set->config = config;
  const std::int64_t r = config.rank;
  std::int64_t total = 0;
  for (const auto& shape : shapes) total += r * (shape.in + shape.out);
  set->parameters = at::zeros({total}, at::kFloat);
  if (trainable) set->gradients = at::zeros({total}, at::kFloat);

  std::int64_t offset = 0;
  const auto view = [&](const at::Tensor& arena, std::int64_t at, std::int64_t rows, std::int64_t columns) {
    return arena.narrow(0, at, rows * columns).view({rows, columns});
  };
  for (const auto& shape : shapes) {
    auto adapter = std::make_unique<Adapter>();
    adapter->module = shape.module;
    kernels::LowRank& low_rank = adapter->low_rank;
    low_rank.scale = config.scale();
    low_rank.dropout = config.dropout;
    const std::int64_t b = offset + r * shape.in;
    low_rank.a = view(set->parameters, offset, r, shape.in);
    low_rank.b = view(set->parameters, b, shape.out, r);
    if (trainable) {
      low_rank.grad_a = view(set->gradients, offset, r, shape.in);
      low_rank.grad_b = view(set->gradients, b, shape.out, r);
    }
    offset = b + r * shape.out;
    set->by_module.emplace(shape.module, adapter.get());
    set->adapters.push_back(std::move(adapter));
  }
  return set;
}

std::unique_ptr<AdapterSet> create(const LoraConfig& config, model::Decoder& decoder, std::uint64_t seed) {
  std::vector<std::string> modules;
  std::map<std::string, const model::Linear*> linears;
  for (const model::Linear* linear : decoder.linears()) {
    modules.push_back(linear->name);
    linears[linear->name] = linear;
  }
  std::vector<AdapterShape> shapes;
  for (const auto& module : match_targets(config, modules)) {
    const model::Linear& linear = *linears.at(module);
    shapes.push_back({module, linear.in(), linear.out()});
  }
  auto set = allocate(config, shapes, true);
  for (std::size_t i = 0; i < set->adapters.size(); ++i) {
    const at::Tensor& a = set->adapters[i]->low_rank.a;
    const Random random(seed, Stream::init, i);
    const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
    float* values = a.data_ptr<float>();
    for (std::int64_t k = 0; k < a.numel(); ++k)
      values[k] = static_cast<float>((2 * random.uniform(static_cast<std::uint64_t>(k)) - 1) * bound);
  }
  return set;
}

void attach(AdapterSet& set, model::Decoder& decoder) {
  std::map<std::string, model::Linear*> linears;
  for (model::Linear* linear : decoder.linears()) linears[linear->name] = linear;
  for (const auto& adapter : set.adapters) {  // all checks before the first change
    const auto it = linears.find(adapter->module);
    if (it == linears.end()) missing(*adapter);
    check_shape(*adapter, it->second->out(), it->second->in());
  }
  detach(decoder);
  for (const auto& adapter : set.adapters) linears.at(adapter->module)->adapter = &adapter->low_rank;
}

void detach(model::Decoder& decoder) {
  for (model::Linear* linear : decoder.linears()) linear->adapter = nullptr;
}

void check_shapes(const AdapterSet& set, const model::WeightSource& base) {
  std::map<std::string, const model::WeightInfo*> weights;
  for (const auto& weight : base.weights()) weights[weight.name] = &weight;
  for (const auto& adapter : set.adapters) {
    const auto it = weights.find(adapter->module + ".weight");
    if (it == weights.end() || it->second->shape.size() != 2) missing(*adapter);
    check_shape(*adapter, it->second->shape[0], it->second->shape[1]);
  }
}

void check_base(const AdapterSet& set, const model::WeightSource& base) {
  check_shapes(set, base);
  if (!set.base_identity.empty() && set.base_identity != base.identity())
    throw DataError(cat("the adapter is for another base: it was trained on weights with identity ",
                        set.base_identity.substr(0, 16), ", ", base.path().string(), " has ", base.identity().substr(0, 16),
                        "; use the base that the adapter was trained on"));
}

at::Tensor merged_rows(const AdapterSet& set, const std::string& module, std::int64_t begin, const at::Tensor& rows_f32) {
  const Adapter* adapter = set.find(module);
  if (!adapter) return rows_f32;
  const at::Tensor a = adapter->low_rank.a.contiguous(), b = adapter->low_rank.b.contiguous(), w = rows_f32.contiguous();
  if (w.size(1) != a.size(1) || begin + w.size(0) > b.size(0)) throw std::logic_error(cat("not rows of ", module));
  at::Tensor merged = at::empty(w.sizes(), at::kFloat);
  const std::int64_t columns = a.size(1), rank = a.size(0);
  const float *const a_values = a.const_data_ptr<float>(), *const b_values = b.const_data_ptr<float>() + begin * rank;
  const float* const w_values = w.const_data_ptr<float>();
  float* const out = merged.mutable_data_ptr<float>();
  const auto scale = static_cast<float>(adapter->low_rank.scale);
  at::parallel_for(0, w.size(0), std::max<std::int64_t>(1, (1 << 15) / columns), [&](std::int64_t first, std::int64_t last) {
    merge(w_values + first * columns, b_values + first * rank, a_values, scale, last - first, columns, rank,
          out + first * columns);
  });
  return merged;
}

}  // namespace graft::lora
