// The system calls of file.h, retried on EINTR and short transfers, failing with MachineError.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/file.h"

namespace graft {

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

int open_retrying(const fs::path& file, int flags);  // -1 and errno when it fails; close-on-exec; mode 0666 and umask
int open_regular(const fs::path& file);              // for reading; UserError when it is missing or no regular file
std::size_t read_some(int descriptor, void* data, std::size_t size, const fs::path& file);  // 0 at the end
void write_all(int descriptor, const void* data, std::size_t size, const fs::path& file);
void write_all_at(int descriptor, std::uint64_t position, const void* data, std::size_t size, const fs::path& file);
void truncate_or_throw(int descriptor, std::int64_t size, const fs::path& file);
void fsync_or_throw(int descriptor, const fs::path& file);

// ".<name>.tmp-<pid>-<number>" beside `final_path`: what remove_leftovers recognises.
fs::path temporary_name(const fs::path& final_path, const char* kind, unsigned number);
fs::path parent_of(const fs::path& file);  // "." when it has none

}  // namespace graft
