#include "export/probe.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/stop.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kTop = 5;
constexpr std::uint64_t kMaxBytes = 64 << 20;
constexpr double kLeast = 1e-6;  // of the probability that no listed token has

constexpr std::array kTexts = {
    "The capital of France is",
    "Water boils at a temperature of",
    "To restart the service, run the following command:",
    "The most important thing to check before an upgrade is",
    "If the disk is full, you should",
    "A backup is only useful when",
    "1, 2, 3, 4, 5,",
    "def add(a, b):\n    return",
    "SELECT name FROM users WHERE",
    "{\"name\": \"example\", \"version\":",
    "Dear customer,\n\nthank you for",
    "In the year 1969,",
    "The opposite of cold is",
    "Der Vertrag beginnt am",
    "La réunion commence à",
    "El siguiente paso es",
};

const Json& member(const Json& json, const char* key, const std::string& origin) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (found == json.end()) throw FormatError(cat(origin, ": ", key, " is missing"));
  return *found;
}
const Json& first(const Json& list, const char* what, const std::string& origin) {
  if (!list.is_array() || list.empty()) throw FormatError(cat(origin, ": ", what, " is not a list with an element"));
  return list.front();
}

double log_probability(const Json& value, const std::string& origin) {
  if (!value.is_number() || !(value.get<double>() <= 1e-3))
    throw FormatError(cat(origin, ": a log probability is no number up to 0"));
  return value.get<double>();
}

// vLLM names tokens "token_id:17" when asked to.
std::int32_t id_of(const std::string& name, const std::string& origin) {
  constexpr std::string_view prefix = "token_id:";
  std::int32_t id = -1;
  if (name.starts_with(prefix)) std::from_chars(name.data() + prefix.size(), name.data() + name.size(), id);
  if (id < 0)
    throw FormatError(cat(origin, ": the server names tokens by their text, ", quote(name),
                          "; the request's return_tokens_as_token_ids must reach it"));
  return id;
}

LogProbs answer_of(const Json& response, const std::string& origin) {
  if (const auto error = response.find("error"); response.is_object() && error != response.end())
    throw FormatError(cat(origin, ": the server answered with an error, ", error->dump().substr(0, 200),
                          "; each request names the \"model\" that the server has"));
  const Json& logprobs = member(first(member(response, "choices", origin), "choices", origin), "logprobs", origin);
  if (!logprobs.is_object())
    throw FormatError(cat(origin, ": the answer has no log probabilities; the server must be asked for them (\"logprobs\")"));
  LogProbs top;
  if (const auto content = logprobs.find("content"); content != logprobs.end()) {  // llama-server
    for (const Json& token : member(first(*content, "content", origin), "top_logprobs", origin))
      top[json_get<std::int32_t>(token, "id", origin)] = log_probability(member(token, "logprob", origin), origin);
  } else {
    const Json& tokens = first(member(logprobs, "top_logprobs", origin), "top_logprobs", origin);
    for (const auto& [name, value] : tokens.items()) top[id_of(name, origin)] = log_probability(value, origin);
  }
  if (top.empty()) throw FormatError(cat(origin, ": the answer lists no token"));
  return top;
}

double divergence(const LogProbs& expected, const LogProbs& answered) {
  const double least =
      std::min_element(answered.begin(), answered.end(), [](auto& a, auto& b) { return a.second < b.second; })->second;
  double sum = 0, p_listed = 0, q_listed = 0;
  for (const auto& [id, logprob] : expected) {
    const auto found = answered.find(id);
    const double log_q = found == answered.end() ? least : found->second, p = std::exp(logprob);
    sum += p * (logprob - log_q);
    p_listed += p;
    q_listed += std::exp(log_q);
  }
  const double p = std::max(kLeast, 1 - p_listed), q = std::max(kLeast, 1 - q_listed);
  return std::max(0.0, sum + p * std::log(p / q));
}

}  // namespace

std::vector<std::vector<std::int32_t>> probe_prompts(const data::Tokenizer& tokenizer) {
  std::vector<std::vector<std::int32_t>> prompts;
  for (const char* text : kTexts) {
    std::vector<std::int32_t>& ids = prompts.emplace_back();
    if (tokenizer.special().add_bos && tokenizer.special().bos >= 0) ids.push_back(tokenizer.special().bos);
    tokenizer.encode(text, ids);
  }
  return prompts;
}

