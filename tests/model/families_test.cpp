// config.json and GGUF metadata to ModelSpec and back, for every family.
#include <cmath>
#include <fstream>

#include "core/safetensors.h"
#include "model/family.h"
#include "model/tensors.h"
#include "model/weights.h"
#include "tests/model/support.h"
#include "tests/support/catch.h"
#include "tests/support/tensors.h"

namespace graft::model {
namespace {

using namespace graft::testing;

Json config_of(const std::string& name, const char* file = "config.json") { return read_json(golden_model(name) / file); }

ModelSpec spec_of(const Json& config) {
  return family_of_architecture(config["architectures"][0].get<std::string>()).from_hf(config, "config.json");
}

std::string refusal(const Json& config) {
  return message_of([&] { check(spec_of(config), "config.json"); });
}

}  // namespace

TEST_CASE("transformers v4 and v5 configs of one model give one spec", "[families]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    CHECK(describe(spec_of(config_of(name))) == describe(spec_of(config_of(name, "config_v4.json"))));
  }
}

TEST_CASE("a config written from a spec gives the same spec", "[families]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    // GGUF is the only source of written configs, and it cannot say that some layers of Qwen2 have a window.
    if (name == "qwen2") continue;
    const ModelSpec spec = spec_of(config_of(name));
    const Json written = family_named(spec.family).to_hf(spec);
    CHECK(describe(spec_of(written)) == describe(spec));
    CHECK(written["architectures"][0] == spec.architecture);
    CHECK(written["model_type"] == config_of(name)["model_type"]);
    CHECK(written["torch_dtype"] == "bfloat16");
  }
}

TEST_CASE("the spec from GGUF is the spec from Hugging Face", "[families][gguf]") {
  std::size_t twins = 0;
  for (const std::string& name : golden_models()) {
    if (!fs::exists(golden_model(name) / "model.gguf")) continue;
    ++twins;
    INFO(name);
    const auto gguf = open_weights(golden_model(name) / "model.gguf"), hf = open_weights(golden_model(name));
    CHECK(describe(gguf->spec()) == describe(hf->spec()));
    CHECK(gguf->spec().architecture == hf->spec().architecture);
    CHECK(describe(spec_of(gguf->hf_config())) == describe(hf->spec()));
  }
  CHECK(twins >= 12);
}

TEST_CASE("what makes each family itself is read", "[families]") {
  CHECK(spec_of(config_of("llama_rope3")).rope.scaling == RopeScaling::llama3);
  const RopeSpec yarn = spec_of(config_of("llama_yarn")).rope;
  CHECK(yarn.scaling == RopeScaling::yarn);
  CHECK(yarn.attention_factor == Approx(0.1 * std::log(4.0) + 1));
  CHECK(spec_of(config_of("llama_linear")).mlp_bias);
  CHECK(spec_of(config_of("smollm2")).tied_head);
  const ModelSpec smollm3 = spec_of(config_of("smollm3"));
  CHECK((smollm3.layers[2].rope && !smollm3.layers[3].rope));
  CHECK(spec_of(config_of("mistral")).layers[1].window == 5);
  const ModelSpec qwen2 = spec_of(config_of("qwen2"));
  CHECK((qwen2.qkv_bias && !qwen2.o_bias && qwen2.layers[0].window == 0 && qwen2.layers[1].window == 5));
  CHECK((spec_of(config_of("qwen3")).qk_norm && spec_of(config_of("qwen3")).head_dim == 16));
  const ModelSpec gemma2 = spec_of(config_of("gemma2"));
  CHECK((gemma2.attention_softcap == 4 && gemma2.final_softcap == 6 && gemma2.post_norms && gemma2.norm_gain_offset == 1));
  CHECK(gemma2.attention_scale == Approx(1 / std::sqrt(20.0)));
  CHECK(gemma2.embed_scale == Approx(std::sqrt(32.0)));
  const ModelSpec gemma3 = spec_of(config_of("gemma3"));
  CHECK((gemma3.layers[4].local_rope && gemma3.layers[4].window == 5 && !gemma3.layers[5].local_rope));
  CHECK((gemma3.rope.theta == 1e6 && gemma3.rope.factor == 8 && gemma3.rope_local.theta == 100));
  CHECK(spec_of(config_of("phi3")).rope.dims == 4);
  const RopeSpec longrope = spec_of(config_of("phi3_longrope")).rope;
  CHECK(longrope.attention_factor == Approx(std::sqrt(1 + std::log(4.0) / std::log(16.0))));
  CHECK(spec_of(config_of("mixtral")).moe.experts == 4);
}

