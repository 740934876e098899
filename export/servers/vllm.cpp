// vLLM 0.32: vllm/config/lora.py, vllm/lora/peft_helper.py, vllm/model_executor/layers/quantization.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "export/request.h"

namespace graft::exports {
namespace {

struct Kind {
  std::string_view prefix, needs;
};
// vllm/model_executor/kernels/linear/mixed_precision/cpu.py; measured: docs/formats.md.
constexpr std::string_view kInt4 =
    "a GPU of compute capability 7.5, or the CPU (one with AMX rounds inputs to int8 unless VLLM_CPU_INT4_W4A8=0 is set)";
// The first that a format begins with.
constexpr std::array kKinds = {
    Kind{"hf", ""},
    Kind{"ct-w4w8a16", "a GPU of compute capability 7.5"},
    Kind{"ct-w4a16", kInt4},
    Kind{"ct-w8a16", "a GPU of compute capability 7.5"},
    Kind{"ct-w8a8", "a GPU of compute capability 7.5, or the CPU"},
    Kind{"ct-fp8-block", "a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone, or a CPU with AMX"},
    Kind{"ct-fp8-static", "a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone"},
    Kind{"ct-fp8", "a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone, or the CPU"},
    Kind{"fp8-block", "a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone, or a CPU with AMX"},
    Kind{"fp8", "a GPU of compute capability 8.9 for fp8 activations, 7.5 for fp8 weights alone"},
    Kind{"modelopt-fp8-static", "a GPU of compute capability 8.9"},
    Kind{"modelopt-fp8", "a GPU of compute capability 8.9, or the CPU"},
    Kind{"gptq", kInt4},
    Kind{"awq", kInt4},
};

const Kind* kind_of(const std::string& format) {
  const auto at = std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& kind) { return format.starts_with(kind.prefix); });
  return at == kKinds.end() ? nullptr : &*at;
}

// Model classes with embedding_modules: an adapter of the head is loaded.
bool loads_head(const std::string& family) {
  return family == "llama" || family == "mixtral" || family == "qwen3" || family == "qwen3_moe";
}

Finding adapter_finding(const ServingPlan& plan) {
  const auto fault = [](const std::string& detail) { return Finding{"peft", State::fault, detail}; };
  if (const std::string refusal = shard_refusal(plan, "hf"); !refusal.empty()) return fault(refusal);
  if (vllm_rank(plan.lora.rank) == 0) return fault(cat("lora.rank is ", plan.lora.rank, ", vLLM takes at most 512"));
  if (adapts_head(plan) && plan.spec.tied_head)
    return fault("the head is tied to the embedding, vLLM loads no adapter of it; take lm_head out of lora.target_modules");
  if (adapts_head(plan) && !loads_head(plan.spec.family))
    return fault(cat("vLLM loads no adapter of lm_head for ", plan.spec.architecture,
                     "; take it out of lora.target_modules, or export hf instead of peft"));
  if (plan.base_is_gguf && !has_format(plan.formats, "hf-base"))
    return fault("the base is a GGUF file, vLLM needs a directory to serve adapters on; export hf-base too");
  if (adapts_experts(plan))
    return {"peft", State::note,
            "adapters on experts: vLLM has loaders for them, which have not been tried; hf is the safe choice"};
  return {"peft", State::ok, cat("served with --max-lora-rank ", vllm_rank(plan.lora.rank), "; vLLM's own default is 16")};
}

std::vector<Finding> findings(const ServingPlan& plan) {
  std::vector<Finding> findings;
  for (const std::string& format : plan.formats) {
    const Kind* kind = kind_of(format);
    if (format == "peft") {
      findings.push_back(adapter_finding(plan));
    } else if (kind == nullptr) {
      findings.push_back({format, State::note, "not for this server"});
    } else if (const std::string refusal = shard_refusal(plan, format); !refusal.empty()) {
      findings.push_back({format, State::fault, refusal});
    } else {
      findings.push_back({format, State::ok, kind->needs.empty() ? "serve the directory" : cat("needs ", kind->needs)});
    }
  }
  return findings;
}

std::string command(const Served& served, const std::string& format) {
  const std::int64_t limit = context_limit(served.plan.spec);
  const std::string options =
      cat(limit > 0 ? cat(" --max-model-len ", limit) : "",
          served.plan.tensor_parallel > 1 ? cat(" --tensor-parallel-size ", served.plan.tensor_parallel) : "",
          chat_template_option(served, "--chat-template"));
  if (format == "peft")
    return cat("vllm serve ", adapter_base(served), " --enable-lora --max-lora-rank ", vllm_rank(served.plan.lora.rank),
               " --lora-modules ", served.name, "=peft", options);
  if (kind_of(format) == nullptr || is_base_alone(format)) return "";
  return cat("vllm serve ", artifact_of(format), " --served-model-name ", served.name, options);
}

std::string request(const Served& served, const std::string&) {
  Json body = {{"model", served.name}};
  // The base of an adapter may name another end than that of a turn.
  if (has_format(served.plan.formats, "peft") && !served.stop_ids.empty()) body["stop_token_ids"] = served.stop_ids;
  return openai_request(served, 8000, std::move(body));
}

}  // namespace

extern const Server vllm;
const Server vllm = {.name = "vllm", .title = "vLLM", .findings = findings, .command = command, .request = request};

}  // namespace graft::exports
