// Incremental decoding of one sequence: keys and values of the tokens so far are kept, new tokens attend to them.
#include <ATen/ATen.h>

#include <utility>

#include "core/error.h"
#include "kernels/device.h"
#include "model/decoder_impl.h"

namespace graft::model {

Decoder::Cache DecoderImpl::make_cache(std::int64_t capacity) {
  const c10::InferenceMode no_autograd;
  Cache cache;
  const auto options = embedding_.options();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    cache.keys.push_back(at::empty({capacity, spec_.kv_heads, spec_.head_dim}, options));
    cache.values.push_back(at::empty({capacity, spec_.kv_heads, spec_.head_dim}, options));
  }
  return cache;
}

at::Tensor DecoderImpl::attend_cached(const Layer& layer, const Pass& pass, const LayerSaved& saved) const {
  Cache& cache = *pass.cache;
  const auto i = static_cast<std::size_t>(layer.index);
  const std::int64_t added = saved.k.size(0), length = cache.length + added;
  kernels::wait_for_device();
  cache.keys[i].narrow(0, cache.length, added).copy_(saved.k);
  cache.values[i].narrow(0, cache.length, added).copy_(saved.v);
  return kernels::attention_decode(saved.q, cache.keys[i].narrow(0, 0, length), cache.values[i].narrow(0, 0, length),
                                   attention_options(layer));
}

at::Tensor DecoderImpl::logits_next(std::span<const std::int32_t> tokens, Cache& cache) {
  const c10::InferenceMode no_autograd;
  const auto added = static_cast<std::int64_t>(tokens.size());
  const std::int64_t capacity = cache.keys.empty() ? 0 : cache.keys[0].size(0);
  if (added == 0) throw DataError("decoder: no token to continue from; give at least one");
  if (cache.length + added > capacity) {
    throw DataError(
        cat("decoder: ", cache.length, " + ", added, " tokens do not fit the cache of ", capacity, "; ask for a larger one"));
  }
  if (spec_.rope.scaling == RopeScaling::longrope) {
    // A sequence that outgrows the original context changes its frequencies: all of its keys are rotated anew.
    cache.tokens.insert(cache.tokens.end(), tokens.begin(), tokens.end());
    const std::int64_t context = spec_.rope.original_context;
    if (cache.length > 0 && cache.length <= context && cache.length + added > context) {
      cache.length = 0;
      const std::vector<std::int32_t> all = std::exchange(cache.tokens, {});
      return logits_next(all, cache);
    }
  }
  Packed batch;
  batch.tokens = at::tensor(at::ArrayRef<std::int32_t>(tokens.data(), tokens.size()), at::kInt);
  batch.positions = at::arange(cache.length, cache.length + added, at::kLong);
  batch.starts = {0, static_cast<std::int32_t>(added)};
  Pass pass = begin(batch, false, 0);
  pass.cache = &cache;
  const at::Tensor hidden = run_layers(embed(batch.tokens), pass);
  cache.length += added;
  return head_logits(hidden.narrow(0, added - 1, 1)).squeeze(0);
}

}  // namespace graft::model
