#include <iostream>

#include "cli/engine/familiar.h"
#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

// The corpus is ids; to a model whose ids mean other text it is noise, and its score looks like one all the same.
void check_tokenizer(const Session& session, const std::string& model) {
  const auto own = data::load_tokenizer(model);
  const auto id = data::differing_id(*session.tokenizer, *own);
  if (!id) return;
  throw DataError(cat(model, ": its tokenizer is another than that of the base ", session.config.base,
                      ", which made the corpus: id ", *id, " is ", quote(data::text_of_id(*own, *id)), " in the one and ",
                      quote(data::text_of_id(*session.tokenizer, *id)),
                      " in the other; score it with a corpus of its own, --set base=", model, " --set corpus.dir=ANOTHER"));
}

// A model that is not the config's base: its values as they are in the file.
std::vector<Score> score_other(const Session& session, ScoreBook& book, const EvalOptions& options) {
  const Dtypes dtypes{at::kFloat, session.dtypes().compute};
  const auto weights = model::open_weights(options.model);
  if (weights->spec().vocab < session.tokenizer->vocab_size())
    throw DataError(cat(options.model, ": its vocabulary has ", weights->spec().vocab, " entries, the corpus was tokenized with ",
                        session.tokenizer->vocab_size(), "; score it with a corpus of its own tokenizer"));
  check_tokenizer(session, options.model);
  train::check_length("eval.length", session.config.eval.length, weights->spec());
  std::unique_ptr<lora::AdapterSet> adapter;
  if (!options.adapter.empty()) {
    adapter = lora::load_peft(options.adapter);
    lora::check_base(*adapter, *weights);
  }
  LazyDecoder decoder(*weights, dtypes);
  return book.scores(options.model, identity_of(*weights, adapter.get()), dtypes,
                     [&]() -> model::Decoder& { return decoder.with(adapter.get()); });
}

// Of base and adapted model what was computed before, for the comparison.
std::vector<Score> known_scores(const Session& session, ScoreBook& book, const lora::AdapterSet* adapter) {
  std::vector<Score> scores;
  const auto look_up = [&](const char* model, const lora::AdapterSet* with) {
    const std::string identity = identity_of(*session.base, with);
    if (!book.has_scores(identity, session.dtypes())) return;
    for (Score& score : book.scores(model, identity, session.dtypes(), {})) scores.push_back(std::move(score));
  };
  look_up("base", nullptr);
  if (adapter != nullptr) look_up("adapted", adapter);
  return scores;
}

// Of the row "adapted"; null when there is none. Where a --model is named, --adapter and --base are about that one.
std::unique_ptr<lora::AdapterSet> adapter_of(const Session& session, const EvalOptions& options) {
  const bool other = !options.model.empty();
  const std::string named = other ? "" : options.adapter;
  if ((options.base_only && !other) || (named.empty() && !session.has_adapter())) return nullptr;
  return session.adapter(named);
}

std::vector<Score> score_base(const Session& session, ScoreBook& book, const EvalOptions& options, lora::AdapterSet* adapter) {
  if (adapter == nullptr && !options.base_only)
    log::warn("eval", "there is no adapter in ", session.run_dir().string(), ": the base alone is scored (--base says so)");
  LazyDecoder decoder(*session.base, session.dtypes());
  return score_models(session, book, decoder, adapter);
}

}  // namespace

int graft_eval(const Context& context, const EvalOptions& options) {
  const Session session(context.config);
  train::check_length("eval.length", session.config.eval.length, session.base->spec());
  ScoreBook book(session);
  if (book.sets().empty())
    throw DataError(
        cat(context.config.corpus.dir,
            " has no held-out set; prepare it with corpus.heldout above 0 (it chooses by hash, and a larger one holds more), or "
            "give a source a set; known documents stay where they are: name another corpus.dir"));
  const std::unique_ptr<lora::AdapterSet> adapter = adapter_of(session, options);
  std::vector<Score> scores =
      options.model.empty() ? score_base(session, book, options, adapter.get()) : known_scores(session, book, adapter.get());
  if (!options.model.empty())
    for (Score& score : score_other(session, book, options)) scores.push_back(std::move(score));
  std::vector<Familiar> familiar;
  if (adapter != nullptr) familiar = familiar_documents(session, book, scores, *adapter);
  if (context.json) {
    Json list = Json::array();
    for (const Score& score : scores) list.push_back(score.json());
    print_json({{"scores", list}, {"familiar", json_of(familiar)}});
  } else {
    std::cout << score_table(scores) << text_of(familiar);
  }
  return kDone;
}

}  // namespace graft::cli
