// A Hugging Face directory of a random Llama of two layers (or more), hidden 32, with a real byte-level BPE tokenizer of 1,700
// ids (tests/golden/tokenizers/smollm): a training step takes milliseconds. Written without LibTorch.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"
#include "core/rng.h"
#include "core/safetensors.h"

namespace graft::testing {

struct TinyBase {
  std::uint64_t seed = 1;
  std::int64_t vocab = 1700, context = 256, ffn = 64;
  std::string poisoned = {};  // a tensor whose first value is NaN
  bool tokenizer = true;
  std::int64_t head_dim = 8;
  bool bf16_values = false;  // no value changes when it is rounded to bf16
  std::int64_t hidden = 32;
  std::int64_t layers = 2;
  std::int64_t experts = 0;  // a Mixtral of so many, two to a token
};

inline void write_tiny_base(const fs::path& directory, const TinyBase& base = {}) {
  constexpr std::int64_t heads = 4, kv_heads = 2;
  const std::int64_t hidden = base.hidden, head_dim = base.head_dim, layers = base.layers;
  fs::create_directories(directory);
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_size", hidden},
                 {"intermediate_size", base.ffn},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", kv_heads},
                 {"head_dim", head_dim},
                 {"num_hidden_layers", layers},
                 {"vocab_size", base.vocab},
                 {"max_position_embeddings", base.context},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 10000.0},
                 {"hidden_act", "silu"},
                 {"tie_word_embeddings", true},
                 {"bos_token_id", 1},
                 {"eos_token_id", 2}};
  if (base.experts > 0)
    config.update(Json{{"architectures", {"MixtralForCausalLM"}},
                       {"model_type", "mixtral"},
                       {"num_local_experts", base.experts},
                       {"num_experts_per_tok", 2}});
  write_file(directory / "config.json", config.dump(1));
  if (base.tokenizer)
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      fs::copy_file(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/tokenizers/smollm" / name, directory / name,
                    fs::copy_options::overwrite_existing);

  struct Shape {
    std::string name;
    std::vector<std::int64_t> sizes;
  };
  std::vector<Shape> shapes = {{"model.embed_tokens.weight", {base.vocab, hidden}}, {"model.norm.weight", {hidden}}};
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const Shape& shape : {Shape{"input_layernorm", {hidden}},
                               {"post_attention_layernorm", {hidden}},
                               {"self_attn.q_proj", {heads * head_dim, hidden}},
                               {"self_attn.k_proj", {kv_heads * head_dim, hidden}},
                               {"self_attn.v_proj", {kv_heads * head_dim, hidden}},
                               {"self_attn.o_proj", {hidden, heads * head_dim}}})
      shapes.push_back({prefix + shape.name + ".weight", shape.sizes});
    const auto add_mlp = [&](const std::string& block, const char* gate, const char* up, const char* down) {
      for (const char* name : {gate, up}) shapes.push_back({prefix + block + name + ".weight", {base.ffn, hidden}});
      shapes.push_back({prefix + block + down + ".weight", {hidden, base.ffn}});
    };
    if (base.experts == 0) {
      add_mlp("mlp.", "gate_proj", "up_proj", "down_proj");
      continue;
    }
    shapes.push_back({prefix + "block_sparse_moe.gate.weight", {base.experts, hidden}});
    for (std::int64_t expert = 0; expert < base.experts; ++expert)
      add_mlp("block_sparse_moe.experts." + std::to_string(expert) + ".", "w1", "w3", "w2");
  }
  SafetensorsWriter writer(directory / "model.safetensors");
  for (const Shape& shape : shapes) writer.tensor(shape.name, DType::f32, shape.sizes);
  std::uint64_t stream = 0;
  for (const Shape& shape : shapes) {
    const Random random(base.seed, Stream::init, ++stream);
    const bool norm = shape.sizes.size() == 1;
    std::vector<float> values(static_cast<std::size_t>(norm ? shape.sizes[0] : shape.sizes[0] * shape.sizes[1]));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(norm ? 1 : random.normal(i) / std::sqrt(static_cast<double>(hidden)));
    if (base.bf16_values)
      for (float& value : values) value = f32_from_bf16(bf16_from_f32(value));
    if (shape.name == base.poisoned) values[0] = std::numeric_limits<float>::quiet_NaN();
    writer.data(shape.name, values.data(), values.size() * sizeof(float));
  }
  writer.commit();
}

}  // namespace graft::testing
