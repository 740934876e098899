// A server is one file in export/servers/ that defines one Server: what it makes of the formats that graft writes, and how it is
// started with them. Facts and their sources: docs/formats.md.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lora/config.h"
#include "model/spec.h"

namespace graft::exports {

// What can be known before training, and of what was exported.
struct ServingPlan {
  const model::ModelSpec& spec;
  const lora::LoraConfig& lora;
  std::vector<std::string> modules;  // that get an adapter: "model.layers.0.self_attn.q_proj"
  std::vector<std::string> formats;  // Exporter::name of each
  bool base_is_gguf = false;
  std::int64_t tensor_parallel = 1;  // devices that share each matrix
};

enum class State { ok, note, fault };
std::string_view name_of(State state);

// A line of `graft doctor`.
struct Finding {
  std::string topic;  // a format, or what else it is about
  State state;
  std::string detail;
};

// What is served from an export directory. Commands are run in that directory; in a container it is mounted at /models,
// and the base of the adapters at /base.
struct Served {
  ServingPlan plan;                         // of the adapter; formats: what lies in the directory
  std::string name;                         // of the model: letters, digits, '-', '.', '_'
  std::string adapter;                      // adapter_hash() of what is served
  std::string base = {};                    // of the adapters: absolute, or as seen from the export directory
  std::string chat = {};                    // data::ChatTemplate::name(), or a kind of Mistral's; or empty
  std::string system = {};                  // its default system text; or empty
  std::vector<std::string> stop = {};       // texts that end an answer
  std::vector<std::int32_t> stop_ids = {};  // ExportRequest::stop_ids
  bool chat_template = false;               // the files hold one
  std::string jinja = {};                   // data::ChatTemplate::jinja() for files that hold none; else servers continue texts
};

struct ServingFile {
  std::string name, text;  // relative to the folder of serving files
};

struct Server {
  std::string_view name, title;  // what the user writes: "llama.cpp"; what it is called
  // Each format it reads, or refuses (a fault), or does not read at all (a note).
  std::vector<Finding> (*findings)(const ServingPlan& plan);
  // The commands that serve a format, one a line; empty when it does not read it. Here and below, served is what offered()
  // leaves: no format that `findings` refuses.
  std::string (*command)(const Served& served, const std::string& format);
  // What to send where a format is served, one a line; null: nothing.
  std::string (*request)(const Served& served, const std::string& format) = nullptr;
  std::vector<ServingFile> (*files)(const Served& served) = nullptr;  // null: it needs none
};

std::span<const Server* const> all_servers();
const Server& find_server(const std::string& name);  // ConfigError with the known names and the nearest

// Findings of one server, and one more fault when it reads none of the formats.
std::vector<Finding> findings_of(const Server& server, const ServingPlan& plan);

// `served` without the formats that the server refuses.
Served offered(const Server& server, Served served);

std::string shell_word(const std::string& text);  // as a shell reads it back
bool has_format(const std::vector<std::string>& formats, std::string_view name);
std::string artifact_of(const std::string& format);  // file or directory name of a format
// Tokens beyond which a server would take the long factors for every request (longrope), which short documents were not trained
// and scored with (model/rope_table.h): commands keep its context there. 0: no such limit.
std::int64_t context_limit(const model::ModelSpec& spec);
std::int64_t group_of(const std::string& format);  // 64 of "ct-w4a16-g64", 128 of blocks of 128 x 128; 0 when rows are not cut
bool adapts_head(const ServingPlan& plan);
bool adapts_experts(const ServingPlan& plan);
bool is_base_alone(std::string_view format);     // beside the adapters that are served on it
std::string adapter_base(const Served& served);  // the directory that adapters are served on, as a shell reads it
std::string gguf_base(const Served& served);     // the file that gguf-lora is served on
// " --option serving/chat_template.jinja" where Served::jinja is written there; else empty.
std::string chat_template_option(const Served& served, const char* option);
std::int64_t vllm_rank(std::int64_t rank);  // the least max_lora_rank that vLLM knows and that holds it; 0 when none does
// Why `plan.tensor_parallel` devices cannot share the matrices of a model of this format; empty when they can.
std::string shard_refusal(const ServingPlan& plan, const std::string& format);

}  // namespace graft::exports
