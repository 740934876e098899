// A probe of a served model: short requests, and what the exported files answer to them. A server is asked the same with curl,
// and its answers are compared, after deployment and without graft on the server.
//
//   probe/requests.jsonl   a body for POST /v1/completions on each line (vLLM, llama-server): token ids in, the most likely
//                          next tokens with their log probabilities out
//   probe/expected.jsonl   {"format": "hf", "artifact": "<id>", "request": 0, "logsumexp": 17.1, "top": [{"id", "logprob"}]}
//                          for each request and each artifact; format "base": the base without the adapter
//
// The prompts are this program's own, the same for every run: nothing of the documents or the config is in these files.
// Logits are f32, log probabilities natural.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "export/manifest.h"
#include "model/decoder.h"

namespace graft::exports {

inline constexpr const char* kProbe = "probe";  // its format and directory in the manifest

using LogProbs = std::map<std::int32_t, double>;  // of the most likely tokens

struct ProbeAnswer {
  double logsumexp = 0;  // of all logits; logit = log probability + logsumexp
  LogProbs top;
};
struct ProbedModel {
  std::string format, artifact;  // Artifact::id(); empty for the base
  std::vector<ProbeAnswer> answers;
};

std::vector<std::vector<std::int32_t>> probe_prompts(const data::Tokenizer& tokenizer);
ProbedModel probe(const std::string& format, const std::string& artifact, model::Decoder& decoder,
                  std::span<const std::vector<std::int32_t>> prompts);

// Writes directory/probe and records it in the manifest. `source`: what the probed artifacts were made from.
Artifact write_probe(const std::filesystem::path& directory, const Source& source,
                     std::span<const std::vector<std::int32_t>> prompts, std::span<const ProbedModel> models);
// FormatError when it is malformed.
std::vector<ProbedModel> read_probe(const std::filesystem::path& directory);

// A response on each line, in the order of the requests. FormatError for one without log probabilities by token id.
std::vector<LogProbs> read_answers(const std::filesystem::path& file);

// KL(expected || answered) in nats, mean over the requests. Tokens that only one side lists are taken together; an expected one
// that the server does not list counts as its least likely. So it is at most the true divergence, and 0 for equal answers.
// DataError when there are not as many answers as requests.
double divergence(const ProbedModel& expected, std::span<const LogProbs> answers);

}  // namespace graft::exports
