// Documents on disk, a tokenizer whose ids are known beforehand, and prepare() in one call.
#pragma once

#include <zlib.h>

#include <ctime>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "core/file.h"
#include "data/corpus.h"
#include "data/prepare.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace graft::data {

using testing::message_of;
using testing::TempDir;

inline fs::path golden(const std::string& name) { return fs::path(GRAFT_SOURCE_DIR) / "tests/golden" / name; }

inline void put(const fs::path& file, std::string_view content) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
}
inline std::string get(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void put_gzip(const fs::path& file, std::string_view content) {
  gzFile out = gzopen(file.c_str(), "wb");
  REQUIRE(gzwrite(out, content.data(), static_cast<unsigned>(content.size())) == static_cast<int>(content.size()));
  gzclose(out);
}

// Ids are bytes. Control tokens: <|im_start|> 256, <|im_end|> 257 (the end of a text), <|bos|> 258.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(std::int32_t vocab = 259) : vocab_(vocab) {
    special_.eos = 257;
    special_.bos = 258;
    hash_ = sha256_hex("bytes");
    origin_ = "byte-tokenizer";
  }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }
  std::string decode(std::span<const std::int32_t> ids, bool with_control = false) const override {
    std::string out;
    for (const std::int32_t id : ids) {
      if (id < 256)
        out += static_cast<char>(id);
      else if (with_control)
        out += control_literals()[static_cast<std::size_t>(id - 256)];
    }
    return out;
  }
  std::int32_t vocab_size() const override { return vocab_; }
  std::string token_bytes(std::int32_t id) const override { return decode(std::span(&id, 1)); }
  bool is_control(std::int32_t id) const override { return id >= 256; }
  std::optional<std::int32_t> find_token(std::string_view literal) const override {
    for (std::int32_t id = 256; id < 259; ++id)
      if (control_literals()[static_cast<std::size_t>(id - 256)] == literal) return id;
    return std::nullopt;
  }
  std::vector<std::string> control_literals() const override { return {"<|im_start|>", "<|im_end|>", "<|bos|>"}; }
  std::string_view kind() const override { return "bpe"; }

 private:
  std::int32_t vocab_;
};

// A corpus being made: sources are added, prepare() runs.
struct Corpora {
  TempDir dir;
  CorpusConfig config;
  ByteTokenizer tokenizer;
  Corpora() {
    config.dir = (dir / "corpus").string();
    config.heldout = 0;
    config.min_bytes = 0;
  }
  SourceConfig& source(const std::string& path) {
    config.sources.emplace_back().path = path;
    return config.sources.back();
  }
  // A file among the documents, "docs/name"; returns its path.
  std::string document(const std::string& name, std::string_view content) {
    put(dir / ("docs/" + name), content);
    return (dir / ("docs/" + name)).string();
  }
  PrepareReport prepare(int threads = 2) { return data::prepare(config, tokenizer, 0, threads); }
  // All documents of a split, decoded, in the corpus's order; what is added around a text is left out.
  std::vector<std::string> texts(const std::string& split = "train") const {
    std::vector<std::string> out;
    const auto corpus = Corpus::open(config.dir, split, tokenizer.hash());
    for (std::int64_t i = 0; i < corpus->documents(); ++i) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(corpus->document(i).tokens));
      corpus->read(i, 0, ids, {});
      out.push_back(tokenizer.decode(ids));
    }
    return out;
  }
  std::vector<std::string> files() const {  // of the corpus directory, but for the lock
    std::vector<std::string> out;
    if (!fs::exists(config.dir)) return out;
    for (const auto& entry : fs::directory_iterator(config.dir))
      if (entry.path().filename() != ".lock") out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  }
};

// Every document that was read is in one of the counts.
inline bool conserved(const PrepareReport& report) {
  std::int64_t dropped = 0, by_split = 0, tokens = 0;
  for (const auto& [reason, count] : report.dropped_documents) dropped += count;
  for (const auto& [split, count] : report.documents_by_split) by_split += count;
  for (const auto& [split, count] : report.tokens_by_split) tokens += count;
  return report.documents_read == report.documents_kept + report.unchanged_documents + dropped &&
         by_split == report.documents_kept && tokens == report.tokens;
}

inline double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace graft::data
