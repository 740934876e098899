#include <charconv>
#include <cstdio>

#include "core/error.h"
#include "data/token_file.h"

namespace graft::data {
namespace {

constexpr std::int32_t kNarrowVocab = 1 << 16;
constexpr std::uint64_t kChunk = 1 << 18;  // tokens

}  // namespace

Hash128 hash128(std::string_view bytes) {
  const std::string digits = sha256_hex(bytes);
  Hash128 hash;
  std::from_chars(digits.data(), digits.data() + 16, hash.high, 16);
  std::from_chars(digits.data() + 16, digits.data() + 32, hash.low, 16);
  return hash;
}

TokenFileWriter::TokenFileWriter(std::int32_t vocab_size) : vocab_size_(vocab_size) {}

void TokenFileWriter::add(const TokenizedDocument& document) {
  for (const std::int32_t id : document.ids) {
    if (id < 0 || id >= vocab_size_) throw FormatError(cat("the tokenizer gave id ", id, ", outside its ", vocab_size_, " ids"));
  }
  if (vocab_size_ <= kNarrowVocab) {
    narrow_.insert(narrow_.end(), document.ids.begin(), document.ids.end());
  } else {
    wide_.insert(wide_.end(), document.ids.begin(), document.ids.end());
  }
  for (const auto& [begin, end] : document.loss) {
    loss_spans_.push_back(offsets_.back() + begin);
    loss_spans_.push_back(offsets_.back() + end);
  }
  loss_first_.push_back(loss_spans_.size() / 2);
  offsets_.push_back(offsets_.back() + document.ids.size());
  id_hashes_.push_back(document.id_hash);
  content_hashes_.push_back(document.content.high);
  content_hashes_.push_back(document.content.low);
  bytes_.push_back(document.bytes);
  sources_.push_back(document.source);
}

ShardRecord TokenFileWriter::seal(const std::filesystem::path& corpus, const std::string& split, std::size_t number,
                                  const std::string& tokenizer_hash, const std::vector<std::string>& sources,
                                  bool deflate) const {
  std::string names;
  for (const std::string& source : sources) names += source + "\n";
  ShardRecord record;
  record.split = split;
  record.tokens = tokens();
  record.documents = documents();
  record.tokenizer_hash = tokenizer_hash;
  record.vocab_size = vocab_size_;
  record.conversations = !loss_spans_.empty();
  for (const std::uint64_t bytes : bytes_) record.bytes += bytes;
  std::vector<bool> used(sources.size());
  for (const std::uint16_t source : sources_) used.at(source) = true;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (used[i]) record.source += (record.source.empty() ? "" : ", ") + sources[i];
  }
  {
    hdf5::ImageWriter file;
    file.attribute("schema", kCorpusSchema);
    file.attribute("vocab_size", vocab_size_);
    file.attribute("tokenizer", tokenizer_hash);
    file.attribute("split", split);
    const auto column = [&](const char* path, const std::vector<std::uint64_t>& values) {
      file.dataset(path, values.data(), values.size(), 8);
    };
    column("documents/offset", offsets_);
    column("documents/id_hash", id_hashes_);
    column("documents/content_hash", content_hashes_);
    column("documents/bytes", bytes_);
    file.dataset("documents/source", sources_.data(), sources_.size(), 2);
    file.dataset("sources", names.data(), names.size(), 1);
    if (!loss_spans_.empty()) {
      column("loss/first", loss_first_);
      column("loss/span", loss_spans_);
    }
    const hdf5::Storage storage{deflate ? std::min(kChunk, tokens()) : 0};
    const bool narrow = vocab_size_ <= kNarrowVocab;
    file.dataset("tokens", narrow ? static_cast<const void*>(narrow_.data()) : wide_.data(), tokens(), narrow ? 2 : 4, storage);

    const std::string_view image = file.image();
    record.sha256 = sha256_hex(image);
    char name[32];
    std::snprintf(name, sizeof name, "-%04zu-%.8s.h5", number, record.sha256.c_str());
    record.file = split + name;
    FileWriter out(corpus / record.file);
    out.write(image);
    out.commit();
  }
  TokenFile reread(corpus, record);
  return record;
}

}  // namespace graft::data
