// What servers make of the formats, said before training, and the files that are written for them.
#include "core/file.h"
#include "core/json.h"
#include "export/serving.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;
using exports::Finding;

namespace {

model::ModelSpec llama() {
  model::ModelSpec spec = model::open_weights(golden("llama") / "base")->spec();
  spec.hidden = 512, spec.ffn = 1536, spec.heads = 8, spec.kv_heads = 4, spec.head_dim = 64;
  return spec;
}

struct Plan {
  model::ModelSpec spec = llama();
  lora::LoraConfig lora = {};
  std::vector<std::string> modules = {"model.layers.0.self_attn.q_proj"}, formats = {};
  bool base_is_gguf = false;
  std::int64_t tensor_parallel = 1;

  exports::ServingPlan serving() const { return {spec, lora, modules, formats, base_is_gguf, tensor_parallel}; }
  exports::Served served() const { return {.plan = serving(), .name = "x", .adapter = "a", .base = "base"}; }
  // "format: state: detail" of a server's findings, one line each.
  std::string lines(const std::string& server) const {
    std::string text;
    for (const Finding& finding : exports::findings_of(exports::find_server(server), serving()))
      text += cat(finding.topic, ": ", name_of(finding.state), ": ", finding.detail, "\n");
    return text;
  }
};

exports::ServingPlan plan_of(const GoldenCase& c) {
  exports::ServingPlan plan = {.spec = c.base->spec(), .lora = c.adapter->config, .modules = {}, .formats = {}};
  for (const auto& part : c.adapter->adapters) plan.modules.push_back(part->module);
  return plan;
}

// What Go makes of the templates that Modelfiles have, as Ollama fills them in: {{ .Name }}, {{ if .Name }}, {{ if ne .Name
// "value" }} and eq, {{ range .Messages }}, {{ range $i, $_ := .Messages }} and, in that, what is left of the messages and
// $.Name; the {{ end }} of each.
class Go {
 public:
  Go(std::string text, const Json& messages) : text_(std::move(text)), messages_(messages) {}
  std::string run(const Json& values) {
    at_ = 0, root_ = values;
    return block(values, true);
  }

 private:
  std::string block(const Json& values, bool shown) {
    std::string out;
    while (at_ < text_.size()) {
      const std::size_t open = std::min(text_.find("{{ ", at_), text_.size());
      if (shown) out += text_.substr(at_, open - at_);
      if (open == text_.size()) return out;
      const std::size_t close = text_.find(" }}", open);
      const std::string action = text_.substr(open + 3, close - open - 3);
      at_ = close + 3;
      if (action == "end") return out;
      if (action == "range .Messages" || action == "range $i, $_ := .Messages") {
        const std::size_t body = at_;
        for (index_ = 0; index_ < messages_.size(); ++index_) {
          at_ = body;
          out += block({{"Role", messages_[index_]["role"]}, {"Content", messages_[index_]["content"]}}, shown);
        }
      } else if (action.starts_with("if ne .") || action.starts_with("if eq .")) {
        const std::string name = action.substr(7, action.find(' ', 7) - 7);
        const bool equal = cat('"', values[name].get<std::string>(), '"') == action.substr(8 + name.size());
        out += block(values, shown && equal == action.starts_with("if eq"));
      } else if (action == "if le (len (slice $.Messages $i)) 2") {
        out += block(values, shown && messages_.size() - index_ <= 2);
      } else if (action.starts_with("if ")) {
        out += block(values, shown && !value(action.substr(3), values).empty());
      } else if (shown) {
        out += value(action, values);
      }
    }
    return out;
  }

  std::string value(const std::string& field, const Json& values) const {
    return field.starts_with("$.") ? root_[field.substr(2)].get<std::string>() : values[field.substr(1)].get<std::string>();
  }

