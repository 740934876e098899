// TensorRT-LLM 1.2 and newer, PyTorch backend: tensorrt_llm/models/quant_config_utils.py, tensorrt_llm/lora_manager.py,
// docs/source/features/lora.md.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "export/request.h"

namespace graft::exports {
namespace {

constexpr const char* kAdapterOptions = "tensorrt-llm/peft.yaml";

// Models of the PyTorch backend (_torch/models/_arch_index.py) and what cannot be shared among devices.
std::string model_refusal(const ServingPlan& plan, const std::string& format) {
  constexpr std::array<std::string_view, 8> kModels = {"LlamaForCausalLM",  "MistralForCausalLM", "MixtralForCausalLM",
                                                       "Qwen2ForCausalLM",  "Qwen3ForCausalLM",   "Qwen3MoeForCausalLM",
                                                       "Gemma3ForCausalLM", "Phi3ForCausalLM"};
  if (std::find(kModels.begin(), kModels.end(), plan.spec.architecture) == kModels.end())
    return cat("TensorRT-LLM has no ", plan.spec.architecture, " in its PyTorch backend");
  return shard_refusal(plan, format);
}

// compressed-tensors by row: scales of (out, 1).
bool scales_rows(const std::string& format) { return format == "ct-fp8" || format == "ct-fp8-gptq"; }

// Of the formats that are read.
bool is_fp8(const std::string& format) {
  return scales_rows(format) || format.ends_with("fp8-block") || format.starts_with("modelopt-fp8");
}

bool is_half(const std::string& format) { return format == "hf" || format == "hf-f16"; }

Finding adapter_finding(const ServingPlan& plan) {
  if (const std::string refusal = model_refusal(plan, "hf"); !refusal.empty()) return {"peft", State::fault, refusal};
  if (adapts_head(plan))
    return {"peft", State::fault,
            "TensorRT-LLM takes no adapter of lm_head; take it out of lora.target_modules, or export hf instead of peft"};
  if (plan.base_is_gguf && !has_format(plan.formats, "hf-base"))
    return {"peft", State::fault,
            "the base is a GGUF file, TensorRT-LLM needs a directory to serve adapters on; export hf-base too"};
  // lora_manager.py, iterate_hf_lora: a name that is not in its map (lora_helper.py) is looked up by its last part.
  if (adapts_experts(plan) && plan.spec.family == "qwen3_moe")
    return {"peft", State::fault,
            "TensorRT-LLM takes adapters on the experts of Qwen3 for those of a dense MLP; export hf instead of peft"};
  if (adapts_experts(plan))
    return {"peft", State::note,
            "adapters on experts: TensorRT-LLM has had them since #14801 of June 2026, not tried; hf is the safe choice"};
  return {"peft", State::ok,
          "loaded with serving/tensorrt-llm/peft.yaml and named in each request; missing parts of q, k and v are filled with "
          "zeros; not run here"};
}

Finding finding_of(const ServingPlan& plan, const std::string& format) {
  if (format == "peft") return adapter_finding(plan);
  if (format == "ct-w8a8")
    return {format, State::note, "not for this server: it takes 8 bits by row for fp8, whatever their type"};
  if (format.starts_with("ct-w"))
    return {format, State::note, "not for this server: it reads compressed-tensors in fp8 only, by row or by blocks"};
  if (format == "ct-fp8-static")
    return {format, State::note,
            "not for this server: it scales the activations of compressed-tensors as they come; modelopt-fp8-static has scales"};
  const bool fp8 = is_fp8(format);
  if (!fp8 && !is_half(format) && format != "hf-base") return {format, State::note, "not for this server"};
  if (const std::string refusal = model_refusal(plan, format); !refusal.empty()) return {format, State::fault, refusal};
  // _torch/modules/linear.py: FP8RowwiseLinearMethod copied the scales into (out) as they were; none of _torch/modules/fused_moe
  // has scales by row.
  if (scales_rows(format) && plan.spec.moe.experts > 0)
    return {format, State::fault, "TensorRT-LLM has no experts in fp8 by row; fp8-block has them by blocks"};
  if (scales_rows(format))
    return {format, State::ok,
            "needs a GPU of compute capability 8.9, and TensorRT-LLM with #15415 of June 2026, before which it stops at these "
            "scales; modelopt-fp8 loads before too; not run here"};
  return {format, State::ok, fp8 ? "needs a GPU of compute capability 8.9; not run here" : "serve the directory; not run here"};
}

std::vector<Finding> findings(const ServingPlan& plan) {
  std::vector<Finding> findings;
  for (const std::string& format : plan.formats) findings.push_back(finding_of(plan, format));
  return findings;
}

std::string directory_name(const std::filesystem::path& path) {
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

std::string command(const Served& served, const std::string& format) {
  const std::int64_t limit = context_limit(served.plan.spec);
  const std::string options = cat(limit > 0 ? cat(" --max_seq_len ", limit) : "",
                                  served.plan.tensor_parallel > 1 ? cat(" --tp_size ", served.plan.tensor_parallel) : "",
                                  chat_template_option(served, "--chat_template"));
  if (format == "peft")
    return cat("trtllm-serve ", adapter_base(served), " --extra_llm_api_options serving/", kAdapterOptions, options);
  if (!is_half(format) && !is_fp8(format)) return "";
  return cat("trtllm-serve ", artifact_of(format), options);
}

// serve/openai_server.py: a model is called as its directory. The base answers unless a request names the adapter.
std::string request(const Served& served, const std::string& format) {
  if (format != "peft") return openai_request(served, 8000, {{"model", artifact_of(format)}});
  Json body = {{"model", directory_name(has_format(served.plan.formats, "hf-base") ? "hf-base" : served.base)},
               {"lora_request", {{"lora_name", served.name}, {"lora_int_id", 0}, {"lora_path", "peft"}}}};
  if (!served.stop_ids.empty()) body["stop_token_ids"] = served.stop_ids;
  return openai_request(served, 8000, std::move(body));
}

std::vector<ServingFile> files(const Served& served) {
  if (!has_format(served.plan.formats, "peft")) return {};
  return {{kAdapterOptions, cat("lora_config:\n  lora_dir: [peft]\n  max_lora_rank: ", served.plan.lora.rank, "\n")}};
}

}  // namespace

extern const Server tensorrt_llm;
const Server tensorrt_llm = {.name = "tensorrt-llm",
                             .title = "TensorRT-LLM",
                             .findings = findings,
                             .command = command,
                             .request = request,
                             .files = files};

}  // namespace graft::exports
