#include "export/fold.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace graft::exports {
namespace {

FoldSite from_norm(std::string norm, std::vector<std::string> readers, std::vector<std::string> followers = {}) {
  return {.writer = std::move(norm), .norm = true, .readers = std::move(readers), .followers = std::move(followers)};
}

FoldSite from_linear(std::string linear, std::int64_t first_row, std::string reader) {
  return {.writer = std::move(linear), .first_row = first_row, .readers = {std::move(reader)}};
}

}  // namespace

std::vector<FoldSite> fold_sites(const model::ModelSpec& spec, std::int64_t layer, bool linears) {
  const std::string prefix = cat("model.layers.", layer, "."), attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  const std::int64_t q = spec.heads * spec.head_dim, kv = spec.kv_heads * spec.head_dim;
  std::vector<FoldSite> sites;
  if (spec.fused_qkv)
    sites.push_back(from_norm(prefix + "input_layernorm", {attention + "qkv_proj"}));
  else
    sites.push_back(from_norm(prefix + "input_layernorm", {attention + "q_proj", attention + "k_proj", attention + "v_proj"}));
  if (linears && q == kv)
    sites.push_back(
        from_linear(attention + (spec.fused_qkv ? "qkv_proj" : "v_proj"), spec.fused_qkv ? q + kv : 0, attention + "o_proj"));

  const std::string norm = prefix + (spec.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm");
  if (spec.moe.experts > 0) {
    const std::string block = cat(prefix, spec.moe.block, ".");
    FoldSite site = from_norm(norm, {}, {block + "gate"});
    for (std::int64_t e = 0; e < spec.moe.experts; ++e) {
      const std::string expert = cat(block, "experts.", e, ".");
      site.readers.push_back(expert + spec.moe.gate);
      site.readers.push_back(expert + spec.moe.up);
      if (linears) sites.push_back(from_linear(expert + spec.moe.up, 0, expert + spec.moe.down));
    }
    sites.push_back(std::move(site));
  } else if (spec.fused_gate_up) {
    sites.push_back(from_norm(norm, {mlp + "gate_up_proj"}));
    if (linears) sites.push_back(from_linear(mlp + "gate_up_proj", spec.ffn, mlp + "down_proj"));
  } else {
    sites.push_back(from_norm(norm, {mlp + "gate_proj", mlp + "up_proj"}));
    if (linears) sites.push_back(from_linear(mlp + "up_proj", 0, mlp + "down_proj"));
  }
  return sites;
}

void Folds::add_readers(const FoldSite& site, const at::Tensor& scales) {
  for (const auto* names : {&site.readers, &site.followers})
    for (const std::string& name : *names) columns_[name + ".weight"] = scales;
}

void Folds::add_norm(const FoldSite& site, at::Tensor scales, const at::Tensor& gain, double gain_offset) {
  at::Tensor stored = (gain / scales - gain_offset).to(at::kBFloat16).to(at::kFloat);
  // Where the gain is zero nothing arrives, and no scale can be taken out of it.
  const at::Tensor exact = gain / (stored + gain_offset), usable = exact.isfinite().logical_and(exact > 0);
  norms_[site.writer + ".weight"] = at::where(usable, stored, gain - gain_offset);
  add_readers(site, at::where(usable, exact, 1.0));
}

void Folds::add_linear(const FoldSite& site, const at::Tensor& scales, std::int64_t rows) {
  at::Tensor factors = at::ones({rows}, at::kFloat);
  factors.narrow(0, site.first_row, scales.size(0)).copy_(scales.reciprocal());
  rows_[site.writer + ".weight"] = factors;
  rows_[site.writer + ".bias"] = factors;
  add_readers(site, scales);
}

at::Tensor Folds::apply(const std::string& tensor, const at::Tensor& values, std::int64_t begin) const {
  if (const auto norm = norms_.find(tensor); norm != norms_.end()) return norm->second;
  at::Tensor folded = values;
  if (const auto rows = rows_.find(tensor); rows != rows_.end()) {
    const at::Tensor factors = rows->second.narrow(0, begin, values.size(0));
    folded = folded * (values.dim() == 1 ? factors : factors.unsqueeze(1));
  }
  if (const auto columns = columns_.find(tensor); columns != columns_.end()) folded = folded * columns->second;
  return folded;
}

at::Tensor Folds::undo(const std::string& tensor, const at::Tensor& rows, std::int64_t begin) const {
  at::Tensor plain = rows;
  if (const auto columns = columns_.find(tensor); columns != columns_.end()) plain = plain / columns->second;
  if (const auto factors = rows_.find(tensor); factors != rows_.end())
    plain = plain / factors->second.narrow(0, begin, rows.size(0)).unsqueeze(1);
  return plain;
}

}  // namespace graft::exports
