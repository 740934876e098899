#include "cli/engine/servers.h"

#include <algorithm>

#include "cli/engine/prompt.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"
#include "export/exporter.h"
#include "export/manifest.h"
#include "export/serving.h"

namespace graft::cli {
namespace {

exports::ServingPlan plan_of(const Session& session, const lora::LoraConfig& lora, std::vector<std::string> modules) {
  return {.spec = session.base->spec(),
          .lora = lora,
          .modules = std::move(modules),
          .formats = {},
          .base_is_gguf = session.base->is_gguf(),
          .tensor_parallel = session.config.export_.tensor_parallel};
}

// Before training.
exports::ServingPlan plan_of(const Session& session, const std::vector<std::string>& formats) {
  exports::ServingPlan plan =
      plan_of(session, session.config.lora, lora::match_targets(session.config.lora, lora::linear_names(*session.base)));
  for (const std::string& format : formats) plan.formats.emplace_back(exports::find_exporter(format).name);
  return plan;
}

exports::ServingPlan plan_of(const Session& session, const lora::AdapterSet& adapter) {
  std::vector<std::string> modules;
  for (const auto& part : adapter.adapters) modules.push_back(part->module);
  return plan_of(session, adapter.config, std::move(modules));
}

// A path as seen from the export directory; absolute when the user's is.
std::string from_exports(const Session& session, const fs::path& path) {
  return path.is_absolute() ? path.string() : fs::absolute(path).lexically_proximate(fs::absolute(session.export_dir())).string();
}

// Mistral's layout has a turn for the system text from v7 on, and no spaces beside the markers in Tekken.
std::string mistral_layout(const data::ChatTemplate& chat, const data::Tokenizer& tokenizer) {
  const auto marker = tokenizer.find_token("[SYSTEM_PROMPT]");
  const std::vector<std::int32_t> ids = chat.render({{"system", "a"}, {"user", "b"}}, /*add_prompt=*/true).ids;
  const bool turn = marker && std::find(ids.begin(), ids.end(), *marker) != ids.end();
  return cat(tokenizer.kind() == "bpe" ? "tekken" : "mistral", turn ? "-v7" : "");
}

// How conversations are laid out; nothing when the base is no chat model, or in a way that graft does not know. Where it ships no
// template, a layout that fits its tokens counts when it was asked for or trained on.
void describe_chat(const Session& session, exports::Served& served) {
  const data::Tokenizer& tokenizer = *session.tokenizer;
  served.chat_template = !tokenizer.chat_template().empty();
  const auto chat = chat_layout(tokenizer, session.config);
  if (chat == nullptr) return;
  if (!served.chat_template) {
    if (session.config.corpus.chat_template == "auto" && !session.trained_on_conversations()) return;
    served.jinja = chat->jinja();
    log::warn("export",
              "the base ships no chat template, so that hf and GGUF files hold none: serving/chat_template.jinja has the ",
              chat->name(), " layout, and the commands in serving/README.md name it");
  }
  served.chat = chat->name() == "mistral" ? mistral_layout(*chat, tokenizer) : std::string(chat->name());
  served.system = chat->default_system();
  for (const std::int32_t id : chat->stop_ids()) served.stop.push_back(tokenizer.decode({&id, 1}, true));
}

}  // namespace

std::vector<std::int32_t> stop_ids(const Session& session) {
  const auto chat = chat_layout(*session.tokenizer, session.config);
  return chat != nullptr && session.trained_on_conversations() ? chat->stop_ids() : std::vector<std::int32_t>();
}

std::vector<exports::Finding> server_findings(const Session& session, const std::string& server) {
  return exports::findings_of(exports::find_server(server), plan_of(session, session.config.export_.formats));
}

void check_servers(const Session& session, const std::vector<std::string>& formats) {
  std::string problems;
  const bool all = formats == session.config.export_.formats;  // else they join what lies there: one may be for another server
  std::vector<std::string> planned = formats;
  if (!all && !session.config.export_.serve.empty()) {
    const exports::Manifest there(session.export_dir());
    for (const exports::Artifact& artifact : there.artifacts())
      if (exports::is_base_alone(artifact.format)) planned.push_back(artifact.format);
  }
  for (const std::string& name : session.config.export_.serve) {
    const exports::Server& server = exports::find_server(name);
    const exports::ServingPlan plan = plan_of(session, planned);
    for (const exports::Finding& finding : all ? exports::findings_of(server, plan) : server.findings(plan))
      if (finding.state == exports::State::fault)
        problems += cat(problems.empty() ? "" : "\n", "export.serve ", name, ": ", finding.topic, ": ", finding.detail);
  }
  if (!problems.empty()) throw ConfigError(problems);
}

bool replaces(const Session& session, const std::string& other, const std::string& format) {
  const auto& servers = session.config.export_.serve;
  return std::all_of(servers.begin(), servers.end(), [&](const std::string& server) {
    const auto findings = exports::find_server(server).findings(plan_of(session, {format, other}));
    const auto reads = [&](const std::string& name) {
      return std::any_of(findings.begin(), findings.end(), [&](const exports::Finding& finding) {
        return finding.topic == name && finding.state == exports::State::ok;
      });
    };
    return reads(other) || !reads(format);
  });
}

fs::path write_serving(const Session& session, const lora::AdapterSet& adapter) {
  exports::Served served = {.plan = plan_of(session, adapter),
                            .name = exports::served_name(model_name(session)),
                            .adapter = exports::adapter_hash(adapter),
                            .base = from_exports(session, session.config.base),
                            .stop_ids = stop_ids(session)};
  describe_chat(session, served);
  return exports::write_serving(session.export_dir(), std::move(served));
}

std::string serving_line(const fs::path& readme) {
  return readme.empty() ? "" : cat("how to serve them: ", readme.string(), "\n");
}

}  // namespace graft::cli
