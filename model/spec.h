// Every number and choice that defines a decoder-only transformer. The decoder is driven by it; there are no branches by family.
// A family file (model/families/) turns a config.json or GGUF metadata into a ModelSpec.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace graft::model {

enum class Activation { silu, gelu_tanh };
enum class RopeScaling { none, linear, llama3, yarn, longrope };

struct RopeSpec {
  double theta = 10000;
  std::int64_t dims = 0;  // rotated dimensions of each head (even); head_dim unless partial
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;                                 // linear, llama3, yarn (longrope: only for the record)
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  double attention_factor = 1;                       // multiplies cos and sin (yarn, longrope)
  std::int64_t original_context = 0;                 // llama3, yarn; longrope: documents longer than this use long_factors
  std::vector<double> short_factors, long_factors;   // longrope: divisor of each frequency, dims / 2 of them
};

struct LayerSpec {
  std::int64_t window = 0;  // sliding window: a token sees itself and the window - 1 before it; 0 = all of the document so far
  bool rope = true;         // false: NoPE layer
  bool local_rope = false;  // uses ModelSpec::rope_local
};

// Router: softmax over all experts, the per_token largest kept (and divided by their sum when normalize_weights).
// Tensors of layer N: "model.layers.N.<block>.gate.weight" (experts, hidden) and
// "model.layers.N.<block>.experts.E.<gate|up|down>.weight".
struct MoeSpec {
  std::int64_t experts = 0, per_token = 0, ffn = 0;  // experts = 0: dense
  bool normalize_weights = true;
  std::string block = "mlp", gate = "gate_proj", up = "up_proj", down = "down_proj";  // module names
};

struct ModelSpec {
  std::string family;        // file name in model/families, e.g. "llama"
  std::string architecture;  // Hugging Face class name, e.g. "LlamaForCausalLM"
  std::int64_t vocab = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, context = 0;
  double norm_eps = 1e-5;
  double norm_gain_offset = 0;  // Gemma: 1 (gain is 1 + w)
  bool norm_in_f32 = false;     // Gemma: the product with the gain is done in f32 before rounding
  bool post_norms = false;      // Gemma 2/3: norms after attention and after the MLP too
  bool qk_norm = false;         // Qwen3, Gemma 3: RMSNorm over each head of q and k
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool fused_qkv = false, fused_gate_up = false;  // Phi-3: names and layout in files
  Activation activation = Activation::silu;
  double embed_scale = 1;      // Gemma: sqrt(hidden), rounded to the compute dtype
  double attention_scale = 0;  // 1/sqrt(head_dim) unless the config says otherwise
  double attention_softcap = 0, final_softcap = 0;
  bool tied_head = false;
  RopeSpec rope, rope_local;
  MoeSpec moe;
  std::vector<LayerSpec> layers;
  std::int64_t bos = -1, eos = -1;

  std::int64_t parameters() const;  // count of the frozen base
};

// Throws FormatError naming the field when numbers are impossible (zero, negative, beyond bounds, heads not divisible).
void check(const ModelSpec& spec, const std::string& origin);

}  // namespace graft::model
