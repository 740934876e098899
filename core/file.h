// Files that are read whole or mapped, and files and directories that appear whole or not at all.
//
// Every write in graft goes through FileWriter or DirectoryWriter: write under a temporary name, fsync, rename, fsync the
// parent directory. A crash, a full disk or a signal leaves the old content or the new one, never a mixture.
// Failures of the disk throw MachineError naming the file and the reason; a missing input throws UserError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

namespace fs = std::filesystem;

// Throws MachineError "cannot <doing> <file>: <strerror>; <what to do next>".
[[noreturn]] void throw_machine_error(const char* doing, const fs::path& file, int error_number);

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(const void* data, std::size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};
std::string sha256_hex(std::string_view bytes);
std::string sha256_file(const fs::path& file);

// The whole file; FormatError when it is larger than max_bytes, UserError when it cannot be opened.
std::string read_file(const fs::path& file, std::uint64_t max_bytes = 1ull << 30);

// A read-only view of a regular file, mapped on construction.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The name of the file that is mapped there; null when none is. For a signal handler.
const char* mapped_file_at(const void* address) noexcept;

class FollowingSum;  // core/following_sum.h

// Writer of one file. Nothing is visible at `file` before commit(); the destructor removes an uncommitted file.
class FileWriter {
 public:
  explicit FileWriter(const fs::path& file);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(const void* data, std::size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void pad_to(std::uint64_t alignment);  // zero bytes up to a multiple of alignment
  std::uint64_t position() const { return position_; }
  // The file gets this size, and write_at() takes the place of write(): anywhere in it, from any thread, each byte once. What is
  // never written is zero.
  void extend(std::uint64_t size);
  void write_at(std::uint64_t position, const void* data, std::size_t size);
  std::uint64_t complete() const;  // so many first bytes have gone to the file without a gap, and are summed meanwhile
  std::string commit();            // flush, fsync, rename, fsync of the directory; returns the sha256 of the content

 private:
  void put(std::uint64_t position, const void* data, std::size_t size);
  void flush();
  void begin_write_back(std::uint64_t begin, std::uint64_t end);
  fs::path file_, temporary_;
  int descriptor_ = -1;
  std::uint64_t position_ = 0, size_ = 0;  // size_: after extend()
  std::mutex mutex_;                       // of what follows
  std::string buffer_;
  std::uint64_t buffered_from_ = 0;    // place of the buffer in the file
  Sha256 hash_;                        // before extend()
  std::unique_ptr<FollowingSum> sum_;  // after it
};
void write_file(const fs::path& file, std::string_view content);  // FileWriter in one call

// Builds a directory beside its final name. commit() fsyncs what is inside and renames; an existing target is exchanged in one
// step (renameat2) and the old one removed after. The destructor removes an uncommitted directory.
class DirectoryWriter {
 public:
  explicit DirectoryWriter(const fs::path& directory);
  ~DirectoryWriter();
  DirectoryWriter(const DirectoryWriter&) = delete;
  DirectoryWriter& operator=(const DirectoryWriter&) = delete;
  const fs::path& path() const { return temporary_; }  // write the files here
  void commit();

 private:
  fs::path directory_, temporary_;
  bool committed_ = false;
};

// Appends one line durably (write + fsync). A torn last line of an earlier crash is cut off first.
void append_line(const fs::path& file, std::string_view line);

// The lines of such a file; a torn last line is left out, a missing file has none.
std::vector<std::string> read_lines(const fs::path& file, std::uint64_t max_bytes = 1ull << 30);

// Removes temporary files and directories that killed writers left in `directory`. Call it while holding the lock.
void remove_leftovers(const fs::path& directory);

// Exclusive advisory lock (flock) on `directory`/.lock, freed by the kernel when the process dies. Throws Error
// "<directory> is in use by process <pid>" with exit code 75 (EX_TEMPFAIL: the same command may do later) when taken.
class DirectoryLock {
 public:
  explicit DirectoryLock(const fs::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Makes what is missing of the path, each with an fsync of its parent: a file that is durable in a directory that is not would be
// lost with it. Returns the path. MachineError with the reason when it fails. Written graft::create_directories, since the
// argument brings in std::filesystem's.
fs::path create_directories(const fs::path& directory);
void fsync_directory(const fs::path& directory);

// directory/name, a relative path that stays inside even when links are followed; FormatError otherwise. For names out of files
// (shard indexes, manifests). A snapshot of the Hugging Face cache (models--x/snapshots/<revision>) may link to models--x/blobs.
fs::path inside(const fs::path& directory, std::string_view name);

}  // namespace graft
