#include "data/prepare.h"

#include <algorithm>
#include <optional>
#include <regex>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/stop.h"
#include "data/control_literals.h"
#include "data/corpus_writer.h"
#include "data/document_reader.h"
#include "data/ordered_pool.h"

namespace graft::data {
namespace {

constexpr std::size_t kBytesInFlight = 32 << 20;  // of raw documents between the reader and the writer
constexpr std::int64_t kNamed = 20;               // documents of a reason that are named; further ones are counted
constexpr const char* kSingleToken = "single token";

// A document on its way to the writer, or the reason why it goes no further.
struct Prepared {
  TokenizedDocument tokenized;
  std::string origin, split, dropped, why;
  std::int64_t replaced = 0, control_literals = 0;
  std::size_t raw_bytes = 0;
};

// What needs no order and no shared state: text, hashes, tokens. Called from many threads.
class Preparer {
 public:
  Preparer(const CorpusConfig& config, const Tokenizer& tokenizer)
      : config_(config), tokenizer_(tokenizer), literals_(tokenizer) {}

  Prepared operator()(const RawDocument& raw) const {
    Prepared out;
    out.raw_bytes = raw.bytes.size();
    out.origin = raw.id;
    const SourceConfig& source = config_.sources[raw.source];
    const Extracted document = extract(raw, source, config_);
    out.replaced = document.replaced;
    out.dropped = document.dropped;
    out.why = document.why;
    out.tokenized.source = static_cast<std::uint16_t>(raw.source);
    if (!out.dropped.empty()) return out;
    const Hash128 id = hash128(document.id);
    out.tokenized.id_hash = id.high;
    out.split = !source.set.empty() ? source.set : in_heldout(id) ? "heldout" : "train";
    if (document.messages.empty()) {
      text(document.text, out);
    } else {
      conversation(document.messages, out);
    }
    return out;
  }

  // Made when it is first asked for: only corpora with conversations need one.
  const ChatTemplate& chat_template() const {
    std::call_once(template_made_, [this] {
      template_ = make_chat_template(tokenizer_, config_.chat_template);
      if (has_thinking(tokenizer_))
        log::warn("prepare", "the base's own chat template has a thinking block; conversations are laid out as ",
                  template_->name(),
                  " without one, so that answers are learned right behind the assistant's header: serve it with thinking off");
    });
    return *template_;
  }

 private:
  // By hash alone, so that a document stays on its side when others are added; and a larger share holds the smaller
  // one.
  bool in_heldout(const Hash128& id) const { return static_cast<double>(id.low) * 0x1p-64 < config_.heldout; }

  void text(const std::string& text, Prepared& out) const {
    out.control_literals = literals_.count(text);
    out.tokenized.content = hash128(text);
    out.tokenized.bytes = text.size();
    const SpecialTokens& special = tokenizer_.special();
    std::vector<std::int32_t>& ids = out.tokenized.ids;
    if (special.add_bos && special.bos >= 0) ids.push_back(special.bos);
    const std::size_t before = ids.size();
    tokenizer_.encode(text, ids);
    if (ids.size() - before < 2) out.dropped = kSingleToken;
    // The end is learned too, whether or not the model's own tokenizer adds it.
    if (special.eos >= 0 || special.eot >= 0) ids.push_back(special.eos >= 0 ? special.eos : special.eot);
  }

  void conversation(const std::vector<Message>& messages, Prepared& out) const {
    std::string content;
    for (const Message& message : messages) {
      out.control_literals += literals_.count(message.content);
      content += message.role + '\0' + message.content + '\0';
      if (message.role == "assistant") out.tokenized.bytes += message.content.size();  // what its loss is of
    }
    out.tokenized.content = hash128(content);
    try {
      RenderedChat chat = chat_template().render(messages, false);
      out.tokenized.ids = std::move(chat.ids);
      out.tokenized.loss = std::move(chat.loss);
      if (out.tokenized.loss.empty() || out.tokenized.bytes == 0) out.dropped = "conversation without an assistant's words";
    } catch (const DataError& error) {
      out.dropped = "conversation that the chat template cannot express";
      out.why = error.what();
    }
  }

