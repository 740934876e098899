#include "export/serving.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "export/exporter.h"
#include "export/manifest.h"

namespace graft::exports {
namespace {

constexpr const char* kFolder = "serving";

constexpr const char* kNoServer =
    "no server loads what was exported: an adapter needs its base, peft a directory (export hf-base too: vLLM, transformers), "
    "gguf-lora a GGUF file (export gguf-base-bf16 too: llama.cpp, Ollama)";

// Lines of a text as Markdown's code.
std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? "\n    " : std::string(1, c);
  return out + "\n";
}

std::string readme(const Served& served) {
  std::string text = cat("# Serving ", served.name,
                         "\n\nWritten by graft " GRAFT_VERSION
                         " for what lies in this export directory. Run the commands there; in a container, mount it at /models "
                         "and the base of the adapter at /base.\n");
  bool any = false;
  for (const Server* server : all_servers()) {
    const Served offer = offered(*server, served);
    std::string commands, requests, refusals;
    for (const std::string& format : offer.plan.formats) {
      const std::string command = server->command(offer, format);
      if (command.empty()) continue;
      commands += indented(command);
      if (server->request == nullptr) continue;
      if (const std::string request = indented(server->request(offer, format)); requests.find(request) == std::string::npos)
        requests += request;
    }
    for (const Finding& finding : server->findings(served.plan))
      if (finding.state == State::fault) refusals += cat("\nNot ", finding.topic, ": ", finding.detail, ".\n");
    if (commands.empty() && refusals.empty()) continue;
    text += cat("\n## ", server->title, "\n", commands.empty() ? "" : "\n", commands, requests.empty() ? "" : "\nTo try it:\n\n",
                requests, refusals);
    any = any || !commands.empty();
  }
  if (!any) {
    log::warn("export", kNoServer);
    return cat(text, "\nAs it stands, ", kNoServer, ".\n");
  }
  return text;
}

}  // namespace

fs::path write_serving(const fs::path& directory, Served served) {
  const DirectoryLock lock(directory);
  served.plan.formats.clear();
  Manifest manifest(directory);
  for (const Artifact& artifact : manifest.artifacts()) {
    const bool known = std::any_of(all_formats().begin(), all_formats().end(),
                                   [&](const Exporter* exporter) { return exporter->name == artifact.format; });
    if (!known) continue;  // an older program may know others
    if (artifact.source.adapter == served.adapter || is_base_alone(artifact.format))
      served.plan.formats.push_back(artifact.format);
    else
      log::warn("export", artifact.path.string(), " was made from another adapter, ", served_name(served.name),
                " is not served with it; export ", artifact.format, " again, or remove it");
  }
  if (served.plan.formats.empty()) {
    fs::remove_all(directory / kFolder);
    manifest.record_serving();
    return {};
  }
  DirectoryWriter staging(directory / kFolder);
  write_file(staging.path() / "README.md", readme(served));
  if (!served.jinja.empty()) write_file(staging.path() / "chat_template.jinja", served.jinja);
  for (const Server* server : all_servers()) {
    if (server->files == nullptr) continue;
    for (const ServingFile& file : server->files(offered(*server, served))) {
      graft::create_directories((staging.path() / file.name).parent_path());
      write_file(staging.path() / file.name, file.text);
    }
  }
  staging.commit();
  manifest.record_serving();
  return directory / kFolder / "README.md";
}

std::string served_name(const std::string& name) {
  std::string clean;
  for (const unsigned char c : name)
    clean += std::isalnum(c) || c == '-' || c == '.' || c == '_' ? static_cast<char>(std::tolower(c)) : '-';
  const auto first = clean.find_first_not_of("-._");
  return first == std::string::npos ? "model" : clean.substr(first);
}

}  // namespace graft::exports
