// llama.cpp: src/llama-adapter.cpp, tools/server.
#include <algorithm>

#include "core/error.h"
#include "export/exporter.h"
#include "export/gguf_model.h"
#include "export/request.h"

namespace graft::exports {
namespace {

std::vector<Finding> findings(const ServingPlan& plan) {
  std::vector<Finding> findings;
  for (const std::string& format : plan.formats) {
    if (!format.starts_with("gguf")) {
      findings.push_back({format, State::note, "not for this server"});
    } else if (const std::string refusal = find_exporter(format).refusal(plan.spec, plan.lora); !refusal.empty()) {
      findings.push_back({format, State::fault, refusal});
    } else if (format != "gguf-lora") {
      findings.push_back({format, State::ok, "serve the file"});
    } else if (!plan.base_is_gguf && !has_format(plan.formats, "gguf-base-bf16")) {
      findings.push_back(
          {format, State::fault, "the base is a directory, llama.cpp needs it as a GGUF file; export gguf-base-bf16 too"});
    } else {
      findings.push_back({format, State::ok,
                          plan.lora.rslora ? "rsLoRA is unknown to it: its scale is written into alpha"
                                           : "scaled by alpha / rank as in training"});
    }
  }
  const bool window =
      std::any_of(plan.spec.layers.begin(), plan.spec.layers.end(), [](const auto& layer) { return layer.window > 0; });
  if (window && (plan.spec.family == "mistral" || plan.spec.family == "mixtral"))
    findings.push_back(
        {"window", State::note, "GGUF has no sliding window for this family: beyond it more is attended to than was trained"});
  if (has_betas_of_its_own(plan.spec.rope))
    findings.push_back({"yarn", State::note, "scaled with beta_fast 32 and beta_slow 1, whatever the file says"});
  return findings;
}

std::string command(const Served& served, const std::string& format) {
  if (!format.starts_with("gguf") || is_base_alone(format)) return "";
  const std::string model =
      format == "gguf-lora" ? cat(shell_word(gguf_base(served)), " --lora ", artifact_of(format)) : artifact_of(format);
  const std::int64_t limit = context_limit(served.plan.spec);
  return cat("llama-server -m ", model, " --alias ", served.name, limit > 0 ? cat(" -c ", limit) : "",
             chat_template_option(served, "--jinja --chat-template-file"));
}

std::string request(const Served& served, const std::string&) { return openai_request(served, 8080, {{"model", served.name}}); }

}  // namespace

extern const Server llama_cpp;
const Server llama_cpp = {
    .name = "llama.cpp", .title = "llama.cpp", .findings = findings, .command = command, .request = request};

}  // namespace graft::exports