  const CorpusConfig& config_;
  const Tokenizer& tokenizer_;
  const ControlLiterals literals_;
  mutable std::once_flag template_made_;
  mutable std::unique_ptr<ChatTemplate> template_;
};

void check_config(const CorpusConfig& config, const Tokenizer& tokenizer, std::int64_t model_vocab) {
  if (model_vocab > 0 && tokenizer.vocab_size() > model_vocab) {
    throw DataError(cat(tokenizer.origin().string(), ": the tokenizer has ", tokenizer.vocab_size(),
                        " ids, the base model embeds ", model_vocab, "; use the tokenizer that belongs to the base"));
  }
  if (config.sources.size() > 65535) throw ConfigError(cat(config.sources.size(), " sources; at most 65535 are possible"));
  const std::regex plain("[A-Za-z0-9_-]{0,64}");
  for (const SourceConfig& source : config.sources) {
    if (!std::regex_match(source.set, plain)) {
      throw ConfigError(cat("source ", source.path, ": set '", source.set, "' may hold letters, digits, - and _ only"));
    }
    if (source.set == "train")
      throw ConfigError(cat("source ", source.path, ": set 'train' is what is trained on; a set names held-out documents"));
    if (source.set == "heldout")
      throw ConfigError(cat("source ", source.path,
                            ": 'heldout' is what corpus.heldout chooses by hash; give the set another name, such as 'exam'"));
  }
}

// Of the documents read from a source, those that gave nothing; copies of others are none of them.
struct Losses {
  std::int64_t read = 0, dropped = 0;
};

void drop(const Prepared& document, PrepareReport& report) {
  const std::int64_t dropped = ++report.dropped_documents[document.dropped];
  const bool named = document.dropped != kEmpty && document.dropped != kTooShort && document.dropped != kSingleToken;
  if (named && dropped <= kNamed)
    log::warn("prepare", document.origin, ": dropped: ", document.dropped,
              document.why.empty() ? "" : cat(" (", document.why, ")"),
              dropped == kNamed ? "; further ones are counted only" : "");
  if (const auto tokens = static_cast<std::int64_t>(document.tokenized.ids.size()); tokens > 0)
    report.dropped_tokens[document.dropped] += tokens;
}

void count(const Prepared& document, Novelty novelty, PrepareReport& report) {
  if (novelty == Novelty::unchanged) {
    ++report.unchanged_documents;
  } else if (novelty == Novelty::duplicate) {
    ++report.dropped_documents["duplicate"];
    report.dropped_tokens["duplicate"] += static_cast<std::int64_t>(document.tokenized.ids.size());
  } else {
    const std::int64_t tokens = static_cast<std::int64_t>(document.tokenized.ids.size());
    ++report.documents_kept;
    report.changed_documents += novelty == Novelty::changed;
    report.tokens += tokens;
    report.bytes += static_cast<std::int64_t>(document.tokenized.bytes);
    report.tokens_by_split[document.split] += tokens;
    ++report.documents_by_split[document.split];
  }
}

}  // namespace

std::string reasons(const std::map<std::string, std::int64_t>& counts) {
  std::string out;
  for (const auto& [reason, count] : counts) out += cat(out.empty() ? "" : ", ", count, " ", reason);
  return out;
}

PrepareReport prepare(const CorpusConfig& asked, const Tokenizer& tokenizer, std::int64_t model_vocab, int threads) {
  check_config(asked, tokenizer, model_vocab);
  CorpusConfig config = asked;
  std::ranges::stable_partition(config.sources, [](const SourceConfig& source) { return !source.set.empty(); });
  DocumentReader reader(config.sources);
  const Preparer preparer(config, tokenizer);
  CorpusWriter writer(config, tokenizer, [&] { return layout_hash(preparer.chat_template()); });
  PrepareReport report;
  {
    Progress progress("prepare", reader.total_bytes(), "bytes");
    OrderedPool<Prepared> pool(std::max(1, threads));
    std::size_t in_flight = 0;
    std::vector<Losses> losses(config.sources.size());
    const auto accept = [&] {
      Prepared document = pool.take();
      in_flight -= document.raw_bytes;
      report.replaced_sequences += document.replaced;
      Losses& of_source = losses[document.tokenized.source];
      ++of_source.read;
      if (!document.dropped.empty()) {
        ++of_source.dropped;
        drop(document, report);
        return;
      }
      report.control_literals += document.control_literals;
      const Novelty novelty = writer.add(document.split, document.tokenized);
      count(document, novelty, report);
    };
    RawDocument raw;
    while (reader.next(raw)) {
      throw_if_stopped();
      ++report.documents_read;
      in_flight += raw.bytes.size();
      pool.give([&preparer, document = std::move(raw)] { return preparer(document); });
      while (in_flight > kBytesInFlight || pool.size() > 4096) accept();
      progress.update(reader.bytes_read(), cat(human_count(static_cast<double>(report.tokens)), " tokens"));
    }
    while (!pool.empty()) accept();
    progress.finish(cat(human_count(static_cast<double>(report.tokens)), " tokens"));
    for (const auto& [reason, count] : reader.dropped()) {
      report.documents_read += count;
      report.dropped_documents[reason] += count;
    }
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const std::int64_t lost = reader.lost()[i], read = losses[i].read + lost, dropped = losses[i].dropped + lost;
      if (dropped * 2 > read)
        log::warn("prepare", config.sources[i].path, ": ", dropped, " of ", read,
                  " documents were dropped; do its format and fields fit?");
    }
  }
  const bool known_only = report.unchanged_documents > 0 || report.dropped_documents.contains("duplicate");
  if (report.documents_kept == 0 && !known_only) {
    throw DataError(cat("no document is left of ", report.documents_read, " that were read: ", reasons(report.dropped_documents),
                        "; nothing was written"));
  }
  writer.finish();
  for (const ShardRecord& record : writer.records()) report.new_shards.push_back(record.file);
  if (report.documents_kept == 0) {
    std::map<std::string, std::int64_t> lost = report.dropped_documents;
    lost.erase("duplicate");
    if (lost.empty())
      log::info("prepare", "nothing new: all documents are in the corpus already");
    else
      log::warn("prepare", "nothing was added; dropped: ", reasons(lost));
  }
  return report;
}

Json PrepareReport::json() const {
  return {{"documents_read", documents_read},
          {"documents_kept", documents_kept},
          {"documents_changed", changed_documents},
          {"documents_unchanged", unchanged_documents},
          {"tokens", tokens},
          {"bytes", bytes},
          {"documents_dropped", dropped_documents},
          {"tokens_dropped", dropped_tokens},
          {"documents_by_split", documents_by_split},
          {"tokens_by_split", tokens_by_split},
          {"control_literals", control_literals},
          {"replaced_sequences", replaced_sequences},
          {"new_shards", new_shards}};
}

}  // namespace graft::data
