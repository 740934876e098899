#include "kernels/attention/attention_device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/device.h"
#include "kernels/launchers.h"

namespace graft::kernels::on_device {
namespace {

cuda::Heads heads(const at::Tensor& x) { return {x.mutable_data_ptr(), x.stride(0), x.stride(1)}; }

struct Tiles {
  std::vector<std::int32_t> starts;
  at::Tensor memory;  // int32
  std::int64_t count = 0;
  const cuda::AttentionTile* data() const { return reinterpret_cast<const cuda::AttentionTile*>(memory.const_data_ptr()); }
};

// Those of the batch: all its layers have the same starts, so that the device is waited for once.
const Tiles& tiles_of(std::span<const std::int32_t> starts) {
  static auto& last = *new Tiles;
  if (last.memory.defined() && std::ranges::equal(last.starts, starts)) return last;
  const auto tiles = cuda::attention_tiles(starts);
  const auto count = static_cast<std::int64_t>(tiles.size());
  wait_for_device();
  at::Tensor memory = at::empty({3 * count}, at::kInt);  // may fail, and then the last ones stay whole
  std::memcpy(memory.mutable_data_ptr(), tiles.data(), tiles.size() * sizeof(cuda::AttentionTile));
  last = {{starts.begin(), starts.end()}, std::move(memory), count};
  return last;
}

}  // namespace

bool has_attention(const at::Tensor& q) { return q.size(2) <= cuda::kAttentionAnyHead; }

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse) {
  const Tiles& tiles = tiles_of(starts);
  const cuda::AttentionForward arguments{.q = heads(q),
                                         .k = heads(k),
                                         .v = heads(v),
                                         .o = heads(out),
                                         .lse = lse.mutable_data_ptr<float>(),
                                         .tiles = tiles.data(),
                                         .tile_count = tiles.count,
                                         .tokens = q.size(0),
                                         .query_heads = q.size(1),
                                         .key_heads = k.size(1),
                                         .head_size = q.size(2),
                                         .window = options.window,
                                         .scale = static_cast<float>(options.scale),
                                         .softcap = static_cast<float>(options.softcap)};
  check_launch("graft_attention_forward", launchers().attention_forward(device_type(q), arguments, stream()));
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  const Tiles& tiles = tiles_of(starts);
  const at::Tensor dot = at::empty_like(lse);
  const cuda::AttentionBackward arguments{.d_o = heads(dout),
                                          .q = heads(q),
                                          .k = heads(k),
                                          .v = heads(v),
                                          .o = heads(out),
                                          .dq = heads(dq),
                                          .dk = heads(dk),
                                          .dv = heads(dv),
                                          .lse = lse.const_data_ptr<float>(),
                                          .dot = dot.mutable_data_ptr<float>(),
                                          .tiles = tiles.data(),
                                          .tile_count = tiles.count,
                                          .tokens = q.size(0),
                                          .query_heads = q.size(1),
                                          .key_heads = k.size(1),
                                          .head_size = q.size(2),
                                          .window = options.window,
                                          .scale = static_cast<float>(options.scale),
                                          .softcap = static_cast<float>(options.softcap)};
  check_launch("graft_attention_backward", launchers().attention_backward(device_type(q), arguments, stream()));
}

}  // namespace graft::kernels::on_device
