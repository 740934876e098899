// Triton Inference Server: a model repository for the vLLM backend (triton-inference-server/vllm_backend samples, docs), and the
// model.yaml of TensorRT-LLM's own repository (NVIDIA/TensorRT-LLM triton_backend/all_models/llmapi/tensorrt_llm).
#include "core/error.h"
#include "export/request.h"

namespace graft::exports {
namespace {

constexpr const char *kVllm = "triton-vllm", *kTensorrt = "triton-tensorrt-llm";

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

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += cat(text.empty() ? "" : "\n", line);
  return text;
}

// 1/model.py of the repository reads the file that LLM_CONFIG_PATH names; the container has the repository at /app.
std::string command(const Served& served, const std::string& format) {
  std::vector<std::string> commands;
  if (reads("vllm", served, format))
    commands.push_back(cat("tritonserver --model-repository=/models/serving/", kVllm,
                           " --model-control-mode=explicit --load-model=", model_of(served, format)));
  if (reads("tensorrt-llm", served, format))
    commands.push_back(cat("LLM_CONFIG_PATH=/models/serving/", kTensorrt, "/", format,
                           ".yaml tritonserver --model-repository=/app/all_models/llmapi"));
  return joined(commands);
}

// Triton's generate extension: the text goes to the model as it is. TensorRT-LLM's repository has inputs for adapters since
// #14079.
std::string request(const Served& served, const std::string& format) {
  std::vector<std::string> requests;
  if (reads("vllm", served, format)) {
    Json parameters = {{"max_tokens", 64}};
    if (format == "peft") parameters["lora_name"] = served.name;
    requests.push_back(post(8000, cat("/v2/models/", model_of(served, format), "/generate"),
                            {{"text_input", "Hello"}, {"parameters", parameters}}));
  }
  if (reads("tensorrt-llm", served, format)) {
    Json body = {{"text_input", "Hello"}, {"sampling_param_max_tokens", 64}};
    if (format == "peft") body.update({{"lora_id", 0}, {"lora_name", served.name}, {"lora_path", "/models/peft"}});
    requests.push_back(post(8000, "/v2/models/tensorrt_llm/generate", body));
  }
  return joined(requests);
}

// What is loaded: of an adapter, its base.
std::string loaded(const Served& served, const std::string& format) {
  if (format != "peft") return "/models/" + artifact_of(format);
  return has_format(served.plan.formats, "hf-base") ? "/models/hf-base" : "/base";
}

Json model_json(const Served& served, const std::string& format) {
  Json json = {{"model", loaded(served, format)}, {"gpu_memory_utilization", 0.85}};
  if (const std::int64_t limit = context_limit(served.plan.spec); limit > 0) json["max_model_len"] = limit;
  if (served.plan.tensor_parallel > 1) json["tensor_parallel_size"] = served.plan.tensor_parallel;
  if (format == "peft") {
    json["enable_lora"] = "true";
    json["max_lora_rank"] = vllm_rank(served.plan.lora.rank);
  }
  return json;
}

std::string model_yaml(const Served& served, const std::string& format) {
  const std::int64_t limit = context_limit(served.plan.spec);
  const std::string adapter =
      format == "peft" ? cat("lora_config:\n  lora_dir: [/models/peft]\n  max_lora_rank: ", served.plan.lora.rank, "\n") : "";
  return cat("model: ", loaded(served, format), "\nbackend: \"pytorch\"\ntensor_parallel_size: ", served.plan.tensor_parallel,
             "\npipeline_parallel_size: 1\n", limit > 0 ? cat("max_seq_len: ", limit, "\n") : "", adapter,
             "triton_config:\n  max_batch_size: 0\n  decoupled: False\n");
}

std::vector<ServingFile> files(const Served& served) {
  std::vector<ServingFile> files;
  for (const std::string& format : served.plan.formats) {
    if (reads("tensorrt-llm", served, format))
      files.push_back({cat(kTensorrt, "/", format, ".yaml"), model_yaml(served, format)});
    if (!reads("vllm", served, format)) continue;
    const std::string folder = cat(kVllm, "/", model_of(served, format), "/");
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