  const std::string text_;
  const Json& messages_;
  Json root_;
  std::size_t at_ = 0, index_ = 0;
};

// What stands in """ behind a key of a Modelfile; empty when it does not have it.
std::string of_modelfile(const std::string& text, const std::string& key) {
  const std::string begins = key + " \"\"\"";
  const auto at = text.find(begins);
  return at == std::string::npos ? "" : text.substr(at + begins.size(), text.find("\"\"\"\n", at) - at - begins.size());
}

void says(const std::string& text, const std::string& line) {
  INFO(text);
  CHECK(("\n" + text).find("\n" + line) != std::string::npos);
}

}  // namespace

TEST_CASE("vLLM: ranks, heads, GGUF bases and shards", "[export][servers]") {
  Plan plan;
  plan.formats = {"peft"};
  plan.lora.rank = 16;
  says(plan.lines("vllm"), "peft: ok: served with --max-lora-rank 16; vLLM's own default is 16\n");
  plan.lora.rank = 65;
  says(plan.lines("vllm"), "peft: ok: served with --max-lora-rank 128");
  plan.lora.rank = 512;
  says(plan.lines("vllm"), "peft: ok: served with --max-lora-rank 512");
  plan.lora.rank = 513;
  says(plan.lines("vllm"), "peft: fault: lora.rank is 513, vLLM takes at most 512\n");
  says(plan.lines("vllm"), "formats: fault: vLLM reads none of export.formats\n");
  plan.lora.rank = 16;
  plan.modules.push_back("lm_head");
  plan.spec.tied_head = true;
  says(plan.lines("vllm"), "peft: fault: the head is tied to the embedding, vLLM loads no adapter of it");
  plan.spec.tied_head = false;
  says(plan.lines("vllm"), "peft: ok");
  plan.spec.family = "qwen2", plan.spec.architecture = "Qwen2ForCausalLM";
  says(plan.lines("vllm"),
       "peft: fault: vLLM loads no adapter of lm_head for Qwen2ForCausalLM; take it out of lora.target_modules");
  plan.modules.pop_back();
  plan.base_is_gguf = true;
  says(plan.lines("vllm"),
       "peft: fault: the base is a GGUF file, vLLM needs a directory to serve adapters on; export hf-base too\n");
  plan.formats = {"peft", "hf-base"};
  says(plan.lines("vllm"), "peft: ok");
  plan.base_is_gguf = false;
  plan.modules = {"model.layers.0.mlp.experts.3.up_proj"};
  says(plan.lines("vllm"), "peft: note: adapters on experts");

  plan.formats = {"hf", "ct-w4a16-g64", "ct-w4w8a16-asym-g32-awq-gptq", "fp8-block", "gguf-q8_0", "bnb-nf4"};
  says(plan.lines("vllm"), "hf: ok: serve the directory\n");
  says(plan.lines("vllm"),
       "ct-w4a16-g64: ok: needs a GPU of compute capability 7.5, or the CPU (one with AMX rounds inputs to int8 "
       "unless VLLM_CPU_INT4_W4A8=0 is set)\n");
  says(plan.lines("vllm"), "ct-w4w8a16-asym-g32-awq-gptq: ok: needs a GPU of compute capability 7.5\n");
  says(
      plan.lines("vllm"),
      "fp8-block: ok: needs a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone, or a CPU with AMX\n");
  says(plan.lines("vllm"), "gguf-q8_0: note: not for this server\n");
  says(plan.lines("vllm"), "bnb-nf4: note: not for this server\n");
  plan.tensor_parallel = 4;
  plan.formats = {"hf", "gptq-g128", "fp8-block", "ct-w8a8"};
  says(plan.lines("vllm"), "gptq-g128: ok");
  plan.tensor_parallel = 8;  // ffn 1536 / 8 = 192; heads 512 / 8 = 64
  says(plan.lines("vllm"), "hf: ok");
  says(plan.lines("vllm"), "ct-w8a8: ok");
  says(plan.lines("vllm"), "gptq-g128: fault: a device's share of o_proj has 64 columns, which groups of 128 do not divide\n");
  says(plan.lines("vllm"), "fp8-block: fault: a device's share of o_proj has 64 columns");
  CHECK(exports::group_of("ct-w4a16-g64-gptq") == 64);
  CHECK(exports::group_of("ct-w4a16-asym-g128-awq") == 128);
  CHECK(exports::group_of("ct-w8a8-smooth") == 0);
  plan.spec.ffn = 2048;  // what o_proj and down_proj share is a multiple of 128; of k and v, 4 heads of 64, it is not
  plan.tensor_parallel = 4;
  says(plan.lines("vllm"), "fp8-block: fault: a device's share of k and v has 64 rows, which blocks of 128 do not divide\n");
  plan.tensor_parallel = 2;
  says(plan.lines("vllm"), "fp8-block: ok");
  plan.tensor_parallel = 3;
  says(plan.lines("vllm"), "hf: fault: 3 devices do not divide 8 heads\n");
  plan.formats = {"peft"};  // the base that adapters are served on is cut as well
  plan.modules = {"model.layers.0.self_attn.q_proj"};
  for (const char* server : {"vllm", "tensorrt-llm", "triton"})
    says(plan.lines(server), "peft: fault: 3 devices do not divide 8 heads\n");
  plan.formats = {"hf"};
  plan.spec.heads = 9, plan.spec.kv_heads = 2;
  says(plan.lines("vllm"), "hf: fault: 3 devices do not divide 2 key and value heads, nor they the devices\n");
}

