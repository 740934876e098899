// Documents as they lie in files, one after another, with their origin. Reading is sequential and holds one document at
// a time; what costs time (markup, hashing, tokens) is done later, on many threads, by extract().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/input_stream.h"
#include "data/prepare.h"

namespace graft::data {

enum class Format { text, markdown, html, jsonl };
// How a file is read by its name, or as `configured` (SourceConfig::format) says; nothing for a type that is not read.
std::optional<Format> format_of(const std::string& path, const std::string& configured);

inline constexpr std::size_t kMaxPart = 16 << 20;  // longer text and Markdown files become several documents
inline constexpr std::size_t kMaxPage = 32 << 20;  // longer HTML pages and JSON lines are dropped

// Reasons to drop a document that need no further word: it is counted, not named.
inline constexpr const char* kEmpty = "empty";
inline constexpr const char* kTooShort = "shorter than min_bytes";

struct RawDocument {
  std::string id;  // path; "path:line" for jsonl; "path#2" for the second part of a long file
  Format format = Format::text;
  std::size_t source = 0;  // index into the configured sources
  std::string bytes;
};

class DocumentReader {
 public:
  // Finds the files, and warns of a source of which most are of types that are not read. ConfigError without sources; DataError
  // for a path without files, or without one of a type that is read.
  explicit DocumentReader(const std::vector<SourceConfig>& sources);
  bool next(RawDocument& document);

  std::uint64_t total_bytes() const { return total_bytes_; }  // of all files as they are on the disk
  std::uint64_t bytes_read() const { return finished_bytes_ + (input_ ? input_->consumed() : 0); }
  // Documents, lines and files that were found and gave nothing, by reason.
  const std::map<std::string, std::int64_t>& dropped() const { return dropped_; }
  // Of each source, those of them that should have given something: its files are of a type that is read.
  const std::vector<std::int64_t>& lost() const { return lost_; }

 private:
  struct File {
    std::string path;
    Format format;
    std::size_t source;
    std::uint64_t bytes;
  };
  bool open_next();
  void lose(const char* reason);  // something of the open file
  bool read(RawDocument& document);
  bool read_part(RawDocument& document);
  bool read_page(RawDocument& document);
  bool read_line(RawDocument& document);
  void close();

  std::vector<File> files_;
  std::size_t next_file_ = 0;
  std::unique_ptr<InputStream> input_;
  std::unique_ptr<LineReader> lines_;
  std::string rest_;       // of a long file, read but not yet handed out
  std::int64_t part_ = 0;  // parts or lines of the open file so far
  std::uint64_t total_bytes_ = 0, finished_bytes_ = 0;
  std::map<std::string, std::int64_t> dropped_;
  std::vector<std::int64_t> lost_;
};

struct Extracted {
  std::string id;
  std::string text;               // cleaned; empty for a conversation
  std::vector<Message> messages;  // with cleaned contents; empty for plain text
  std::int64_t replaced = 0;      // invalid UTF-8 sequences that became U+FFFD
  std::string dropped;            // the reason when there is no document, else empty
  std::string why;                // more about the reason, or empty; no text of the document
  std::size_t bytes() const;      // of text or of the contents
};

// Text or conversation of one raw document: decoded (UTF-16 by its byte order mark, a page by the charset that it declares),
// markup removed, UTF-8 policy applied, cleaned. A pure function, for any thread.
Extracted extract(const RawDocument& document, const SourceConfig& source, const CorpusConfig& config);

}  // namespace graft::data
