// Bytes of a file, inflated when it is gzip, in pieces of bounded size.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/descriptor.h"

namespace graft::data {

class InputStream {
 public:
  // UserError when the file cannot be opened. A file whose name ends in ".gz" is inflated (all members of it).
  explicit InputStream(const std::string& path);
  ~InputStream();
  InputStream(const InputStream&) = delete;
  InputStream& operator=(const InputStream&) = delete;

  // Appends up to `limit` bytes to `out`; false at the end. DataError for a failing read, damaged gzip, and for gzip
  // that expands more than kMaxExpansion-fold beyond its first 16 MiB.
  bool read(std::string& out, std::size_t limit);
  std::uint64_t consumed() const { return consumed_; }  // bytes of the file so far, compressed ones for gzip

  static constexpr std::uint64_t kMaxExpansion = 200;

 private:
  struct Inflater;
  std::size_t read_file(char* into, std::size_t size);

  std::string path_;
  Descriptor descriptor_;
  std::uint64_t consumed_ = 0, produced_ = 0;
  std::unique_ptr<Inflater> inflater_;  // none for plain files
};

// Splits a stream at newlines.
class LineReader {
 public:
  LineReader(InputStream& input, std::size_t max_line) : input_(input), max_line_(max_line) {}
  enum class Status { line, too_long, end };
  // A line longer than max_line is skipped and reported as too_long. The view lasts until the next call.
  Status next(std::string_view& line);

 private:
  InputStream& input_;
  std::size_t max_line_, begin_ = 0, scanned_ = 0;
  std::string buffer_;
  bool skipping_ = false, ended_ = false;
};

}  // namespace graft::data