TEST_CASE("Google's Gemma 3 files leave out what equals the defaults", "[families]") {
  const ModelSpec spec = spec_of({{"architectures", {"Gemma3ForCausalLM"}},
                                  {"model_type", "gemma3_text"},
                                  {"hidden_size", 2560},
                                  {"intermediate_size", 10240},
                                  {"num_hidden_layers", 34},
                                  {"sliding_window", 1024},
                                  {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}}});
  CHECK((spec.vocab == 262208 && spec.heads == 8 && spec.kv_heads == 4 && spec.head_dim == 256 && spec.tied_head));
  CHECK((spec.rope.theta == 1e6 && spec.rope_local.theta == 1e4 && spec.layers[5].window == 0 && spec.layers[6].window == 1024));
}

TEST_CASE("what a config leaves out is what transformers assumes, and null is not", "[families]") {
  Json mistral = config_of("mistral", "config_v4.json");
  mistral["sliding_window"] = nullptr;
  CHECK(spec_of(mistral).layers[0].window == 0);
  mistral.erase("sliding_window");
  CHECK(spec_of(mistral).layers[0].window == 4096);
  for (const char* name : {"mistral", "mixtral"}) {
    Json config = config_of(name);
    config["num_key_value_heads"] = nullptr;
    CHECK(spec_of(config).kv_heads == 4);  // as many as heads
    config.erase("num_key_value_heads");
    CHECK(spec_of(config).kv_heads == 8);
  }
  for (const char* name : {"qwen2", "qwen3", "qwen3_moe"}) {
    INFO(name);
    Json config = config_of(name);
    config.erase("layer_types");
    config["use_sliding_window"] = true, config["max_window_layers"] = 0, config["sliding_window"] = nullptr;
    CHECK(spec_of(config).layers[1].window == 0);
    config.erase("sliding_window");
    CHECK(spec_of(config).layers[1].window == 4096);
  }
}

TEST_CASE("longrope of Phi-3 is written as transformers 4 demands it", "[families]") {
  ModelSpec spec = spec_of(config_of("phi3_longrope"));
  const Json written = family_named("phi3").to_hf(spec);
  const Json& scaling = written["rope_scaling"];  // Phi3Config._rope_scaling_validation: these three keys and no other
  CHECK(scaling.size() == 3);
  CHECK(scaling["type"] == "longrope");
  CHECK(scaling["short_factor"].size() == 4);
  CHECK(scaling["long_factor"].size() == 4);
  CHECK(written["original_max_position_embeddings"] == 16);
  spec.rope.attention_factor = 1.5;  // not what these keys say
  CHECK(spec_of(family_named("phi3").to_hf(spec)).rope.attention_factor == 1.5);
}

TEST_CASE("the number of parameters is that of the file", "[families]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    const SafetensorsFile file(golden_model(name) / "model.safetensors");
    std::int64_t count = 0;
    for (const auto& [tensor, info] : file.tensors()) {
      std::int64_t size = 1;
      for (std::int64_t dimension : info.shape) size *= dimension;
      count += size;
    }
    CHECK(spec_of(config_of(name)).parameters() == count);
  }
}

