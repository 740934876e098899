// What the tests of specs and weights share: folders that disappear, a spec as text.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "model/spec.h"
#include "tests/support/golden_paths.h"

namespace graft::testing {

class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / cat("graft-model-", getpid(), "-", name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  void copy(const std::filesystem::path& file) const { std::filesystem::copy(file, path_ / file.filename()); }

 private:
  std::filesystem::path path_;
};

inline std::string describe(const model::RopeSpec& rope) {
  std::ostringstream out;
  out.precision(17);
  out << "theta " << rope.theta << " dims " << rope.dims << " scaling " << static_cast<int>(rope.scaling) << " factor "
      << rope.factor << " low " << rope.low_freq_factor << " high " << rope.high_freq_factor << " fast " << rope.beta_fast
      << " slow " << rope.beta_slow << " attention " << static_cast<float>(rope.attention_factor) << " original "
      << rope.original_context << " short";
  for (double factor : rope.short_factors) out << " " << factor;
  out << " long";
  for (double factor : rope.long_factors) out << " " << factor;
  return out.str();
}

// Every number of a spec but the names of its family and class, one group a line.
inline std::string describe(const model::ModelSpec& s) {
  std::ostringstream out;
  out.precision(17);
  out << "vocab " << s.vocab << " hidden " << s.hidden << " heads " << s.heads << "/" << s.kv_heads << " x " << s.head_dim
      << " ffn " << s.ffn << " context " << s.context << "\nnorm " << s.norm_eps << " +" << s.norm_gain_offset << " f32 "
      << s.norm_in_f32 << " post " << s.post_norms << " qk " << s.qk_norm << "\nbias " << s.qkv_bias << s.o_bias << s.mlp_bias
      << " fused " << s.fused_qkv << s.fused_gate_up << " activation " << static_cast<int>(s.activation) << " embed "
      << s.embed_scale << " scale " << s.attention_scale << " caps " << s.attention_softcap << " " << s.final_softcap << " tied "
      << s.tied_head << "\nrope " << describe(s.rope) << "\nlocal " << describe(s.rope_local) << "\nmoe " << s.moe.experts << " "
      << s.moe.per_token << " " << s.moe.ffn << " " << s.moe.normalize_weights << " " << s.moe.block << " " << s.moe.gate << " "
      << s.moe.up << " " << s.moe.down << "\ntokens " << s.bos << " " << s.eos << "\n";
  for (const model::LayerSpec& layer : s.layers)
    out << "layer window " << layer.window << " rope " << layer.rope << " local " << layer.local_rope << "\n";
  return out.str();
}

}  // namespace graft::testing
