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

  // "format: state: detail" of a server's findings, one line each.
  std::string lines(const std::string& server) const {
    std::string text;
    for (const Finding& finding :
         exports::findings_of(exports::find_server(server), {spec, lora, modules, formats, base_is_gguf, tensor_parallel}))
      text += cat(finding.topic, ": ", name_of(finding.state), ": ", finding.detail, "\n");
    return text;
  }
};

// What Go makes of the templates that Modelfiles have: {{ .Name }}, {{ if .Name }}, {{ if ne .Name "value" }}, {{ range .Messages
// }} and the {{ end }} of each, as Ollama fills them in.
class Go {
 public:
  Go(std::string text, const Json& messages) : text_(std::move(text)), messages_(messages) {}
  std::string run(const Json& values) {
    at_ = 0;
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
      if (action == "range .Messages") {
        const std::size_t body = at_;
        for (const Json& message : messages_) {
          at_ = body;
          out += block({{"Role", message["role"]}, {"Content", message["content"]}}, shown);
        }
      } else if (action.starts_with("if ne .")) {
        const std::string name = action.substr(7, action.find(' ', 7) - 7);
        out += block(values, shown && cat('"', values[name].get<std::string>(), '"') != action.substr(8 + name.size()));
      } else if (action.starts_with("if .")) {
        out += block(values, shown && !values[action.substr(4)].get<std::string>().empty());
      } else if (shown) {
        out += values[action.substr(1)].get<std::string>();
      }
    }
    return out;
  }

  const std::string text_;
  const Json& messages_;
  std::size_t at_ = 0;
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
  says(plan.lines("vllm"), "ct-w4a16-g64: ok: needs a GPU of compute capability 7.5, or the CPU\n");
  says(plan.lines("vllm"), "ct-w4w8a16-asym-g32-awq-gptq: ok: needs a GPU of compute capability 7.5\n");
  says(plan.lines("vllm"), "fp8-block: ok: needs a GPU of compute capability 8.9 for fp8 activations");
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
       "gguf-lora: ok: the base must be there as a GGUF file too; scaled by alpha / rank as in training\n");
  says(plan.lines("llama.cpp"), "peft: note: not for this server\n");
  says(plan.lines("ollama"), "peft: note: not for this server: its own converter orders q and k differently; gguf-lora is\n");
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

TEST_CASE("TensorRT-LLM and Triton: what they read and what they would get wrong", "[export][servers]") {
  Plan plan;
  plan.formats = {"hf", "ct-w8a8", "ct-w4a16-g64", "ct-fp8", "ct-fp8-gptq", "modelopt-fp8", "peft", "gptq-g64"};
  says(plan.lines("tensorrt-llm"), "hf: ok");
  says(plan.lines("tensorrt-llm"), "ct-w8a8: note: not for this server: it takes 8 bits by row for fp8, whatever their type\n");
  says(plan.lines("tensorrt-llm"), "ct-w4a16-g64: note: not for this server: it reads compressed-tensors in fp8 only");
  says(plan.lines("tensorrt-llm"), "ct-fp8: ok: needs a GPU of compute capability 8.9");
  says(plan.lines("tensorrt-llm"), "ct-fp8-gptq: ok: needs a GPU of compute capability 8.9");
  says(plan.lines("tensorrt-llm"), "modelopt-fp8: ok: needs a GPU of compute capability 8.9");
  says(plan.lines("tensorrt-llm"), "peft: ok");
  says(plan.lines("tensorrt-llm"), "gptq-g64: note: not for this server\n");
  says(plan.lines("triton"), "gptq-g64: ok: vLLM backend: needs");
  plan.modules = {"lm_head"};
  says(plan.lines("tensorrt-llm"), "peft: fault: TensorRT-LLM takes no adapter of lm_head");
  plan.formats = {"gguf-q8_0"};
  says(plan.lines("triton"), "formats: fault: Triton reads none of export.formats\n");
  CHECK(message_of<ConfigError>([] { exports::find_server("vlm"); }) ==
        "server 'vlm' is not known; did you mean 'vllm'? There are llama.cpp, ollama, tensorrt-llm, triton, vllm");
}

