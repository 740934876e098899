// Triton Inference Server: a model repository for the vLLM backend (triton-inference-server/vllm_backend samples, docs), and the
// model.yaml of the TensorRT-LLM backend, whose other files come with it (NVIDIA/TensorRT-LLM triton_backend/all_models/llmapi).
#include "core/error.h"
#include "export/request.h"

namespace graft::exports {
namespace {

constexpr const char* kRepository = "serving/triton-vllm";

// The backends' own findings, the first that is ok.
std::vector<Finding> findings(const ServingPlan& plan) {
  const auto vllm = find_server("vllm").findings(plan), tensorrt = find_server("tensorrt-llm").findings(plan);
  std::vector<Finding> findings;
  for (std::size_t i = 0; i < plan.formats.size(); ++i) {  // both begin with one for each format
    const bool second = vllm[i].state != State::ok && tensorrt[i].state == State::ok;
    Finding finding = second ? tensorrt[i] : vllm[i];
    if (finding.state == State::ok) finding.detail = cat(second ? "TensorRT-LLM" : "vLLM", " backend: ", finding.detail);
    findings.push_back(std::move(finding));
  }
  return findings;
}

// Whether a backend reads a format: the server of that name has a command for it.
bool reads(const std::string& backend, const Served& served, const std::string& format) {
  const Server& server = find_server(backend);
  const Served offer = offered(server, served);
  return has_format(offer.plan.formats, format) && !server.command(offer, format).empty();
}

std::string model_of(const Served& served, const std::string& format) { return cat(served.name, "-", format); }

std::string command(const Served& served, const std::string& format) {
  if (!reads("vllm", served, format)) return "";
  return cat("tritonserver --model-repository=/models/", kRepository,
             " --model-control-mode=explicit --load-model=", model_of(served, format));
}

// The generate extension of Triton; the text goes to the model as it is.
std::string request(const Served& served, const std::string& format) {
  if (!reads("vllm", served, format)) return "";
  Json parameters = {{"max_tokens", 64}};
  if (format == "peft") parameters["lora_name"] = served.name;
  return post(8000, cat("/v2/models/", model_of(served, format), "/generate"),
              {{"text_input", "Hello"}, {"parameters", parameters}});
}

Json model_json(const Served& served, const std::string& format) {
  Json json = {{"model", cat("/models/", artifact_of(format))}, {"gpu_memory_utilization", 0.85}};
  if (served.plan.tensor_parallel > 1) json["tensor_parallel_size"] = served.plan.tensor_parallel;
  if (format == "peft") {
    json["model"] = has_format(served.plan.formats, "hf-base") ? "/models/hf-base" : "/base";
    json["enable_lora"] = "true";
    json["max_lora_rank"] = vllm_rank(served.plan.lora.rank);
  }
  return json;
}

std::string model_yaml(const Served& served, const std::string& format) {
  return cat("# 1/model.yaml of the model tensorrt_llm in all_models/llmapi.\nmodel: /models/", artifact_of(format),
             "\nbackend: \"pytorch\"\ntensor_parallel_size: ", served.plan.tensor_parallel,
             "\npipeline_parallel_size: 1\n"
             "triton_config:\n  max_batch_size: 0\n  decoupled: False\n");
}

std::vector<ServingFile> files(const Served& served) {
  std::vector<ServingFile> files;
  for (const std::string& format : served.plan.formats) {
    if (format != "peft" && reads("tensorrt-llm", served, format))
      files.push_back({cat("triton-tensorrt-llm/", format, ".yaml"), model_yaml(served, format)});
    if (!reads("vllm", served, format)) continue;
    const std::string folder = cat("triton-vllm/", model_of(served, format), "/");
    files.push_back(
        {folder + "config.pbtxt",
         "backend: \"vllm\"\n\n# The backend places the model itself.\ninstance_group [\n  {\n    count: 1\n    kind: "
         "KIND_MODEL\n  }\n]\n"});
    files.push_back({folder + "1/model.json", model_json(served, format).dump(2) + "\n"});
    if (format == "peft") files.push_back({folder + "1/multi_lora.json", Json{{served.name, "/models/peft"}}.dump(2) + "\n"});
  }
  return files;
}

}  // namespace

extern const Server triton;
const Server triton = {
    .name = "triton", .title = "Triton", .findings = findings, .command = command, .request = request, .files = files};

}  // namespace graft::exports
