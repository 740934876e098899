#include "export/gguf_mix.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace graft::exports {
namespace {

GgmlType default_type(GgufFileType file) {
  switch (file) {
    case GgufFileType::f32:
      return GgmlType::f32;
    case GgufFileType::f16:
      return GgmlType::f16;
    case GgufFileType::bf16:
      return GgmlType::bf16;
    case GgufFileType::q8_0:
      return GgmlType::q8_0;
    case GgufFileType::q4_0:
      return GgmlType::q4_0;
    case GgufFileType::q4_1:
      return GgmlType::q4_1;
    case GgufFileType::q5_0:
      return GgmlType::q5_0;
    case GgufFileType::q5_1:
      return GgmlType::q5_1;
    case GgufFileType::q4_k_s:
    case GgufFileType::q4_k_m:
      return GgmlType::q4_k;
    case GgufFileType::q5_k_m:
      return GgmlType::q5_k;
    case GgufFileType::q6_k:
      return GgmlType::q6_k;
  }
  throw std::logic_error("not a GGUF file type");
}

bool is_plain(GgmlType type) { return type == GgmlType::f32 || type == GgmlType::f16 || type == GgmlType::bf16; }

// N of "blk.N.": the caller's names are the model's own.
std::int64_t layer_of(const std::string& name) {
  std::int64_t layer = 0;
  std::from_chars(name.data() + std::min<std::size_t>(4, name.size()), name.data() + name.size(), layer);
  return layer;
}

bool wants_more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

// llama.cpp's "70B": many heads of q share one of v, which is then small and worth more bits.
bool is_70b(const model::ModelSpec& spec) {
  if (spec.layers.size() != 80) return false;
  return spec.family == "qwen2" || ((spec.family == "llama" || spec.family == "mistral") && spec.heads != spec.kv_heads);
}

GgmlType mixed_type(GgufFileType file, GgmlType type, const model::ModelSpec& spec, const std::string& name, std::int64_t columns,
                    bool importance) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const auto layers = static_cast<std::int64_t>(spec.layers.size()), layer = layer_of(name);
  const bool medium = file == GgufFileType::q4_k_m || file == GgufFileType::q5_k_m, small = file == GgufFileType::q4_k_s;
  if (name == (spec.tied_head ? "token_embd.weight" : "output.weight")) {
    if (columns % info_of(type).block != 0 || type == GgmlType::q8_0) return GgmlType::q8_0;
    return GgmlType::q6_k;
  }
  if (has("attn_v.weight") || has("attn_qkv.weight")) {
    if (spec.moe.experts == 8) return GgmlType::q8_0;
    if (medium && wants_more_bits(layer, layers)) return GgmlType::q6_k;
    if (small && layer < 4) return GgmlType::q5_k;
    return is_70b(spec) && type == GgmlType::q4_k ? GgmlType::q5_k : type;
  }
  if (has("attn_k.weight") && spec.moe.experts == 8) return GgmlType::q8_0;
  if (has("ffn_down")) {
    if (medium && wants_more_bits(layer, layers)) return GgmlType::q6_k;
    if (small && layer < layers / 8) return GgmlType::q5_k;
    // With importance weights alone: their search for one scale can go astray in the first of these.
    if (importance && layer < layers / 8 && file == GgufFileType::q4_0) return GgmlType::q4_1;
    if (importance && layer < layers / 8 && file == GgufFileType::q5_0) return GgmlType::q5_1;
  }
  if (has("attn_output.weight") && spec.moe.experts == 8 && type == GgmlType::q4_k) return GgmlType::q5_k;
  return type;
}

GgmlType fitting(GgmlType type, std::int64_t columns) {
  if (columns % info_of(type).block == 0) return type;
  const GgmlType smaller = type == GgmlType::q4_k   ? GgmlType::q5_0
                           : type == GgmlType::q5_k ? GgmlType::q5_1
                           : type == GgmlType::q6_k ? GgmlType::q8_0
                                                    : type;
  return columns % info_of(smaller).block == 0 ? smaller : GgmlType::f16;
}

}  // namespace

GgmlType gguf_tensor_type(GgufFileType file, const model::ModelSpec& spec, const std::string& name, std::int64_t columns,
                          std::size_t dimensions, bool importance) {
  if (dimensions == 1 || !name.ends_with(".weight") || name.ends_with("_norm.weight") || name.ends_with("ffn_gate_inp.weight"))
    return GgmlType::f32;
  const GgmlType type = default_type(file);
  return is_plain(type) ? type : fitting(mixed_type(file, type, spec, name, columns, importance), columns);
}

}  // namespace graft::exports