ProbedModel probe(const std::string& format, const std::string& artifact, model::Decoder& decoder,
                  std::span<const std::vector<std::int32_t>> prompts) {
  ProbedModel model{format, artifact, {}};
  for (const std::vector<std::int32_t>& prompt : prompts) {
    throw_if_stopped();
    auto cache = decoder.make_cache(static_cast<std::int64_t>(prompt.size()));
    const at::Tensor logits = decoder.logits_next(prompt, cache).to(at::kDouble);
    ProbeAnswer& answer = model.answers.emplace_back();
    answer.logsumexp = at::logsumexp(logits, 0).item<double>();
    const auto [values, ids] = logits.topk(std::min(kTop, logits.numel()));
    for (std::int64_t i = 0; i < ids.numel(); ++i)
      answer.top[static_cast<std::int32_t>(ids[i].item<std::int64_t>())] = values[i].item<double>() - answer.logsumexp;
  }
  return model;
}

Artifact write_probe(const fs::path& directory, const Source& source, std::span<const std::vector<std::int32_t>> prompts,
                     std::span<const ProbedModel> models) {
  std::string requests, expected;
  for (const std::vector<std::int32_t>& prompt : prompts)
    requests +=
        Json{{"prompt", prompt}, {"max_tokens", 1}, {"temperature", 0}, {"logprobs", kTop}, {"return_tokens_as_token_ids", true}}
            .dump() +
        "\n";
  for (const ProbedModel& model : models)
    for (std::size_t i = 0; i < model.answers.size(); ++i) {
      Json top = Json::array();
      for (const auto& [id, logprob] : model.answers[i].top)
        top.push_back({{"id", id}, {"logprob", static_cast<float>(logprob)}});
      expected += Json{{"format", model.format},
                       {"artifact", model.artifact},
                       {"request", i},
                       {"logsumexp", static_cast<float>(model.answers[i].logsumexp)},
                       {"top", top}}
                      .dump() +
                  "\n";
    }
  const DirectoryLock lock(directory);
  Artifact artifact{.format = kProbe, .path = directory / kProbe, .source = source, .sha256 = {}, .files = {}};
  DirectoryWriter staging(artifact.path);
  write_file(staging.path() / "requests.jsonl", requests);
  write_file(staging.path() / "expected.jsonl", expected);
  measure(staging.path(), artifact);
  staging.commit();
  Manifest(directory).record(artifact);
  return artifact;
}

std::vector<ProbedModel> read_probe(const fs::path& directory) {
  const fs::path file = directory / kProbe / "expected.jsonl";
  std::vector<ProbedModel> models;
  std::size_t number = 0;
  for (const std::string& line : read_lines(file, kMaxBytes)) {
    const std::string origin = cat(file.string(), ":", ++number);
    const Json json = parse_json(line, origin);
    const auto format = json_get<std::string>(json, "format", origin);
    if (models.empty() || models.back().format != format)
      models.push_back({format, json_get<std::string>(json, "artifact", origin), {}});
    if (json_get<std::uint64_t>(json, "request", origin) != models.back().answers.size())
      throw FormatError(cat(origin, ": request ", models.back().answers.size(), " is expected here"));
    ProbeAnswer& answer = models.back().answers.emplace_back();
    answer.logsumexp = json_get<double>(json, "logsumexp", origin);
    for (const Json& token : json_get<Json>(json, "top", origin))
      answer.top[json_get<std::int32_t>(token, "id", origin)] = log_probability(member(token, "logprob", origin), origin);
  }
  if (models.empty()) throw UserError(cat(file.string(), ": no probe was written; `graft probe` does"));
  return models;
}

std::vector<LogProbs> read_answers(const fs::path& file) {
  if (!fs::is_regular_file(file)) throw UserError(cat(file.string(), ": no such file"));
  std::vector<LogProbs> answers;
  std::size_t number = 0;
  std::istringstream lines(read_file(file, kMaxBytes));  // written by a script, so the last may end without a newline
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;  // curl, then echo
    const std::string origin = cat(file.string(), ":", number);
    answers.push_back(answer_of(parse_json(line, origin), origin));
  }
  return answers;
}

double divergence(const ProbedModel& expected, std::span<const LogProbs> answers) {
  if (answers.size() != expected.answers.size())
    throw DataError(cat("there are ", answers.size(), " answers to ", expected.answers.size(), " requests"));
  double sum = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) sum += divergence(expected.answers[i].top, answers[i]);
  return sum / static_cast<double>(answers.size());
}

}  // namespace graft::exports