TEST_CASE("the files for servers name what lies in the export directory", "[export][servers]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory scratch;
  exports::export_all({"peft", "hf", "ct-w8a8", "gguf-q8_0", "gguf-lora"}, golden_case.request(), scratch.path());
  exports::Served served = {.name = exports::served_name("My Run!"),
                            .adapter = exports::adapter_hash(*golden_case.adapter),
                            .base = "../my base",
                            .base_is_gguf = false,
                            .formats = {},
                            .rank = 9,
                            .chat = "chatml",
                            .system = "Be brief.",
                            .stop = {"<|im_end|>"},
                            .chat_template = true};
  const fs::path readme = exports::write_serving(scratch.path(), served);
  CHECK(readme == scratch / "serving/README.md");
  const std::string text = read_file(readme);
  says(text, "    vllm serve '../my base' --enable-lora --max-lora-rank 16 --lora-modules my-run-=peft\n");
  says(text, "    vllm serve ct-w8a8 --served-model-name my-run-\n");
  says(text, "    llama-server -m gguf-q8_0.gguf --alias my-run-\n");
  says(text, "    llama-server -m BASE.gguf --lora gguf-lora.gguf --alias my-run-\n");
  says(text,
       "    ollama create my-run-:gguf-q8_0 -f serving/ollama/gguf-q8_0.Modelfile && ollama run my-run-:gguf-q8_0\n"
       "    ollama create my-run-:gguf-lora -f serving/ollama/gguf-lora.Modelfile && ollama run my-run-:gguf-lora\n");
  says(text, "    trtllm-serve '../my base' --extra_llm_api_options serving/tensorrt-llm/peft.yaml\n    trtllm-serve hf\n");
  CHECK(read_file(scratch / "serving/tensorrt-llm/peft.yaml") ==
        "# The base answers unless a request names the adapter: \"lora_request\": "
        "{\"lora_name\":\"my-run-\",\"lora_int_id\":0,\"lora_path\":\"peft\"}\n"
        "lora_config:\n  lora_dir: [peft]\n  max_lora_rank: 9\n");
  says(text,
       "    tritonserver --model-repository=/models/serving/triton-vllm --model-control-mode=explicit "
       "--load-model=my-run--peft\n");
  CHECK(text.find("trtllm-serve ct-w8a8") == std::string::npos);
  CHECK(text.find(R"(/v1/chat/completions -H 'Content-Type: application/json' -d '{"model":"my-run-",)") != std::string::npos);

  CHECK(read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile") ==
        "FROM ../../gguf-q8_0.gguf\n"
        "TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n"
        "{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n\"\"\"\n"
        "SYSTEM \"\"\"Be brief.\"\"\"\nPARAMETER stop \"<|im_end|>\"\n");
  says(read_file(scratch / "serving/ollama/gguf-lora.Modelfile"), "FROM BASE.gguf\nADAPTER ../../gguf-lora.gguf\n");
  const fs::path model = scratch / "serving/triton-vllm/my-run--peft";
  says(read_file(model / "config.pbtxt"), "backend: \"vllm\"\n");
  CHECK(read_json(model / "1/model.json")["model"] == "/base");
  CHECK(read_json(model / "1/model.json")["enable_lora"] == "true");
  CHECK(read_json(model / "1/model.json")["max_lora_rank"] == 16);
  CHECK(read_json(model / "1/multi_lora.json") == Json({{"my-run-", "/models/peft"}}));
  CHECK(read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json")["model"] == "/models/hf");
  CHECK(!fs::exists(scratch / "serving/triton-vllm/my-run--hf/1/multi_lora.json"));
  says(read_file(scratch / "serving/triton-tensorrt-llm/hf.yaml"), "model: /models/hf\nbackend: \"pytorch\"\n");
  CHECK(!fs::exists(scratch / "serving/triton-tensorrt-llm/ct-w8a8.yaml"));

  CHECK(!fs::exists(scratch / "serving/triton-tensorrt-llm/peft.yaml"));
  CHECK(!read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json").contains("tensor_parallel_size"));

  SECTION("on several devices") {
    served.tensor_parallel = 2;
    exports::write_serving(scratch.path(), served);
    const std::string parallel = read_file(readme);
    says(parallel, "    vllm serve ct-w8a8 --served-model-name my-run- --tensor-parallel-size 2\n");
    says(parallel,
         "    vllm serve '../my base' --enable-lora --max-lora-rank 16 --lora-modules my-run-=peft --tensor-parallel-size 2\n");
    says(parallel, "    trtllm-serve hf --tp_size 2\n");
    says(parallel, "    trtllm-serve '../my base' --extra_llm_api_options serving/tensorrt-llm/peft.yaml --tp_size 2\n");
    CHECK(read_json(scratch / "serving/triton-vllm/my-run--hf/1/model.json")["tensor_parallel_size"] == 2);
    says(read_file(scratch / "serving/triton-tensorrt-llm/hf.yaml"), "tensor_parallel_size: 2\n");
  }
  SECTION("what was made from another adapter is not offered, the base alone is") {
    exports::export_all({"hf-base"}, golden_case.request(), scratch.path());
    golden_case.adapter->adapters[0]->low_rank.b.add_(0.5);
    exports::export_all({"peft"}, golden_case.request(), scratch.path());
    served.adapter = exports::adapter_hash(*golden_case.adapter);
    exports::write_serving(scratch.path(), served);
    const std::string newer = read_file(readme);
    says(newer, "    vllm serve hf-base --enable-lora --max-lora-rank 16 --lora-modules my-run-=peft\n");
    for (const char* old : {"vllm serve hf ", "ct-w8a8", "gguf"}) CHECK(newer.find(old) == std::string::npos);
    CHECK(!fs::exists(scratch / "serving/ollama"));
  }
  SECTION("an adapter that ends its turns as its base does not") {
    CHECK(text.find("stop_token_ids") == std::string::npos);
    served.stop_ids = {7, 9};
    exports::write_serving(scratch.path(), served);
    CHECK(read_file(readme).find(R"("max_tokens":64,"stop_token_ids":[7,9]}')") != std::string::npos);
  }
  SECTION("files without a chat template") {
    served.chat_template = false;
    exports::write_serving(scratch.path(), served);
    CHECK(read_file(readme).find("/v1/completions") != std::string::npos);
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
    // Templates of one turn are filled in for each, which Ollama does by itself.
    if (layout != "llama3" && messages.size() != (system ? 3u : 2u)) continue;
    if (messages.back()["role"] != "assistant") continue;
    const auto question = messages[system ? 1 : 0]["content"].get<std::string>();
    if (question != "hi" && question != "Is it so?" && question != "one") continue;
    const auto answer = messages.back()["content"].get<std::string>();
    exports::Served served;
    const auto tokenizer = c["tokenizer"].get<std::string>();
    served.name = "x", served.chat = tokenizer == "tekken" ? "tekken-v7" : layout,
    served.adapter = exports::adapter_hash(*golden_case.adapter);
    // data::ChatTemplate::default_system()
    if (layout == "llama3") served.system = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    if (tokenizer == "smollm") served.system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    if (tokenizer == "qwen2") served.system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    exports::write_serving(scratch.path(), served);
    const std::string text = read_file(scratch / "serving/ollama/gguf-q8_0.Modelfile");
    std::string expected = c["text"].get<std::string>();
    for (const std::string beginning : {"<s>", "<bos>", "<|begin_of_text|>"})
      if (expected.starts_with(beginning)) expected = expected.substr(beginning.size());
    if (tokenizer == "mistral") expected.erase(expected.find("[/INST] ") + 7, 1);  // part of the answer's first token
    INFO(tokenizer);
    // SYSTEM is for conversations that have no system text of their own.
    const std::string system_text = system ? messages[0]["content"].get<std::string>() : of_modelfile(text, "SYSTEM");
    messages.erase(messages.size() - 1);
    std::string written =
        Go(of_modelfile(text, "TEMPLATE"), messages).run({{"System", system_text}, {"Prompt", question}, {"Response", answer}});
    if (layout == "llama3") written += answer + "<|eot_id|>";  // it ends where the answer begins
    CHECK(written == expected);
    ++compared;
  }
  CHECK(compared == 13);
}
