#include "kernels/attention/attention_device.h"

#include <ATen/ATen.h>

#include "kernels/launchers.h"

namespace graft::kernels::on_device {
namespace {

cuda::Heads heads(const at::Tensor& x) { return {x.mutable_data_ptr(), x.stride(0), x.stride(1)}; }

void lend_tiles(Lent& lent, const std::vector<cuda::AttentionTile>& tiles) {
  lent.add(tiles.data(), tiles.size() * sizeof(cuda::AttentionTile), sizeof(std::int32_t));
}

}  // namespace

bool has_attention(const at::Tensor& q) { return q.size(2) <= cuda::kAttentionAnyHead; }

void attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::span<const std::int32_t> starts,
                       const AttentionOptions& options, at::Tensor out, at::Tensor lse) {
  const auto tiles = cuda::attention_tiles(starts);
  Lent lent{q, k, v, out, lse};
  lend_tiles(lent, tiles);
  const cuda::AttentionForward arguments{.q = heads(q),
                                         .k = heads(k),
                                         .v = heads(v),
                                         .o = heads(out),
                                         .lse = lse.mutable_data_ptr<float>(),
                                         .tiles = tiles.data(),
                                         .tile_count = static_cast<std::int64_t>(tiles.size()),
                                         .tokens = q.size(0),
                                         .query_heads = q.size(1),
                                         .key_heads = k.size(1),
                                         .head_size = q.size(2),
                                         .window = options.window,
                                         .scale = static_cast<float>(options.scale),
                                         .softcap = static_cast<float>(options.softcap)};
  check_launch("graft_attention_forward", launchers().attention_forward(device_type(q), arguments, nullptr));
}

void attention_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& out, const at::Tensor& lse, std::span<const std::int32_t> starts,
                        const AttentionOptions& options, at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  const auto tiles = cuda::attention_tiles(starts);
  const at::Tensor dot = at::empty_like(lse);
  Lent lent{dout, q, k, v, out, lse, dq, dk, dv, dot};
  lend_tiles(lent, tiles);
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
                                          .tile_count = static_cast<std::int64_t>(tiles.size()),
                                          .tokens = q.size(0),
                                          .query_heads = q.size(1),
                                          .key_heads = k.size(1),
                                          .head_size = q.size(2),
                                          .window = options.window,
                                          .scale = static_cast<float>(options.scale),
                                          .softcap = static_cast<float>(options.softcap)};
  check_launch("graft_attention_backward", launchers().attention_backward(device_type(q), arguments, nullptr));
}

}  // namespace graft::kernels::on_device
