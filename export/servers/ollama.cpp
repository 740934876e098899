// Ollama: docs/modelfile.mdx. It reads what llama.cpp reads; a Modelfile says how a conversation becomes a prompt, as a Go
// template.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "export/server.h"

namespace graft::exports {
namespace {

struct Layout {
  std::string_view name, text;  // of data::ChatTemplate; without the token that begins a text, which the server puts in front
};
constexpr std::array kLayouts = {
    Layout{"chatml",
           "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
           "{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}"
           "<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"},
    Layout{"llama3",
           "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}"
           "{{ if .Prompt }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}"
           "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>"},
    Layout{"gemma",
           "<start_of_turn>user\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<end_of_turn>\n"
           "<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"},
    Layout{"tekken-v7",
           "{{ if .System }}[SYSTEM_PROMPT]{{ .System }}[/SYSTEM_PROMPT]{{ end }}[INST]{{ .Prompt }}[/INST]{{ .Response }}</s>"},
    Layout{
        "mistral-v7",
        "{{ if .System }}[SYSTEM_PROMPT] {{ .System }}[/SYSTEM_PROMPT]{{ end }}[INST] {{ .Prompt }}[/INST]{{ .Response }}</s>"},
};

// Llama 3.1 begins with a system turn whether or not there is a system text, and with dates in it. A template of one turn would
// write them in front of every turn; SYSTEM gives way to what a client sends.
std::string dated_llama3(const std::string& dates) {
  return cat("<|start_header_id|>system<|end_header_id|>\n\n", dates,
             "{{ .System }}<|eot_id|>{{ range .Messages }}{{ if ne .Role \"system\" }}<|start_header_id|>{{ .Role }}"
             "<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n");
}

// Before v7 the system text stands in front of the last question, which a template of one turn does not know.
std::string mistral(std::string_view open) {
  return cat("{{ range $i, $_ := .Messages }}{{ if eq .Role \"user\" }}", open,
             "{{ if $.System }}{{ if le (len (slice $.Messages $i)) 2 }}{{ $.System }}\n\n{{ end }}{{ end }}{{ .Content }}[/INST]"
             "{{ end }}{{ if eq .Role \"assistant\" }}{{ .Content }}</s>{{ end }}{{ end }}");
}

// For Served::chat; empty where it is none of these.
std::string template_of(const Served& served) {
  if (served.chat == "llama3" && !served.system.empty()) return dated_llama3(served.system);
  if (served.chat == "mistral" || served.chat == "tekken") return mistral(served.chat == "mistral" ? "[INST] " : "[INST]");
  const auto at =
      std::find_if(kLayouts.begin(), kLayouts.end(), [&](const Layout& layout) { return layout.name == served.chat; });
  return at == kLayouts.end() ? "" : std::string(at->text);
}

bool reads(const std::string& format) { return format.starts_with("gguf") && !is_base_alone(format); }

// Until 0.30, which runs llama.cpp's server for all (llm/llama_server.go), some families had an engine of Ollama's own: fs/ggml/
// ggml.go, OllamaEngineRequired. runner/ollamarunner took no adapter; `ollama create` did.
bool adapters_are_new(const model::ModelSpec& spec) {
  return spec.family == "gemma3" || spec.family == "qwen3" || spec.family == "qwen3_moe";
}

std::vector<Finding> findings(const ServingPlan& plan) {
  std::vector<Finding> findings = find_server("llama.cpp").findings(plan);
  for (Finding& finding : findings) {
    if (finding.topic == "peft")
      finding.detail = "not for this server: its own converter orders q and k differently; gguf-lora is";
    if (finding.topic == "gguf-lora" && finding.state == State::ok && adapters_are_new(plan.spec))
      finding.detail +=
          "; needs Ollama 0.30, the engine that ran this family before takes no adapter and says so at the first request";
  }
  return findings;
}

std::string file_of(const std::string& format) { return format + ".Modelfile"; }

std::string command(const Served& served, const std::string& format) {
  if (!reads(format)) return "";
  const std::string name = served.name + ":" + format;  // a tag: each file is a model of its own
  return cat("ollama create ", name, " -f serving/ollama/", file_of(format), " && ollama run ", name);
}

std::string modelfile(const Served& served, const std::string& format) {
  const auto seen_from_here = [](const std::string& path) { return path.starts_with('/') ? path : "../../" + path; };
  const std::string path = seen_from_here(artifact_of(format));
  std::string text;
  if (format == "gguf-lora")
    text = cat(adapters_are_new(served.plan.spec) ? "# Needs Ollama 0.30: before, this family ran without adapters.\n" : "",
               "# The base, or its name in Ollama.\nFROM ", seen_from_here(gguf_base(served)), "\nADAPTER ", path, "\n");
  else
    text = cat("FROM ", path, "\n");
  const auto quoted = [&](const char* key, std::string_view value) {
    if (value.find("\"\"\"") == std::string::npos) text += cat(key, " \"\"\"", value, "\"\"\"\n");
  };
  const bool dated = served.chat == "llama3" && !served.system.empty();
  if (const std::string layout = template_of(served); !layout.empty()) quoted("TEMPLATE", layout);
  if (!served.system.empty() && !dated) quoted("SYSTEM", served.system);
  if (const std::int64_t limit = context_limit(served.plan.spec); limit > 0) text += cat("PARAMETER num_ctx ", limit, "\n");
  for (const std::string& stop : served.stop)
    if (stop.find('"') == std::string::npos) text += cat("PARAMETER stop \"", stop, "\"\n");
  return text;
}

std::vector<ServingFile> files(const Served& served) {
  std::vector<ServingFile> files;
  for (const std::string& format : served.plan.formats)
    if (reads(format)) files.push_back({"ollama/" + file_of(format), modelfile(served, format)});
  return files;
}

}  // namespace

extern const Server ollama;
const Server ollama = {.name = "ollama", .title = "Ollama", .findings = findings, .command = command, .files = files};

}  // namespace graft::exports
