#include "cli/engine/scores.h"

#include <algorithm>
#include <limits>

#include "cli/engine/prompt.h"
#include "core/error.h"
#include "core/log.h"
#include "data/overlap.h"
#include "eval/generate.h"
#include "export/manifest.h"
#include "model/compute_type.h"

namespace graft::cli {
namespace {

double number(const Json& json, const char* key, const std::string& origin) {
  if (json.contains(key) && json[key].is_null()) return std::numeric_limits<double>::quiet_NaN();  // JSON has no NaN
  return json_get<double>(json, key, origin);
}

// JSON has no NaN.
std::vector<double> numbers(const Json& json, const char* key, const std::string& origin) {
  std::vector<double> values;
  for (const Json& value : json_get_or<std::vector<Json>>(json, key, {}, origin))
    values.push_back(value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN());
  return values;
}

Score from_json(const std::string& model, const Json& json, const std::string& origin) {
  return {.model = model,
          .set = json_get<std::string>(json, "set", origin),
          .bits_per_byte = number(json, "bits_per_byte", origin),
          .perplexity = number(json, "perplexity", origin),
          .nll = number(json, "nll", origin),
          .tokens = json_get<std::int64_t>(json, "tokens", origin),
          .documents = json_get<std::int64_t>(json, "documents", origin),
          .bytes = json_get<std::int64_t>(json, "bytes", origin),
          .kl = json.contains("kl") ? std::optional(number(json, "kl", origin)) : std::nullopt,
          .kl_tokens = json_get_or<std::int64_t>(json, "kl_tokens", 0, origin),
          .document_nll = numbers(json, "document_nll", origin),
          .document_index = json_get_or<std::vector<std::int64_t>>(json, "document_index", {}, origin)};
}

}  // namespace

Json Score::json() const {
  Json json = {{"model", model}, {"set", set},       {"bits_per_byte", bits_per_byte}, {"perplexity", perplexity},
               {"nll", nll},     {"tokens", tokens}, {"documents", documents},         {"bytes", bytes}};
  if (kl) json.update({{"kl", *kl}, {"kl_tokens", kl_tokens}});
  return json;
}

const Score* find_score(const std::vector<Score>& scores, const std::string& model, const std::string& set) {
  const auto found = std::find_if(scores.begin(), scores.end(), [&](auto& s) { return s.model == model && s.set == set; });
  return found == scores.end() ? nullptr : &*found;
}

std::string identity_of(const model::WeightSource& weights, const lora::AdapterSet* adapter) {
  const std::string base = cat(weights.identity(), " ", sha256_hex(weights.hf_config().dump()));
  return adapter == nullptr ? base : cat(base, "+", exports::adapter_hash(*adapter));
}

ScoreBook::ScoreBook(const Session& session) : session_(session) {
  std::map<std::string, std::vector<data::ShardRecord>> shards;
  for (data::ShardRecord& record : data::read_manifest(session.config.corpus.dir))
    if (record.split != "train") shards[record.split].push_back(std::move(record));
  for (const auto& [set, records] : shards) snapshots_[set] = data::corpus_snapshot(records);

  const fs::path file = session.run_dir() / "scores.json";
  if (!fs::exists(file)) return;
  try {
    const Json book = read_json(file);
    for (const Json& score : json_get<Json>(book, "scores", file.string())) {
      from_json("", score, file.string());
      json_get_or<std::string>(score, "kl_to", "", file.string());
      scores_[json_get<std::string>(score, "key", file.string())] = score;
    }
    for (const Json& answer : json_get<Json>(book, "answers", file.string()))
      answers_[json_get<std::string>(answer, "key", file.string())] = json_get<std::string>(answer, "text", file.string());
    for (const Json& overlap : json_get_or<std::vector<Json>>(book, "overlaps", {}, file.string())) {
      json_get<std::vector<double>>(overlap, "shares", file.string());
      overlaps_[json_get<std::string>(overlap, "key", file.string())] = overlap;
    }
  } catch (const FormatError& error) {
    log::warn("eval", "scores are computed anew: ", error.what());
    scores_.clear();
    answers_.clear();
    overlaps_.clear();
  }
}

void ScoreBook::save() const {
  Json scores = Json::array(), answers = Json::array(), overlaps = Json::array();
  for (const auto& [key, score] : scores_) scores.push_back(score);
  for (const auto& [key, text] : answers_) answers.push_back({{"key", key}, {"text", text}});
  for (const auto& [key, overlap] : overlaps_) overlaps.push_back(overlap);
  graft::create_directories(session_.run_dir());
  write_file(session_.run_dir() / "scores.json", Json{{"scores", scores}, {"answers", answers}, {"overlaps", overlaps}}.dump(
                                                     1, ' ', false, Json::error_handler_t::replace) +
                                                     "\n");
}

std::vector<std::string> ScoreBook::sets() const {
  std::vector<std::string> names;
  for (const auto& [set, snapshot] : snapshots_) names.push_back(set);
  return names;
}

std::string ScoreBook::key(const std::string& identity, Dtypes dtypes, const std::string& what) const {
  return sha256_hex(
      cat(identity, "\n", model::name_of(dtypes.storage), " ", model::name_of(dtypes.compute), "\n", what, "\n", GRAFT_VERSION));
}

std::string ScoreBook::heldout_key(const std::string& identity, Dtypes dtypes, const std::string& set) const {
  const auto& eval = session_.config.eval;
  return key(identity, dtypes,
             cat("heldout by numbered document ", set, " ", snapshots_.at(set), " ", eval.length, " ", eval.max_tokens));
}

std::vector<Score> ScoreBook::scores(const std::string& model, const std::string& identity, Dtypes dtypes,
                                     const std::function<model::Decoder&()>& decoder, const Comparison* comparison) {
  std::vector<Score> result;
  for (const auto& [set, snapshot] : snapshots_) {
    const std::string key = heldout_key(identity, dtypes, set);
    const std::string to = comparison == nullptr ? "" : heldout_key(comparison->identity, dtypes, set);
    if (!scores_.count(key) ||
        (comparison != nullptr && json_get_or<std::string>(scores_[key], "kl_to", "", "scores.json") != to)) {
      const eval::Predictions* const reference = comparison == nullptr ? nullptr : &comparison->predictions().at(set);
      eval::Predictions sample;
      record(key, model, score(model, set, decoder(), reference == nullptr ? nullptr : &sample));
      if (reference != nullptr)
        scores_[key].update({{"kl", eval::divergence(*reference, sample)}, {"kl_tokens", sample.hidden.size(0)}, {"kl_to", to}});
      save();
    }
    result.push_back(from_json(model, scores_[key], "scores.json"));
  }
  return result;
}

bool ScoreBook::has_scores(const std::string& identity, Dtypes dtypes) const {
  return std::all_of(snapshots_.begin(), snapshots_.end(),
                     [&](const auto& each) { return scores_.count(heldout_key(identity, dtypes, each.first)) > 0; });
}

PredictionsBySet ScoreBook::predictions(const std::string& model, const std::string& identity, Dtypes dtypes,
                                        model::Decoder& decoder) {
  PredictionsBySet samples;
  for (const auto& [set, snapshot] : snapshots_)
    record(heldout_key(identity, dtypes, set), model, score(model, set, decoder, &samples[set]));
  save();
  return samples;
}

eval::HeldoutScore ScoreBook::score(const std::string& model, const std::string& set, model::Decoder& decoder,
                                    eval::Predictions* sample) const {
  const auto corpus = data::Corpus::open(session_.config.corpus.dir, set, session_.tokenizer->hash(), snapshots_.at(set));
  log::info("eval", "scoring ", model, " on ", set);
  return eval::heldout(decoder, *corpus, *session_.tokenizer, set, session_.config.eval.length, session_.config.eval.max_tokens,
                       sample);
}

void ScoreBook::record(const std::string& key, const std::string& model, const eval::HeldoutScore& score) {
  scores_[key] = {{"key", key}, {"model", model}};
  scores_[key].update(score.json());
  scores_[key].update({{"document_nll", score.document_nll}, {"document_index", score.document_index}});
}

void ScoreBook::remember(const std::string& model, const std::string& identity, Dtypes dtypes,
                         const std::vector<eval::HeldoutScore>& scores, const std::map<std::string, std::string>& pinned) {
  for (const auto& score : scores) {
    const auto today = snapshots_.find(score.set);
    const auto then = pinned.find(score.set);
    if (today != snapshots_.end() && then != pinned.end() && today->second == then->second)
      record(heldout_key(identity, dtypes, score.set), model, score);
  }
  save();
}

std::vector<double> ScoreBook::overlaps(const std::string& set, const std::vector<std::int64_t>& documents,
                                        const std::string& training) {
  std::string what = cat("overlap of ", set, " ", snapshots_.at(set), "\n", training, "\n", GRAFT_VERSION, "\n");
  for (const std::int64_t document : documents) what += cat(document, " ");
  const std::string key = sha256_hex(what);
  if (!overlaps_.count(key) || overlaps_[key]["shares"].size() != documents.size()) {
    const auto open = [&](const std::string& split, const std::string& pinned) {
      return data::Corpus::open(session_.config.corpus.dir, split, session_.tokenizer->hash(), pinned);
    };
    log::info("eval", "comparing ", set, " with the documents trained on");
    overlaps_[key] = {{"key", key},
                      {"set", set},
                      {"shares", data::overlap(*open(set, snapshots_.at(set)), documents, *open("train", training))}};
    save();
  }
  return overlaps_[key]["shares"].get<std::vector<double>>();
}

std::string ScoreBook::answer(const std::string& prompt, const std::string& identity, Dtypes dtypes,
                              const std::function<model::Decoder&()>& decoder) {
  const Prompt ids = make_prompt(*session_.tokenizer, prompt, "", chat_layout(*session_.tokenizer, session_.config));
  std::string what = cat("answer ", session_.config.eval.prompt_tokens);
  for (const std::int32_t id : ids.ids) what += cat(" ", id);
  const std::string key = this->key(identity, dtypes, what);
  if (!answers_.count(key)) {
    eval::GenerateOptions options;
    options.max_tokens = session_.config.eval.prompt_tokens;
    options.stop_ids = ids.stop_ids;
    answers_[key] = session_.tokenizer->decode(eval::generate(decoder(), ids.ids, options, {}));
    save();
  }
  return answers_[key];
}

}  // namespace graft::cli