TEST_CASE("llama.cpp and Ollama: GGUF, rsLoRA, tied heads, windows", "[export][servers]") {
  Plan plan;
  plan.formats = {"gguf-q4_k_m", "gguf-lora", "peft"};
  says(plan.lines("llama.cpp"), "gguf-q4_k_m: ok: serve the file\n");
  says(plan.lines("llama.cpp"),
       "gguf-lora: fault: the base is a directory, llama.cpp needs it as a GGUF file; export gguf-base-bf16 too\n");
  plan.formats.push_back("gguf-base-bf16");
  says(plan.lines("llama.cpp"), "gguf-lora: ok: scaled by alpha / rank as in training\n");
  says(plan.lines("llama.cpp"), "peft: note: not for this server\n");
  says(plan.lines("ollama"), "peft: note: not for this server: its own converter orders q and k differently; gguf-lora is\n");
  says(plan.lines("ollama"), "gguf-lora: ok: scaled by alpha / rank as in training\n");
  plan.spec.family = "qwen3";
  says(plan.lines("ollama"),
       "gguf-lora: ok: scaled by alpha / rank as in training; "
       "needs Ollama 0.30, the engine that ran this family before takes no adapter and says so at the first request\n");
  const auto modelfile = [&] { return exports::find_server("ollama").files(plan.served())[1].text; };
  says(modelfile(), "# Needs Ollama 0.30");
  plan.spec.family = "llama";
  CHECK(modelfile().find("0.30") == std::string::npos);
  plan.lora.rslora = true;
  plan.base_is_gguf = true;
  says(plan.lines("llama.cpp"), "gguf-lora: ok: rsLoRA is unknown to it: its scale is written into alpha\n");
  plan.lora.target_modules = {"lm_head"};
  plan.spec.tied_head = true;
  says(plan.lines("ollama"), "gguf-lora: fault: ");
  plan.spec.family = "mistral";
  plan.spec.layers[0].window = 4096;
  says(plan.lines("llama.cpp"), "window: note: GGUF has no sliding window for this family");
  plan.formats = {"hf"};
  says(plan.lines("ollama"), "formats: fault: Ollama reads none of export.formats\n");
}

