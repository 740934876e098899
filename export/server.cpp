#include "export/server.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/error.h"
#include "core/nearest.h"
#include "export/exporter.h"

namespace graft::exports {

const Server& find_server(const std::string& name) {
  std::vector<std::string> known;
  std::string list;
  for (const Server* server : all_servers()) {
    if (server->name == name) return *server;
    known.emplace_back(server->name);
    list += cat(list.empty() ? "" : ", ", server->name);
  }
  const std::string nearest = nearest_name(name, known);
  throw ConfigError(cat("server ", quote(name), " is not known; ",
                        nearest.empty() ? "there are " : cat("did you mean '", nearest, "'? There are "), list));
}

std::string_view name_of(State state) { return state == State::ok ? "ok" : state == State::note ? "note" : "fault"; }

std::vector<Finding> findings_of(const Server& server, const ServingPlan& plan) {
  std::vector<Finding> findings = server.findings(plan);
  const bool served = std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) {
    return finding.state == State::ok && has_format(plan.formats, finding.topic);
  });
  if (!served) findings.push_back({"formats", State::fault, cat(server.title, " reads none of export.formats")});
  if (const std::int64_t limit = context_limit(plan.spec); limit > 0)
    findings.push_back({"longrope", State::note,
                        cat("beyond ", limit,
                            " tokens of context every request would be read with the long factors; commands "
                            "stay there")});
  return findings;
}

Served offered(const Server& server, Served served) {
  for (const Finding& finding : server.findings(served.plan))
    if (finding.state == State::fault) std::erase(served.plan.formats, finding.topic);
  return served;
}

std::string shell_word(const std::string& text) {
  const bool plain =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+,:@") == std::string::npos;
  if (plain && !text.empty()) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

bool has_format(const std::vector<std::string>& formats, std::string_view name) {
  return std::find(formats.begin(), formats.end(), name) != formats.end();
}

std::string artifact_of(const std::string& format) { return artifact_name(find_exporter(format)); }

std::int64_t group_of(const std::string& format) {
  if (format.ends_with("fp8-block")) return 128;
  for (auto at = format.find("-g"); at != std::string::npos; at = format.find("-g", at + 1))  // "-gptq" is another
    if (at + 2 < format.size() && std::isdigit(static_cast<unsigned char>(format[at + 2])))
      return std::stoll(format.substr(at + 2));
  return 0;
}

bool adapts_head(const ServingPlan& plan) { return has_format(plan.modules, "lm_head"); }

bool adapts_experts(const ServingPlan& plan) {
  return std::any_of(plan.modules.begin(), plan.modules.end(),
                     [](const std::string& module) { return module.find(".experts.") != std::string::npos; });
}

std::string adapter_base(const Served& served) {
  return has_format(served.plan.formats, "hf-base") ? "hf-base" : shell_word(served.base);
}

std::int64_t context_limit(const model::ModelSpec& spec) {
  return spec.rope.scaling == model::RopeScaling::longrope ? spec.rope.original_context : 0;
}

bool is_base_alone(std::string_view format) { return format == "hf-base" || format == "gguf-base-bf16"; }

std::string gguf_base(const Served& served) {
  return has_format(served.plan.formats, "gguf-base-bf16") ? artifact_of("gguf-base-bf16") : served.base;
}

std::string chat_template_option(const Served& served, const char* option) {
  return served.jinja.empty() ? "" : cat(" ", option, " serving/chat_template.jinja");
}

std::int64_t vllm_rank(std::int64_t rank) {
  constexpr std::array<std::int64_t, 9> kChoices = {1, 8, 16, 32, 64, 128, 256, 320, 512};  // vllm/config/lora.py, MaxLoRARanks
  const auto at = std::find_if(kChoices.begin(), kChoices.end(), [&](std::int64_t choice) { return choice >= rank; });
  return at == kChoices.end() ? 0 : *at;
}

std::string shard_refusal(const ServingPlan& plan, const std::string& format) {
  const std::int64_t shards = plan.tensor_parallel, group = group_of(format);
  const model::ModelSpec& spec = plan.spec;
  if (shards == 1) return "";
  if (spec.heads % shards != 0) return cat(shards, " devices do not divide ", spec.heads, " heads");
  if (spec.kv_heads % shards != 0 && shards % spec.kv_heads != 0)
    return cat(shards, " devices do not divide ", spec.kv_heads, " key and value heads, nor they the devices");
  // o_proj and down_proj are cut along their rows.
  const std::int64_t ffn = spec.moe.experts > 0 ? spec.moe.ffn : spec.ffn;
  for (const auto& [what, columns] : {std::pair{"o_proj", spec.heads * spec.head_dim}, {"down_proj", ffn}}) {
    if (columns % shards != 0) return cat(shards, " devices do not divide the ", columns, " columns of ", what);
    if (group > 0 && columns / shards % group != 0)
      return cat("a device's share of ", what, " has ", columns / shards, " columns, which groups of ", group, " do not divide");
  }
  // q, k and v are cut along their columns of heads; blocks are of rows too. gate and up have as many rows as down has columns.
  if (format.ends_with("fp8-block"))
    for (const auto& [what, heads] :
         {std::pair{"q", spec.heads / shards}, {"k and v", std::max<std::int64_t>(1, spec.kv_heads / shards)}})
      if (const std::int64_t rows = heads * spec.head_dim; rows % group != 0)
        return cat("a device's share of ", what, " has ", rows, " rows, which blocks of ", group, " do not divide");
  return "";
}

}  // namespace graft::exports
