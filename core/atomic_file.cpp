#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string>
#include <system_error>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/file.h"
#include "core/following_sum.h"

namespace graft {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20, kDirectBytes = 1 << 18;
constexpr std::uint64_t kWriteBackBytes = 32 << 20;

}  // namespace

fs::path temporary_name(const fs::path& final_path, const char* kind, unsigned number) {
  return parent_of(final_path) / cat(".", final_path.filename().string(), ".", kind, "-", ::getpid(), "-", number);
}

FileWriter::FileWriter(const fs::path& file) : file_(file) {
  if (fs::is_directory(file)) throw UserError(cat("cannot write ", file.string(), ": it is a directory"));
  // Process ids repeat (in a container they are always the same), so a killed writer's file may have our name.
  for (unsigned number = 0; descriptor_ < 0; ++number) {
    temporary_ = temporary_name(file, "tmp", number);
    descriptor_ = open_retrying(temporary_, O_WRONLY | O_CREAT | O_EXCL);
    if (descriptor_ < 0 && errno != EEXIST) throw_machine_error("write", file, errno);
  }
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void FileWriter::write(const void* data, std::size_t size) {
  assert(!sum_);
  hash_.update(data, size);
  put(position_, data, size);
  position_ += size;
}

void FileWriter::extend(std::uint64_t size) {
  truncate_or_throw(descriptor_, static_cast<std::int64_t>(size), file_);
  flush();
  size_ = size;
  sum_ = std::make_unique<FollowingSum>(temporary_, file_);
  sum_->written(0, position_);
}

std::uint64_t FileWriter::complete() const { return sum_ ? sum_->complete() : position_; }

void FileWriter::write_at(std::uint64_t position, const void* data, std::size_t size) {
  assert(sum_);
  put(position, data, size);
}

// What is small is joined with what comes before it.
void FileWriter::put(std::uint64_t position, const void* data, std::size_t size) {
  if (size >= kDirectBytes) {
    write_all_at(descriptor_, position, data, size, file_);
    begin_write_back(position, position + size);
    const std::lock_guard lock(mutex_);
    if (!buffer_.empty()) flush();  // the sum waits for it
    if (sum_) sum_->written(position, position + size);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (position != buffered_from_ + buffer_.size() || buffer_.size() + size > kBufferBytes) {
    flush();
    buffered_from_ = position;
  }
  buffer_.append(static_cast<const char*>(data), size);
}

void FileWriter::pad_to(std::uint64_t alignment) {
  static constexpr char zeros[4096] = {};
  std::uint64_t missing = (alignment - position_ % alignment) % alignment;
  for (; missing > 0; missing -= std::min<std::uint64_t>(missing, sizeof zeros))
    write(zeros, std::min<std::uint64_t>(missing, sizeof zeros));
}

void FileWriter::flush() {
  write_all_at(descriptor_, buffered_from_, buffer_.data(), buffer_.size(), file_);
  begin_write_back(buffered_from_, buffered_from_ + buffer_.size());
  if (sum_) sum_->written(buffered_from_, buffered_from_ + buffer_.size());
  buffered_from_ += buffer_.size();
  buffer_.clear();
}

// The disk begins with a large file while the rest is made, so that commit() need not wait for all of it; its failures show
// there.
void FileWriter::begin_write_back(std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t window = begin / kWriteBackBytes;
  if (window > 0 && end / kWriteBackBytes != window)  // others may still be writing in this one
    ::sync_file_range(descriptor_, static_cast<off64_t>((window - 1) * kWriteBackBytes), kWriteBackBytes, SYNC_FILE_RANGE_WRITE);
}

std::string FileWriter::commit() {
  assert(descriptor_ >= 0);
  flush();
  fsync_or_throw(descriptor_, file_);
  std::string sha256 = sum_ ? sum_->finish(size_) : hash_.hex();  // what was never written is zero
  const int closed = ::close(descriptor_);  // network file systems report a full disk here; the descriptor is gone even so
  descriptor_ = -1;
  if (closed != 0 && errno != EINTR) throw_machine_error("write", file_, errno);
  if (::rename(temporary_.c_str(), file_.c_str()) != 0) throw_machine_error("write", file_, errno);
  temporary_.clear();
  fsync_directory(parent_of(file_));
  return sha256;
}

void write_file(const fs::path& file, std::string_view content) {
  FileWriter writer(file);
  writer.write(content);
  writer.commit();
}

void append_line(const fs::path& file, std::string_view line) {
  assert(line.find('\n') == std::string_view::npos);
  const bool is_new = !fs::exists(file);
  const Descriptor descriptor(open_retrying(file, O_RDWR | O_CREAT | O_APPEND));
  if (descriptor.get() < 0) throw_machine_error("write", file, errno);
  struct stat status;
  if (::fstat(descriptor.get(), &status) != 0) throw_machine_error("read", file, errno);

  // The end of the last complete line; what follows it is torn.
  off_t end = status.st_size;
  for (char block[4096]; end > 0;) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof block));
    const ssize_t got = ::pread(descriptor.get(), block, static_cast<std::size_t>(end - begin), begin);
    if (got < 0 && errno == EINTR) continue;
    if (got != end - begin) throw_machine_error("read", file, got < 0 ? errno : EIO);
    const std::size_t newline = std::string_view(block, static_cast<std::size_t>(got)).rfind('\n');
    if (newline != std::string_view::npos) {
      end = begin + static_cast<off_t>(newline) + 1;
      break;
    }
    end = begin;
  }
  if (end != status.st_size) truncate_or_throw(descriptor.get(), end, file);

  try {
    write_all(descriptor.get(), cat(line, "\n").data(), line.size() + 1, file);
    fsync_or_throw(descriptor.get(), file);
  } catch (...) {
    // Back to the old content; if that fails too, the next call cuts the torn line.
    [[maybe_unused]] const int truncated = ::ftruncate(descriptor.get(), end);
    throw;
  }
  if (is_new) fsync_directory(parent_of(file));
}

}  // namespace graft