TEST_CASE("servers that would take longrope's long factors for every request get the context of the short ones",
          "[export][servers]") {
  Plan plan;
  plan.formats = {"hf", "gguf-q8_0"};
  const auto command = [&](const char* server, const char* format) {
    return exports::find_server(server).command(plan.served(), format);
  };
  CHECK(command("vllm", "hf") == "vllm serve hf --served-model-name x");
  plan.spec.rope.scaling = model::RopeScaling::longrope;
  plan.spec.rope.original_context = 4096;
  CHECK(command("vllm", "hf") == "vllm serve hf --served-model-name x --max-model-len 4096");
  CHECK(command("llama.cpp", "gguf-q8_0") == "llama-server -m gguf-q8_0.gguf --alias x -c 4096");
  CHECK(command("tensorrt-llm", "hf") == "trtllm-serve hf --max_seq_len 4096");
  for (const exports::ServingFile& file : exports::find_server("triton").files(plan.served())) {
    if (file.name.ends_with("model.json")) CHECK(parse_json(file.text, file.name)["max_model_len"] == 4096);
    if (file.name.ends_with(".yaml")) CHECK(file.text.find("\nmax_seq_len: 4096\n") != std::string::npos);
  }
  CHECK(exports::find_server("ollama").files(plan.served())[0].text.find("PARAMETER num_ctx 4096\n") != std::string::npos);
  for (const char* server : {"vllm", "llama.cpp", "triton", "ollama", "tensorrt-llm"})
    says(
        plan.lines(server),
        "longrope: note: beyond 4096 tokens of context every request would be read with the long factors; commands stay there\n");
}

TEST_CASE("llama.cpp says that it has betas of its own for YaRN", "[export][servers]") {
  Plan plan;
  plan.formats = {"gguf-q8_0"};
  plan.spec.rope.scaling = model::RopeScaling::yarn;
  CHECK(plan.lines("llama.cpp").find("yarn") == std::string::npos);
  plan.spec.rope.beta_fast = 4;
  says(plan.lines("llama.cpp"), "yarn: note: scaled with beta_fast 32 and beta_slow 1, whatever the file says\n");
}

TEST_CASE("TensorRT-LLM and Triton: what they read and what they would get wrong", "[export][servers]") {
  Plan plan;
  plan.formats = {"hf", "hf-f16", "ct-w8a8", "ct-w4a16-g64", "ct-fp8", "ct-fp8-gptq", "modelopt-fp8", "peft", "gptq-g64"};
  says(plan.lines("tensorrt-llm"), "hf: ok");
  says(plan.lines("tensorrt-llm"), "hf-f16: ok");
  says(plan.lines("tensorrt-llm"), "ct-w8a8: note: not for this server: it takes 8 bits by row for fp8, whatever their type\n");
  says(plan.lines("tensorrt-llm"), "ct-w4a16-g64: note: not for this server: it reads compressed-tensors in fp8 only");
  for (const char* format : {"ct-fp8", "ct-fp8-gptq"})
    says(plan.lines("tensorrt-llm"),
         cat(format, ": ok: needs a GPU of compute capability 8.9, and TensorRT-LLM with #15415 of June 2026, before which"));
  says(plan.lines("tensorrt-llm"), "modelopt-fp8: ok: needs a GPU of compute capability 8.9; not run here\n");
  plan.spec.moe.experts = 8;
  for (const char* format : {"ct-fp8", "ct-fp8-gptq"})
    says(plan.lines("tensorrt-llm"), cat(format, ": fault: TensorRT-LLM has no experts in fp8 by row; fp8-block has them"));
  plan.spec.moe.experts = 0;
  says(plan.lines("tensorrt-llm"), "peft: ok");
  says(plan.lines("tensorrt-llm"), "gptq-g64: note: not for this server\n");
  says(plan.lines("triton"), "gptq-g64: ok: vLLM backend: needs");
  plan.formats = {"ct-fp8-static", "ct-fp8-block"};
  says(plan.lines("tensorrt-llm"), "ct-fp8-static: note: not for this server: it scales the activations");
  says(plan.lines("tensorrt-llm"), "ct-fp8-block: ok");
  const exports::Served served = plan.served();
  CHECK(exports::find_server("tensorrt-llm").command(served, "ct-fp8-static").empty());
  CHECK(exports::find_server("tensorrt-llm").command(served, "ct-fp8-block") == "trtllm-serve ct-fp8-block");
  for (const exports::ServingFile& file : exports::find_server("triton").files(served))
    CHECK(file.name != "triton-tensorrt-llm/ct-fp8-static.yaml");
  plan.formats = {"peft"};
  plan.modules = {"model.layers.0.block_sparse_moe.experts.3.w1"};
  says(plan.lines("tensorrt-llm"), "peft: note: adapters on experts: TensorRT-LLM has had them since #14801");
  plan.modules = {"model.layers.0.mlp.experts.3.gate_proj"}, plan.spec.family = "qwen3_moe";
  says(plan.lines("tensorrt-llm"), "peft: fault: TensorRT-LLM takes adapters on the experts of Qwen3 for those of a dense MLP");
  plan.modules = {"model.layers.0.self_attn.qkv_proj"}, plan.spec.family = "phi3";  // as in its own test_llm_pytorch.py
  says(plan.lines("tensorrt-llm"), "peft: ok");
  plan.modules = {"lm_head"};
  says(plan.lines("tensorrt-llm"), "peft: fault: TensorRT-LLM takes no adapter of lm_head");
  plan.formats = {"hf", "peft", "gguf-q8_0"};
  for (const char* architecture : {"GemmaForCausalLM", "Gemma2ForCausalLM", "SmolLM3ForCausalLM"}) {
    plan.spec.architecture = architecture;
    for (const char* format : {"hf", "peft"})
      says(plan.lines("tensorrt-llm"), cat(format, ": fault: TensorRT-LLM has no ", architecture, " in its PyTorch backend\n"));
    says(plan.lines("tensorrt-llm"), "gguf-q8_0: note: not for this server\n");
    says(plan.lines("triton"), "hf: ok: vLLM backend: serve the directory\n");
  }
  plan.formats = {"gguf-q8_0"};
  says(plan.lines("triton"), "formats: fault: Triton reads none of export.formats\n");
  CHECK(message_of<ConfigError>([] { exports::find_server("vlm"); }) ==
        "server 'vlm' is not known; did you mean 'vllm'? There are llama.cpp, ollama, tensorrt-llm, triton, vllm");
}

