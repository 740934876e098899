#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "data/corpus.h"

namespace graft::data {
namespace {

fs::path manifest_path(const fs::path& corpus) { return corpus / "manifest.jsonl"; }

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

ShardRecord parse(std::string_view line, const fs::path& corpus, const std::string& origin) {
  const Json json = parse_json(line, origin);
  const auto schema = json_get<std::int64_t>(json, "schema", origin);
  if (schema != kCorpusSchema) {
    throw UnsupportedError(cat(origin, ": corpus schema ", schema, "; this program reads schema ", kCorpusSchema));
  }
  const auto count = [&](const char* key) {
    const auto value = json_get<std::int64_t>(json, key, origin);
    if (value < 0) throw FormatError(cat(origin, ": ", key, " is ", value));
    return static_cast<std::uint64_t>(value);
  };
  ShardRecord record;
  record.file = json_get<std::string>(json, "file", origin);
  record.sha256 = json_get<std::string>(json, "sha256", origin);
  record.split = json_get<std::string>(json, "split", origin);
  record.tokens = count("tokens");
  record.documents = count("documents");
  record.bytes = count("bytes");
  record.tokenizer_hash = json_get<std::string>(json, "tokenizer", origin);
  record.source = json_get<std::string>(json, "source", origin);
  record.layout = json_get_or<std::string>(json, "layout", "", origin);
  if (json.contains("conversations")) record.conversations = json_get<bool>(json, "conversations", origin);
  const std::uint64_t vocab_size = count("vocab_size");
  if (vocab_size == 0 || vocab_size > (1u << 30)) throw FormatError(cat(origin, ": vocab_size is ", vocab_size));
  record.vocab_size = static_cast<std::int32_t>(vocab_size);
  if (!is_sha256(record.sha256)) throw FormatError(cat(origin, ": sha256 is not 64 hexadecimal digits"));
  inside(corpus, record.file);
  return record;
}

}  // namespace

std::vector<ShardRecord> read_manifest(const fs::path& corpus) {
  const fs::path path = manifest_path(corpus);
  std::vector<ShardRecord> records;
  std::error_code error;
  const bool there = fs::exists(path, error);
  if (error) throw_machine_error("read", path, error.value());  // else a disk that does not answer would be an empty corpus
  if (!there) return records;
  const std::string text = read_file(path);
  // What follows the last newline is a record whose writer was killed; its shard is not part of the corpus.
  for (std::size_t at = 0, number = 1, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1, ++number) {
    const std::string origin = cat(path.string(), ":", number);
    records.push_back(parse(std::string_view(text).substr(at, end - at), corpus, origin));
    const ShardRecord& last = records.back();
    for (auto other = records.begin(); other != records.end() - 1; ++other) {
      if (other->file == last.file) throw FormatError(cat(origin, ": shard ", last.file, " is listed twice"));
    }
  }
  return records;
}

void append_manifest(const fs::path& corpus, const ShardRecord& record) {
  Json json = {{"schema", kCorpusSchema},         {"file", record.file},
               {"sha256", record.sha256},         {"split", record.split},
               {"tokens", record.tokens},         {"documents", record.documents},
               {"bytes", record.bytes},           {"tokenizer", record.tokenizer_hash},
               {"vocab_size", record.vocab_size}, {"source", record.source}};
  if (!record.layout.empty()) json["layout"] = record.layout;
  if (record.conversations) json["conversations"] = *record.conversations;
  append_line(manifest_path(corpus), json.dump());
}

}  // namespace graft::data