TEST_CASE("names of GGUF and Hugging Face translate both ways", "[families][gguf]") {
  const ModelSpec llama = spec_of(config_of("llama"));
  CHECK(gguf_name(llama, "model.layers.1.self_attn.q_proj.weight") == "blk.1.attn_q.weight");
  CHECK(hf_name(llama, "blk.1.ffn_norm.weight") == "model.layers.1.post_attention_layernorm.weight");
  CHECK(hf_name(llama, "output.weight") == "lm_head.weight");
  CHECK(hf_name(spec_of(config_of("gemma2")), "blk.0.ffn_norm.weight") == "model.layers.0.pre_feedforward_layernorm.weight");
  CHECK(gguf_name(llama, "model.layers.2.self_attn.q_proj.weight").empty());  // there are two layers
  CHECK(gguf_name(llama, "model.layers.1x.self_attn.q_proj.weight").empty());
  CHECK(gguf_name(llama, "model.layers.1.self_attn.q_proj.bias").empty());
  CHECK(hf_name(spec_of(config_of("smollm2")), "output.weight").empty());  // tied
  const ModelSpec mixtral = spec_of(config_of("mixtral"));
  CHECK(gguf_name(mixtral, "model.layers.1.block_sparse_moe.experts.3.w2.weight") == "blk.1.ffn_down_exps.weight");
  for (const std::string& name : golden_models()) {
    const ModelSpec spec = spec_of(config_of(name));
    for (const TensorSpec& tensor : tensors_of(spec)) {
      INFO(name << " " << tensor.name);
      CHECK(gguf_name(spec, tensor.name) == tensor.gguf);
      if (tensor.expert <= 0) CHECK(hf_name(spec, tensor.gguf) == tensor.name);
    }
  }
}