TEST_CASE("the files for servers name what lies in the export directory", "[export][servers]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  exports::export_all({"peft", "hf", "ct-w8a8", "gguf-q8_0", "gguf-lora"}, golden_case.request(), scratch.path());
  exports::Served served = {.plan = plan_of(golden_case),
                            .name = exports::served_name("My Run!"),
                            .adapter = exports::adapter_hash(*golden_case.adapter),
                            .base = "../my base",
                            .chat = "chatml",
                            .system = "Be brief.",
                            .stop = {"<|im_end|>"},
                            .chat_template = true};
  const fs::path readme = exports::write_serving(scratch.path(), served);
  CHECK(readme == scratch / "serving/README.md");
  const std::string text = read_file(readme);
  says(text, "    vllm serve '../my base' --enable-lora --max-lora-rank 8 --lora-modules my-run-=peft\n");
  says(text, "    vllm serve ct-w8a8 --served-model-name my-run-\n");
  says(text, "    llama-server -m gguf-q8_0.gguf --alias my-run-\n");
  CHECK(text.find("--lora gguf-lora.gguf") == std::string::npos);
  says(text,
       "    ollama create my-run-:gguf-q8_0 -f serving/ollama/gguf-q8_0.Modelfile && ollama run my-run-:gguf-q8_0\n"
       "\nNot gguf-lora: the base is a directory, llama.cpp needs it as a GGUF file; export gguf-base-bf16 too.\n");
  says(text, "    trtllm-serve '../my base' --extra_llm_api_options serving/tensorrt-llm/peft.yaml\n    trtllm-serve hf\n");
  CHECK(read_file(scratch / "serving/tensorrt-llm/peft.yaml") == "lora_config:\n  lora_dir: [peft]\n  max_lora_rank: 4\n");
  says(text,
       "    tritonserver --model-repository=/models/serving/triton-vllm --model-control-mode=explicit "
       "--load-model=my-run--peft\n");
  CHECK(text.find("trtllm-serve ct-w8a8") == std::string::npos);
  const auto asked = [&](const std::string& at, const std::string& model) {
    says(text, cat("    curl http://localhost:", at, " -H 'Content-Type: application/json' -d '{", model));
  };
  const std::string hello = R"("messages":[{"role":"user","content":"Hello"}],"max_tokens":64}')";
  asked("8000/v1/chat/completions", cat(R"("model":"my-run-",)", hello, "\n"));
  asked("8080/v1/chat/completions", cat(R"("model":"my-run-",)", hello, "\n"));
  asked("8000/v1/chat/completions",
        cat(R"("model":"my base","lora_request":{"lora_name":"my-run-","lora_int_id":0,"lora_path":"peft"},)", hello, "\n"));
  asked("8000/v1/chat/completions", cat(R"("model":"hf",)", hello, "\n"));
  asked("8000/v2/models/my-run--hf/generate", R"("text_input":"Hello","parameters":{"max_tokens":64}}')"
                                              "\n");
  asked("8000/v2/models/my-run--peft/generate", R"("text_input":"Hello","parameters":{"max_tokens":64,"lora_name":"my-run-"}}')"
                                                "\n");
  asked("8000/v2/models/tensorrt_llm/generate", R"("text_input":"Hello","sampling_param_max_tokens":64}')"
                                                "\n");
  asked("8000/v2/models/tensorrt_llm/generate", R"("text_input":"Hello","sampling_param_max_tokens":64,"lora_id":0,)"
                                                R"("lora_name":"my-run-","lora_path":"/models/peft"}')"
                                                "\n");

  CHECK(read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile") ==
        "FROM ../../gguf-q8_0.gguf\n"
        "TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n"
        "{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n\"\"\"\n"
        "SYSTEM \"\"\"Be brief.\"\"\"\nPARAMETER stop \"<|im_end|>\"\n");
  CHECK(!fs::exists(scratch / "serving/ollama/gguf-lora.Modelfile"));
  const fs::path model = scratch / "serving/triton-vllm/my-run--peft";
  says(read_file(model / "config.pbtxt"), "backend: \"vllm\"\n");
  CHECK(read_json(model / "1/model.json")["model"] == "/base");
  CHECK(read_json(model / "1/model.json")["enable_lora"] == "true");
  CHECK(read_json(model / "1/model.json")["max_lora_rank"] == 8);
  CHECK(read_json(model / "1/multi_lora.json") == Json({{"my-run-", "/models/peft"}}));
  CHECK(read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json")["model"] == "/models/hf");
  CHECK(!fs::exists(scratch / "serving/triton-vllm/my-run--hf/1/multi_lora.json"));
  says(read_file(scratch / "serving/triton-tensorrt-llm/hf.yaml"), "model: /models/hf\nbackend: \"pytorch\"\n");
  CHECK(!fs::exists(scratch / "serving/triton-tensorrt-llm/ct-w8a8.yaml"));

  says(
      text,
      "    LLM_CONFIG_PATH=/models/serving/triton-tensorrt-llm/hf.yaml tritonserver --model-repository=/app/all_models/llmapi\n");
  CHECK(read_file(scratch / "serving/triton-tensorrt-llm/peft.yaml") ==
        "model: /base\nbackend: \"pytorch\"\ntensor_parallel_size: 1\npipeline_parallel_size: 1\n"
        "lora_config:\n  lora_dir: [/models/peft]\n  max_lora_rank: 4\n"
        "triton_config:\n  max_batch_size: 0\n  decoupled: False\n");
  CHECK(!read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json").contains("tensor_parallel_size"));

  SECTION("on several devices") {
    served.plan.tensor_parallel = 2;
    exports::write_serving(scratch.path(), served);
    const std::string parallel = read_file(readme);
    says(parallel, "    vllm serve ct-w8a8 --served-model-name my-run- --tensor-parallel-size 2\n");
    says(parallel,
         "    vllm serve '../my base' --enable-lora --max-lora-rank 8 --lora-modules my-run-=peft --tensor-parallel-size 2\n");
    says(parallel, "    trtllm-serve hf --tp_size 2\n");
    says(parallel, "    trtllm-serve '../my base' --extra_llm_api_options serving/tensorrt-llm/peft.yaml --tp_size 2\n");
    CHECK(read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json")["tensor_parallel_size"] == 2);
    says(read_file(scratch / "serving/triton-tensorrt-llm/hf.yaml"), "tensor_parallel_size: 2\n");
  }
  SECTION("the base as a GGUF file beside the adapter") {
    exports::export_all({"gguf-base-bf16"}, golden_case.request(), scratch.path());
    exports::write_serving(scratch.path(), served);
    const std::string both = read_file(readme);
    says(both, "    llama-server -m gguf-base-bf16.gguf --lora gguf-lora.gguf --alias my-run-\n");
    says(both, "    ollama create my-run-:gguf-lora -f serving/ollama/gguf-lora.Modelfile && ollama run my-run-:gguf-lora\n");
    CHECK(both.find("llama-server -m gguf-base-bf16.gguf --alias") == std::string::npos);
    says(read_file(scratch / "serving/ollama/gguf-lora.Modelfile"),
         "FROM ../../gguf-base-bf16.gguf\nADAPTER ../../gguf-lora.gguf\n");
    CHECK(!fs::exists(scratch / "serving/ollama/gguf-base-bf16.Modelfile"));
  }
  SECTION("what a server refuses is not offered to it") {
    served.plan.tensor_parallel = 3;
    exports::write_serving(scratch.path(), served);
    const std::string refused = read_file(readme);
    for (const char* server : {"vLLM", "TensorRT-LLM", "Triton"}) says(refused, cat("## ", server, "\n\nNot "));
    says(refused, "Not hf: 3 devices do not divide 4 heads.\n");
    for (const char* command : {"vllm serve", "trtllm-serve", "tritonserver"}) CHECK(refused.find(command) == std::string::npos);
    says(refused, "    llama-server -m gguf-q8_0.gguf --alias my-run-\n");
    for (const char* files : {"tensorrt-llm", "triton-vllm", "triton-tensorrt-llm"})
      CHECK(!fs::exists(scratch / (std::string("serving/") + files)));
  }
  SECTION("what was made from another adapter is not offered, the base alone is") {
    exports::export_all({"hf-base"}, golden_case.request(), scratch.path());
    golden_case.adapter->adapters[0]->low_rank.b.add_(0.5);
    exports::export_all({"peft"}, golden_case.request(), scratch.path());
    served.adapter = exports::adapter_hash(*golden_case.adapter);
    exports::write_serving(scratch.path(), served);
    const std::string newer = read_file(readme);
    says(newer, "    vllm serve hf-base --enable-lora --max-lora-rank 8 --lora-modules my-run-=peft\n");
    for (const char* old : {"vllm serve hf ", "ct-w8a8", "gguf"}) CHECK(newer.find(old) == std::string::npos);
    CHECK(!fs::exists(scratch / "serving/ollama"));
  }
  SECTION("an adapter that ends its turns as its base does not") {
    CHECK(text.find("stop_token_ids") == std::string::npos);
    served.stop_ids = {7, 9};
    exports::write_serving(scratch.path(), served);
    const std::string ended = read_file(readme);
    for (const char* request : {R"({"model":"my-run-","stop_token_ids":[7,9],"messages")",
                                R"("lora_path":"peft"},"stop_token_ids":[7,9],"messages")", R"({"model":"hf","messages")"})
      CHECK(ended.find(request) != std::string::npos);
  }
  SECTION("files without a chat template") {
    CHECK(!fs::exists(scratch / "serving/chat_template.jinja"));
    served.chat_template = false;
    served.jinja = "{{ 'a' }}";
    exports::write_serving(scratch.path(), served);
    const std::string named = read_file(readme);
    CHECK(read_file(scratch / "serving/chat_template.jinja") == served.jinja);
    says(named, "    vllm serve ct-w8a8 --served-model-name my-run- --chat-template serving/chat_template.jinja\n");
    says(named, "    trtllm-serve hf --chat_template serving/chat_template.jinja\n");
    says(named, "    llama-server -m gguf-q8_0.gguf --alias my-run- --jinja --chat-template-file serving/chat_template.jinja\n");
    CHECK(named.find("/v1/chat/completions") != std::string::npos);
    served.jinja = "";
    exports::write_serving(scratch.path(), served);
    CHECK(read_file(readme).find("/v1/completions") != std::string::npos);
    CHECK(read_file(readme).find("chat") == std::string::npos);
    CHECK(read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile").find("TEMPLATE") != std::string::npos);
  }
  SECTION("a base without a chat layout, words that would end a string") {
    served.chat = "", served.chat_template = false, served.system = "a \"\"\" b", served.stop = {"\""};
    exports::write_serving(scratch.path(), served);
    CHECK(read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile") == "FROM ../../gguf-q8_0.gguf\n");
    CHECK(read_file(readme).find("/v1/completions") != std::string::npos);
  }
  SECTION("nothing is left to serve") {
    exports::Manifest manifest(scratch.path());
    while (!manifest.artifacts().empty()) manifest.remove(std::string(manifest.artifacts().front().format));
    CHECK(exports::write_serving(scratch.path(), served).empty());
    CHECK(!fs::exists(scratch / "serving"));
  }
}

TEST_CASE("Ollama's templates write a conversation as the published ones do", "[export][servers]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  exports::export_all({"gguf-q8_0"}, golden_case.request(), scratch.path());
  int compared = 0;
  for (const Json& c : read_json(golden("../chat") / "golden.json")) {
    Json messages = c["messages"];
    const bool system = messages[0]["role"] == "system";
    const auto layout = c["layout"].get<std::string>();
    const auto tokenizer = c["tokenizer"].get<std::string>();
    if (c["template"].get<std::string>().starts_with("written/")) continue;
    const bool whole = layout == "llama3" || tokenizer == "mistral", answered = messages.back()["role"] == "assistant";
    // Templates of one turn are filled in for each, which Ollama does by itself.
    if (!whole && messages.size() != (system ? 3u : 2u)) continue;
    if (!answered && tokenizer != "mistral") continue;  // the others end with the header of the answer
    const auto question = messages[system ? 1 : 0]["content"].get<std::string>();
    if (question != "hi" && question != "Is it so?" && question != "one") continue;
    const auto answer = answered ? messages.back()["content"].get<std::string>() : "";
    exports::Served served = {.plan = plan_of(golden_case),
                              .name = "x",
                              .adapter = exports::adapter_hash(*golden_case.adapter),
                              .chat = tokenizer == "tekken" ? "tekken-v7" : layout};
    // data::ChatTemplate::default_system()
    if (layout == "llama3") served.system = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    if (tokenizer == "smollm") served.system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    if (tokenizer == "qwen2") served.system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    exports::write_serving(scratch.path(), served);
    const std::string text = read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile");
    std::string expected = c["text"].get<std::string>();
    for (const std::string beginning : {"<s>", "<bos>", "<|begin_of_text|>"})
      if (expected.starts_with(beginning)) expected = expected.substr(beginning.size());
    if (tokenizer == "mistral")  // part of the answer's first token
      for (auto at = expected.find("[/INST] "); at != std::string::npos; at = expected.find("[/INST] "))
        expected.erase(at + 7, 1);
    INFO(tokenizer);
    // SYSTEM is for conversations that have no system text of their own.
    const std::string system_text = system ? messages[0]["content"].get<std::string>() : of_modelfile(text, "SYSTEM");
    if (answered) messages.erase(messages.size() - 1);
    std::string written =
        Go(of_modelfile(text, "TEMPLATE"), messages).run({{"System", system_text}, {"Prompt", question}, {"Response", answer}});
    if (whole && answered) written += answer + (layout == "llama3" ? "<|eot_id|>" : "</s>");  // it ends where the answer begins
    CHECK(written == expected);
    ++compared;
  }
  CHECK(compared == 17);
}
