// Documents to a corpus: discover, read, clean, filter, deduplicate, split, tokenize, seal. Streams; of a document its hashes
// alone stay in memory (corpus_writer.h). Every document read is either in a shard or counted under a reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/tokenizer.h"

namespace graft::data {

struct SourceConfig {
  std::string path;                         // file, folder (recursive) or glob ("docs/**/*.html"); part of its documents' ids
  std::string format = "auto";              // auto (by extension), text, markdown, html, jsonl
  std::string text_field = "text";          // jsonl: the field that holds the text
  std::string messages_field = "messages";  // jsonl: conversations, used when the field is there
  std::string id_field;                     // jsonl: document id; default is path and line
  std::string set;                          // name of an evaluation set that all its documents go to; empty: split by hash

  template <class V>
  void visit(V& v) {
    v.field(path, "path", "file, folder (read recursively) or glob such as docs/**/*.html; .gz of any format is fine");
    v.field(format, "format", {"auto", "text", "markdown", "html", "jsonl"}, "how to read it; auto goes by the extension");
    v.field(text_field, "text_field", "jsonl: field that holds the text");
    v.field(messages_field, "messages_field", "jsonl: field that holds a conversation, used where it is present");
    v.field(id_field, "id_field", "jsonl: field that identifies a document; default is file and line");
    v.field(set, "set", "name of a held-out set that takes all documents of this source; default: split by hash");
  }
};

struct CorpusConfig {
  std::string dir = "corpus";
  std::vector<SourceConfig> sources;
  std::string invalid_utf8 = "replace";
  double heldout = 0.02;
  std::int64_t min_bytes = 32;
  bool deduplicate = true;
  std::string compression = "none";
  std::int64_t shard_tokens = 16 << 20;
  std::string chat_template = "auto";

  template <class V>
  void visit(V& v) {
    v.field(dir, "dir", "directory of the tokenized corpus");
    v.list(sources, "sources", "where documents come from");
    v.field(invalid_utf8, "invalid_utf8", {"replace", "reject"},
            "a byte sequence that is no UTF-8: U+FFFD, or drop the document");
    v.field(heldout, "heldout", 0.0, 0.5, "share of documents kept out of training, chosen by hash of the document id");
    v.field(min_bytes, "min_bytes", 0, 1 << 30, "texts shorter than this after cleaning are dropped; conversations never are");
    v.field(deduplicate, "deduplicate", "drop documents whose cleaned text was seen before");
    v.field(compression, "compression", {"none", "deflate"}, "of the token shards");
    v.field(shard_tokens, "shard_tokens", 1024, std::int64_t{1} << 32,
            "tokens after which a shard is sealed and a new one begun");
    v.field(chat_template, "chat_template", {"auto", "chatml", "llama3", "mistral", "gemma"}, "layout of conversations");
  }
};

struct PrepareReport {
  // read = kept + unchanged + dropped; a file, folder or line that cannot be read counts as one document read and dropped.
  std::int64_t documents_read = 0, documents_kept = 0, tokens = 0, bytes = 0;  // tokens and bytes: of those kept
  std::map<std::string, std::int64_t> dropped_documents;                       // by reason
  std::map<std::string, std::int64_t> dropped_tokens;  // by reason, of documents that came as far as tokens
  std::map<std::string, std::int64_t> tokens_by_split, documents_by_split;
  std::int64_t control_literals = 0;     // control-token texts found in documents (encoded as plain text)
  std::int64_t replaced_sequences = 0;   // invalid UTF-8 replaced
  std::int64_t unchanged_documents = 0;  // in the corpus already
  std::int64_t changed_documents = 0;    // of those kept: other content under a known id; the old version stays in its shard
  std::vector<std::string> new_shards;
  Json json() const;
};

std::string reasons(const std::map<std::string, std::int64_t>& counts);  // "497 unknown file type .pdf, 3 empty"

// Adds what is new in the sources to the corpus (documents already in it, by id and content hash, are left alone).
// `model_vocab` is the base model's vocabulary size, 0 when unknown: DataError when the tokenizer does not fit it.
// DataError when nothing was found or everything was filtered; then no shard is written.
// A document is [bos if the tokenizer adds it] text [eos, else eot, where there is one]; a conversation is what ChatTemplate
// gives. A run that is stopped or killed leaves the shards it recorded; running again adds the rest, with the same bytes as in
// one go.
PrepareReport prepare(const CorpusConfig& config, const Tokenizer& tokenizer, std::int64_t model_vocab, int threads);

}  // namespace graft::data
