// Files as memory, and the names of those that are: a page that cannot be read is a signal (SIGBUS), which tells an address.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/file.h"

namespace graft {
namespace {

// In static storage, for a signal handler; what is mapped beyond so many has no name there.
struct Mapping {
  std::atomic<const std::byte*> begin{nullptr};
  std::size_t size = 0;
  const char* name = nullptr;
};
std::array<Mapping, 1024> mappings;
std::mutex mappings_changed;

void remember(const std::byte* begin, std::size_t size, const char* name) {
  const std::lock_guard lock(mappings_changed);
  for (Mapping& mapping : mappings)
    if (mapping.begin == nullptr) {
      mapping.size = size;
      mapping.name = name;
      mapping.begin = begin;  // last: now it counts
      return;
    }
}

void forget(const std::byte* begin) {
  const std::lock_guard lock(mappings_changed);
  for (Mapping& mapping : mappings)
    if (mapping.begin == begin) mapping.begin = nullptr;
}

}  // namespace

const char* mapped_file_at(const void* address) noexcept {
  for (const Mapping& mapping : mappings)
    if (const std::byte* begin = mapping.begin; begin != nullptr && address >= begin && address < begin + mapping.size)
      return mapping.name;
  return nullptr;
}

MappedFile::MappedFile(const fs::path& file) : path_(file) {
  const Descriptor descriptor(open_regular(file));
  struct stat status;
  if (::fstat(descriptor.get(), &status) != 0) throw_machine_error("read", file, errno);
  if (status.st_size == 0) return;  // mmap refuses an empty range
  size_ = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (address == MAP_FAILED) throw_machine_error("map", file, errno);
  data_ = static_cast<const std::byte*>(address);
  remember(data_, size_, path_.c_str());
}

MappedFile::~MappedFile() {
  if (!data_) return;
  forget(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace graft
