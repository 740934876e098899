#include "data/document_reader.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "core/stop.h"
#include "data/encoding.h"
#include "data/find_files.h"

namespace graft::data {
namespace {

constexpr std::size_t kMaxReasons = 40;  // beyond, types of files are counted together

// In lower case, with its dot; of "a.txt.gz" that of "a.txt".
std::string extension_of(const std::string& path) {
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz") name = name.stem();
  std::string extension = name.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

}  // namespace

std::optional<Format> format_of(const std::string& path, const std::string& configured) {
  if (configured == "text") return Format::text;
  if (configured == "markdown") return Format::markdown;
  if (configured == "html") return Format::html;
  if (configured == "jsonl") return Format::jsonl;
  const std::string extension = extension_of(path);
  if (extension == ".txt" || extension == ".text") return Format::text;
  if (extension == ".md" || extension == ".markdown") return Format::markdown;
  if (extension == ".html" || extension == ".htm" || extension == ".xhtml") return Format::html;
  if (extension == ".jsonl" || extension == ".ndjson") return Format::jsonl;
  return std::nullopt;
}

namespace {

// What is no plain word is not the name of a type, and may be anything.
std::string unknown_type(const std::string& path) {
  const std::string extension = extension_of(path);
  const bool plain =
      extension.size() > 1 && extension.size() <= 12 &&
      std::all_of(extension.begin() + 1, extension.end(), [](unsigned char c) { return c < 0x80 && std::isalnum(c); });
  return plain ? "unknown file type " + extension : "unknown file type";
}

// What to do about files of these types.
std::string advice(const std::map<std::string, std::int64_t>& unknown) {
  for (const char* type : {".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".ppt", ".pptx"})
    if (unknown.contains(cat("unknown file type ", type)))
      return "; convert them to text first (pdftotext, pandoc -t plain, soffice --convert-to txt)";
  return "; set 'format' where they are text all the same";
}

// Where to cut a text that goes on: after the last line, else the last blank, else between two characters.
std::size_t cut(const std::string& text) {
  std::size_t at = text.rfind('\n');
  if (at == std::string::npos || at < text.size() / 2) at = text.find_last_of(" \n");
  if (at != std::string::npos && at >= text.size() / 2) return at + 1;
  at = text.size();
  while (at > text.size() - 4 && (static_cast<unsigned char>(text[at - 1]) & 0xC0) == 0x80) --at;
  return at - 1;
}

}  // namespace

DocumentReader::DocumentReader(const std::vector<SourceConfig>& sources) {
  if (sources.empty()) throw ConfigError("corpus.sources is empty: name at least one file, folder or pattern");
  lost_.resize(sources.size());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::size_t before = files_.size();
    Skipped skipped;
    const std::vector<std::string> found = find_files(sources[i].path, &skipped);
    const auto count = [&](const char* reason, const std::set<std::string>& paths) {
      if (!paths.empty()) dropped_[reason] += std::ssize(paths);
    };
    count("linked folder, not followed", skipped.linked);
    count("unreadable folder", skipped.unreadable);
    count("hidden file or folder", skipped.hidden);
    count("broken link", skipped.broken);
    count("not a regular file", skipped.special);
    std::map<std::string, std::int64_t> unknown;
    for (const std::string& path : found) {
      const auto format = format_of(path, sources[i].format);
      if (!format) {
        const std::string reason = unknown_type(path);
        ++unknown[unknown.contains(reason) || unknown.size() < kMaxReasons ? reason : "unknown file type"];
        continue;
      }
      std::error_code error;
      const std::uintmax_t bytes = std::filesystem::file_size(path, error);
      files_.push_back({path, *format, i, error ? 0 : bytes});
      total_bytes_ += files_.back().bytes;
    }
    if (files_.size() == before) {
      throw DataError(cat(sources[i].path, ": none of its ", found.size(),
                          " files ends in .txt, .md, .html or .jsonl (or these with .gz)", advice(unknown)));
    }
    const std::size_t readable = files_.size() - before;
    if (found.size() > 2 * readable)
      log::warn("prepare", sources[i].path, ": only ", readable, " of its ", found.size(), " files are read; ", reasons(unknown),
                advice(unknown));
    for (const auto& [reason, count] : unknown)
      dropped_[dropped_.contains(reason) || dropped_.size() < kMaxReasons ? reason : "unknown file type"] += count;
  }
}

void DocumentReader::lose(const char* reason) {
  ++dropped_[reason];
  ++lost_[files_[next_file_ - 1].source];
}

void DocumentReader::close() {
  finished_bytes_ += files_[next_file_ - 1].bytes;
  lines_.reset();
  input_.reset();
  rest_.clear();
}

bool DocumentReader::open_next() {
  while (next_file_ < files_.size()) {
    throw_if_stopped();
    const File& file = files_[next_file_++];
    part_ = 0;
    try {
      input_ = std::make_unique<InputStream>(file.path);
      if (file.format == Format::jsonl) lines_ = std::make_unique<LineReader>(*input_, kMaxPage);
      return true;
    } catch (const UserError& error) {
      log::warn("prepare", error.what());
      lose("unreadable file");
      finished_bytes_ += file.bytes;
    }
  }
  return false;
}

bool DocumentReader::next(RawDocument& document) {
  while (input_ || open_next()) {
    try {
      if (read(document)) return true;
      close();
    } catch (const DataError& error) {  // the rest of this file is lost; what came before is kept
      log::warn("prepare", error.what());
      lose("unreadable file");
      close();
    }
  }
  return false;
}

bool DocumentReader::read(RawDocument& document) {
  const File& file = files_[next_file_ - 1];
  document.format = file.format;
  document.source = file.source;
  document.id = file.path;
  switch (file.format) {
    case Format::jsonl:
      return read_line(document);
    case Format::html:
      return read_page(document);
    default:
      return read_part(document);
  }
}

bool DocumentReader::read_part(RawDocument& document) {
  document.bytes = std::move(rest_);
  rest_.clear();
  while (document.bytes.size() <= kMaxPart) {
    if (!input_->read(document.bytes, std::min<std::size_t>(kMaxPart + 1 - document.bytes.size(), 1 << 20))) break;
  }
  if (document.bytes.size() > kMaxPart) {
    if (part_ == 0 && !utf16(document.bytes).empty()) {  // cut() knows ends of lines in bytes alone
      log::warn("prepare", document.id, ": a UTF-16 text may have at most ", kMaxPart >> 20, " MiB; dropped");
      lose("UTF-16 text too large");
      return false;
    }
    const std::size_t end = cut(document.bytes);
    rest_ = document.bytes.substr(end);
    document.bytes.resize(end);
  }
  if (document.bytes.empty() && part_ > 0) return false;
  if (++part_ > 1) document.id += cat("#", part_);
  return true;  // an empty file too: it is counted as an empty document
}

bool DocumentReader::read_page(RawDocument& document) {
  document.bytes.clear();
  if (part_++ > 0) return false;
  while (document.bytes.size() <= kMaxPage && input_->read(document.bytes, 1 << 18)) {
  }
  if (document.bytes.size() <= kMaxPage) return true;
  log::warn("prepare", document.id, ": an HTML page may have at most ", kMaxPage >> 20, " MiB; dropped");
  lose("page too large");
  return false;
}

bool DocumentReader::read_line(RawDocument& document) {
  while (true) {
    std::string_view line;
    const LineReader::Status status = lines_->next(line);
    if (status == LineReader::Status::end) return false;
    ++part_;
    if (status == LineReader::Status::too_long) {
      log::warn("prepare", document.id, ":", part_, ": a line may have at most ", kMaxPage >> 20, " MiB; dropped");
      lose("line too long");
    } else if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      document.bytes = line;
      document.id += cat(":", part_);
      return true;
    }
  }
}

}  // namespace graft::data
