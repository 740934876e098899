#include "data/corpus_writer.h"

#include <algorithm>
#include <regex>

#include "core/error.h"
#include "core/log.h"
#include "core/stop.h"

namespace graft::data {
namespace {

std::vector<std::string> source_names(const CorpusConfig& config) {
  std::vector<std::string> names;
  for (const SourceConfig& source : config.sources) {
    names.push_back(source.path);
    std::ranges::replace(names.back(), '\n', ' ');
  }
  return names;
}

// Of a source's `set`: chosen by people for an exam, not by hash.
bool is_set(const std::string& split) { return split != "train" && split != "heldout"; }

}  // namespace

CorpusWriter::CorpusWriter(const CorpusConfig& config, const Tokenizer& tokenizer, std::function<std::string()> layout,
                           std::uint64_t max_documents)
    : config_(config),
      layout_(std::move(layout)),
      max_documents_(max_documents),
      tokenizer_hash_(tokenizer.hash()),
      vocab_size_(tokenizer.vocab_size()),
      sources_(source_names(config)),
      lock_(graft::create_directories(config.dir)),
      existing_(read_manifest(config.dir)) {
  remove_leftovers(config.dir);
  remove_unrecorded();
  const bool with_sets = std::ranges::any_of(config.sources, [](const SourceConfig& source) { return is_set(source.set); });
  for (const ShardRecord& record : existing_) {
    throw_if_stopped();
    if (record.tokenizer_hash != tokenizer_hash_) {
      throw DataError(cat(config.dir, ": shard ", record.file, " was made with tokenizer ", record.tokenizer_hash.substr(0, 16),
                          "..., the model's is ", tokenizer_hash_.substr(0, 16), "...; use another 'dir' for this model"));
    }
    if (!record.layout.empty() && record.layout != layout_())
      throw DataError(
          cat(config.dir, ": the conversations of shard ", record.file,
              " are laid out otherwise than corpus.chat_template and this base have it today; put these back, or name "
              "another 'dir', where all are laid out anew"));
    remember(record.documents);
    ++shards_[record.split];
    const TokenFile shard(config.dir, record);
    for (std::int64_t i = 0; i < shard.documents(); ++i) {
      const Hash128 content = shard.content_hash(i);
      const std::uint64_t id = shard.document(i).id_hash;
      known_.insert(id, content.high);
      contents_.insert(content.high, content.low);
      if (is_set(record.split)) in_sets_.insert(content.high, content.low);
      if (record.split != "train") not_trained_[record.split].insert(id, 0);
      if (!with_sets || record.split != "train") continue;
      trained_.insert(id, 0);
      trained_.insert(content.high, content.low);
    }
  }
}

void CorpusWriter::remember(std::uint64_t documents) {
  if (documents > max_documents_ - remembered_)
    throw DataError(cat(config_.dir, ": more than ", max_documents_,
                        " documents, of which no further one could be told from those known; give fewer sources to this dir and "
                        "the rest to another, or put several short documents into one"));
  remembered_ += documents;
}

// A writer killed between sealing a shard and recording it leaves the file, one at most and the next of its split; no reader
// knows it, and the rerun makes it again. Anything else was recorded once, and its documents may be nowhere else.
void CorpusWriter::remove_unrecorded() const {
  const std::regex shard_name("([A-Za-z0-9_-]+)-([0-9]{4,18})-[0-9a-f]{8}\\.h5");
  std::vector<std::string> unrecorded;
  bool interrupted = true;
  for (const fs::directory_entry& entry : fs::directory_iterator(config_.dir)) {
    const std::string name = entry.path().filename().string();
    std::smatch parts;
    if (!std::regex_match(name, parts, shard_name)) continue;
    if (std::ranges::find(existing_, name, &ShardRecord::file) != existing_.end()) continue;
    unrecorded.push_back(name);
    const auto recorded = std::ranges::count(existing_, parts[1].str(), &ShardRecord::split);
    interrupted = interrupted && std::stoll(parts[2].str()) == recorded + 1;
  }
  if (unrecorded.empty()) return;
  std::ranges::sort(unrecorded);
  if (unrecorded.size() > 1 || !interrupted)
    throw DataError(cat(config_.dir, ": manifest.jsonl lacks the records of ", unrecorded.front(),
                        unrecorded.size() > 1 ? cat(" and ", unrecorded.size() - 1, " more") : "",
                        ", which no interrupted run leaves: it was shortened, lost, or is an older one. Put it back; or, if the "
                        "documents of these shards are elsewhere, remove them and run prepare again"));
  log::warn("prepare", "removing ", unrecorded.front(),
            ", which an interrupted run left unrecorded; its documents are read again");
  fs::remove(fs::path(config_.dir) / unrecorded.front());
}

void CorpusWriter::keep_apart(const std::string& split, const TokenizedDocument& document) const {
  if (!is_set(split)) return;
  const Hash128& content = document.content;
  if (trained_.contains_first(document.id_hash) || trained_.contains(content.high, content.low))
    throw DataError(
        cat(config_.dir, ": a document of the set ", split, " (source ", sources_[document.source],
            ") is among the documents to train on since an earlier run of prepare; name another corpus.dir, where the "
            "set is kept apart from the beginning"));
}

// Empty when the corpus has no document of this id.
std::string CorpusWriter::known_split(std::uint64_t id) const {
  for (const auto& [split, ids] : not_trained_)
    if (ids.contains_first(id)) return split;
  return known_.contains_first(id) ? "train" : "";
}

Novelty CorpusWriter::add(std::string& split, const TokenizedDocument& document) {
  keep_apart(split, document);
  if (const std::string known = known_split(document.id_hash); !known.empty() && known != split) {
    // A set's file may be in the folder of another source too, and is at home in the set.
    if (!is_set(known) && stayed_.insert(document.id_hash, 0)) ++staying_[known];
    if (!is_set(split)) split = known;
  }
  if (is_set(split)) in_sets_.insert(document.content.high, document.content.low);
  if (known_.contains(document.id_hash, document.content.high)) return Novelty::unchanged;
  if (!added_.insert(document.id_hash, document.content.high)) return Novelty::duplicate;  // the same file named twice
  remember(1);
  const bool again = !contents_.insert(document.content.high, document.content.low);
  if (again && (config_.deduplicate || (!is_set(split) && in_sets_.contains(document.content.high, document.content.low))))
    return Novelty::duplicate;
  TokenFileWriter& shard = open_.try_emplace(split, vocab_size_).first->second;
  const std::uint64_t limit = static_cast<std::uint64_t>(config_.shard_tokens);
  if (shard.documents() > 0 && shard.tokens() + document.ids.size() > limit) seal(split, shard);
  shard.add(document);
  return known_.contains_first(document.id_hash) ? Novelty::changed : Novelty::added;
}

void CorpusWriter::seal(const std::string& split, TokenFileWriter& shard) {
  throw_if_stopped();
  records_.push_back(
      shard.seal(config_.dir, split, ++shards_[split], tokenizer_hash_, sources_, config_.compression == "deflate"));
  if (records_.back().conversations == true) records_.back().layout = layout_();
  append_manifest(config_.dir, records_.back());
  shard = TokenFileWriter(vocab_size_);
}

void CorpusWriter::finish() {
  for (auto& [split, shard] : open_) {
    if (shard.documents() > 0) seal(split, shard);
  }
  for (const auto& [split, documents] : staying_)
    log::warn("prepare", documents, " known documents stay in '", split,
              "', where corpus.heldout and the sources' sets would not put them today; another corpus.dir applies these");
}

}  // namespace graft::data