TEST_CASE("a linear is a matrix of a layer that is no router", "[families]") {
  for (const std::string& name : golden_models()) {
    for (const TensorSpec& tensor : tensors_of(spec_of(config_of(name)))) {
      INFO(name << " " << tensor.name);
      const bool router = tensor.name.ends_with(".block_sparse_moe.gate.weight") || tensor.name.ends_with(".mlp.gate.weight");
      const bool matrix = tensor.shape.size() == 2 && tensor.name.starts_with("model.layers.");
      CHECK((tensor.role == TensorRole::router) == router);
      CHECK((tensor.role == TensorRole::linear) == (matrix && !router));
      CHECK((tensor.role == TensorRole::bias) == tensor.name.ends_with(".bias"));
      CHECK((tensor.role == TensorRole::norm) == tensor.name.ends_with("norm.weight"));
    }
  }
  CHECK(module_of("model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj");
  CHECK(module_of("model.layers.0.self_attn.q_proj.bias").empty());
}

TEST_CASE("a config that asks for other mathematics is refused by name", "[families][hostile]") {
  auto with = [](const char* model, const char* key, const Json& value) {
    Json config = config_of(model);
    config[key] = value;
    return refusal(config);
  };
  using Catch::Matchers::Contains;
  CHECK_THAT(with("llama", "quantization_config", {{"quant_method", "fp8"}}),
             Contains("config.json: quantization_config is set; models that need it are not supported"));
  CHECK_THAT(with("llama", "hidden_act", "relu"), Contains("hidden_act is 'relu'; known: silu, gelu_pytorch_tanh"));
  CHECK_THAT(with("llama", "rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2.0}}),
             Contains("rope_parameters: rope_type is 'dynamic'; known: default, linear, llama3, yarn, longrope"));
  CHECK_THAT(with("llama", "rope_interleaved", true), Contains("rope_interleaved is set"));
  CHECK(with("llama", "rope_interleaved", false).empty());
  for (const char* key : {"use_mrope", "lm_head_bias"}) {
    CHECK_THAT(with("llama", key, true), Contains(cat(key, " is set")));
    CHECK(with("llama", key, false).empty());
  }
  CHECK_THAT(with("mistral", "attention_bias", true), Contains("attention_bias is set"));
  CHECK_THAT(with("gemma", "use_bidirectional_attention", true), Contains("use_bidirectional_attention is set"));
  CHECK_THAT(with("qwen3_moe", "mlp_only_layers", {0}), Contains("mlp_only_layers is set"));
  CHECK_THAT(with("qwen3_moe", "decoder_sparse_step", 2), Contains("decoder_sparse_step is not 1"));
  CHECK_THAT(with("qwen2", "layer_types", {"full_attention", "linear_attention"}),
             Contains("layer_types has 'linear_attention'; known: full_attention, sliding_attention"));
  CHECK_THAT(with("gemma2", "hidden_activation", "silu"), Contains("hidden_activation is not gelu_pytorch_tanh"));
  Json yarn = config_of("llama_yarn");
  yarn["rope_parameters"]["truncate"] = false;
  CHECK_THAT(refusal(yarn), Contains("truncate is false"));
  yarn["rope_parameters"].erase("truncate");
  yarn["rope_parameters"]["mscale"] = 0.7;
  CHECK_THAT(refusal(yarn), Contains("rope_parameters: mscale is set"));
  CHECK_THAT(with("llama", "architectures", {"GPT2LMHeadModel"}),
             Contains("architecture 'GPT2LMHeadModel' is not supported; known: ") && Contains("Qwen3ForCausalLM"));
  CHECK_THAT(
      with("gemma3", "architectures", {"Gemma3ForConditionalGeneration"}),
      Contains("it takes images or sound too, and graft reads models of text; a GGUF file of it holds the text part alone"));
}

TEST_CASE("numbers that cannot be are refused with their name", "[families][hostile]") {
  struct Case {
    const char* model;
    const char* key;
    Json value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"llama", "hidden_size", nullptr, "hidden_size is missing"},
      {"llama", "hidden_size", "32", "hidden_size is string, an integer was expected"},
      {"llama", "hidden_size", 32.5, "hidden_size is number, an integer was expected"},
      {"llama", "hidden_size", 18446744073709551615ull, "hidden_size is number, an integer was expected"},
      {"llama", "hidden_size", -1, "hidden_size is -1, must be between 1 and 262144"},
      {"llama", "num_hidden_layers", 1000000000000, "num_hidden_layers is 1000000000000, must be between 1 and 1024"},
      {"llama", "num_attention_heads", 0, "num_attention_heads is 0, must be between 1 and 4096"},
      {"llama", "num_key_value_heads", 3, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
      {"llama", "num_key_value_heads", 8, "num_key_value_heads is 8, must be between 1 and 4"},
      {"llama", "vocab_size", 0, "vocab_size is 0, must be between 2 and 16777216"},
      {"llama", "intermediate_size", 0, "intermediate_size is 0, must be between 1 and 1048576"},
      {"llama", "max_position_embeddings", 0, "max_position_embeddings is 0"},
      {"llama", "rms_norm_eps", 0, "rms_norm_eps is 0, must be a positive number"},
      {"llama", "tie_word_embeddings", 1, "tie_word_embeddings is number, true or false was expected"},
      {"llama", "eos_token_id", 96, "eos_token_id is 96, must be between -1 and 95"},
      {"llama", "head_dim", 7, "rotated dimensions of a head are 7, must be even"},
      {"llama", "head_dim", 1, "head_dim is 1, must be between 2 and 4096"},
      {"llama", "rope_parameters", 5, "rope_parameters: is number, an object was expected"},
      {"llama", "rope_parameters", {{"rope_theta", -1.0}}, "rope_theta is -1, must be a positive number"},
      {"llama", "rope_parameters", {{"rope_type", "linear"}}, "rope_parameters: factor is missing"},
      {"llama", "rope_parameters", {{"rope_type", "linear"}, {"factor", 0}}, "rope factor is 0, must be a positive number"},
      {"llama", "partial_rotary_factor", 1.5, "partial_rotary_factor is 1.5, must be above 0 and at most 1"},
      {"mistral", "sliding_window", -4, "sliding_window is -4, must be between 0"},
      {"mixtral", "num_experts_per_tok", 5, "num_experts_per_tok is 5, must be between 1 and 4"},
      {"qwen2", "layer_types", {"full_attention"}, "layer_types has 1 entries, num_hidden_layers is 2"},
      {"smollm3", "no_rope_layers", {1, 1}, "no_rope_layers has 2 entries, num_hidden_layers is 4"},
      {"gemma2", "query_pre_attn_scalar", 0, "attention scale is inf, must be a positive number"},
  };
  for (const Case& test : cases) {
    Json config = config_of(test.model);
    if (std::string(test.key) == "partial_rotary_factor") config.erase("rope_parameters");
    config[test.key] = test.value;
    INFO(test.model << " " << test.key << " = " << test.value.dump());
    CHECK_THAT(refusal(config), Catch::Matchers::Contains(test.message) && Catch::Matchers::StartsWith("config.json: "));
  }
  Json longrope = config_of("phi3_longrope");
  longrope["rope_parameters"]["short_factor"] = {1.0, 1.0};
  CHECK_THAT(refusal(longrope),
             Catch::Matchers::Contains("rope short_factor has 2 numbers, half of the rotated dimensions are 4"));
  CHECK(message_of([] { spec_of(Json{{"architectures", {"LlamaForCausalLM"}}}); }) == "config.json: vocab_size is missing");
}

}  // namespace graft::model
