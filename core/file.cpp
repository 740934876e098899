#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/descriptor.h"
#include "core/error.h"

namespace graft {
namespace {

const char* advice(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "; free space and run again";
    case EIO:
      return "; check the disk and run again";
    case EACCES:
    case EPERM:
      return "; check who owns it and its permissions";
    case EROFS:
      return "; choose a place that is not mounted read-only";
    case EMFILE:
    case ENFILE:
      return "; raise the limit on open files (ulimit -n)";
    case ENOENT:
      return "; create the directory first";
    default:
      return "";
  }
}

}  // namespace

void throw_machine_error(const char* doing, const fs::path& file, int error_number) {
  throw MachineError(
      cat("cannot ", doing, " ", file.string(), ": ", std::generic_category().message(error_number), advice(error_number)));
}

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

int open_retrying(const fs::path& file, int flags) {
  int descriptor;
  do descriptor = ::open(file.c_str(), flags | O_CLOEXEC, 0666);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

int open_regular(const fs::path& file) {
  const int descriptor = open_retrying(file, O_RDONLY | O_NONBLOCK);  // a pipe without a writer must not block
  if (descriptor < 0) {
    if (errno == EIO || errno == EMFILE || errno == ENFILE) throw_machine_error("open", file, errno);
    throw UserError(cat("cannot open ", file.string(), ": ", std::generic_category().message(errno)));
  }
  struct stat status;
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw UserError(cat(file.string(), " is not a regular file"));
  }
  return descriptor;
}

std::size_t read_some(int descriptor, void* data, std::size_t size, const fs::path& file) {
  ssize_t got;
  do got = ::read(descriptor, data, size);
  while (got < 0 && errno == EINTR);
  if (got < 0) throw_machine_error("read", file, errno);
  return static_cast<std::size_t>(got);
}

void write_all(int descriptor, const void* data, std::size_t size, const fs::path& file) {
  auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_machine_error("write", file, errno);
    if (written == 0) throw_machine_error("write", file, ENOSPC);
    next += written;
    size -= static_cast<std::size_t>(written);
  }
}

void write_all_at(int descriptor, std::uint64_t position, const void* data, std::size_t size, const fs::path& file) {
  auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::pwrite(descriptor, next, size, static_cast<off_t>(position));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_machine_error("write", file, errno);
    if (written == 0) throw_machine_error("write", file, ENOSPC);
    next += written;
    position += static_cast<std::uint64_t>(written);
    size -= static_cast<std::size_t>(written);
  }
}

void truncate_or_throw(int descriptor, std::int64_t size, const fs::path& file) {
  while (::ftruncate(descriptor, size) != 0)
    if (errno != EINTR) throw_machine_error("write", file, errno);
}

void fsync_or_throw(int descriptor, const fs::path& file) {
  while (::fsync(descriptor) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == EROFS) return;  // the file system has nothing to synchronise
    throw_machine_error("write", file, errno);
  }
}

fs::path parent_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

std::string read_file(const fs::path& file, std::uint64_t max_bytes) {
  const Descriptor descriptor(open_regular(file));
  struct stat status;
  if (::fstat(descriptor.get(), &status) != 0) throw_machine_error("read", file, errno);
  const auto expected = static_cast<std::uint64_t>(status.st_size);
  auto too_large = [&](std::uint64_t size) {
    return FormatError(cat(file.string(), " has ", size, " bytes or more; at most ", max_bytes, " are accepted here"));
  };
  if (expected > max_bytes) throw too_large(expected);
  // The size is a hint: the file may grow or be a kernel's file of size 0.
  std::string content;
  std::size_t filled = 0;
  for (std::size_t step = expected + 1;; step = 1 << 16) {
    content.resize(filled + step);
    const std::size_t got = read_some(descriptor.get(), content.data() + filled, step, file);
    filled += got;
    if (filled > max_bytes) throw too_large(filled);
    if (got == 0) break;
  }
  content.resize(filled);
  return content;
}

std::vector<std::string> read_lines(const fs::path& file, std::uint64_t max_bytes) {
  if (!fs::exists(file)) return {};
  const std::string content = read_file(file, max_bytes);
  std::vector<std::string> lines;
  for (std::size_t begin = 0;;) {
    const std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) return lines;
    lines.push_back(content.substr(begin, end - begin));
    begin = end + 1;
  }
}

std::string sha256_file(const fs::path& file) {
  const Descriptor descriptor(open_regular(file));
  Sha256 hash;
  std::string buffer(1 << 20, '\0');
  while (const std::size_t got = read_some(descriptor.get(), buffer.data(), buffer.size(), file)) hash.update(buffer.data(), got);
  return hash.hex();
}

fs::path create_directories(const fs::path& directory) {
  std::error_code error;
  if (directory.empty() || fs::is_directory(directory, error)) return directory;
  const fs::path parent = directory.parent_path();
  if (fs::exists(parent, error) && !fs::is_directory(parent)) throw_machine_error("create", directory, ENOTDIR);
  graft::create_directories(parent);
  const bool is_new = fs::create_directory(directory, error);
  if (error) throw_machine_error("create", directory, error.value());
  if (is_new) fsync_directory(parent_of(directory));
  return directory;
}

void fsync_directory(const fs::path& directory) {
  const Descriptor descriptor(open_retrying(directory, O_RDONLY | O_DIRECTORY));
  if (descriptor.get() < 0) throw_machine_error("open", directory, errno);
  fsync_or_throw(descriptor.get(), directory);
}

namespace {

bool lies_below(const fs::path& path, const fs::path& directory) {
  return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first == directory.end();
}

}  // namespace

fs::path inside(const fs::path& directory, std::string_view name) {
  const fs::path relative(name);
  bool plain = !name.empty() && name.find('\0') == std::string_view::npos && name.find('\\') == std::string_view::npos &&
               !relative.is_absolute() && relative.has_filename();
  for (const fs::path& part : relative) plain = plain && part != ".." && part != "." && !part.empty();
  if (!plain) throw FormatError(cat(directory.string(), ": the name ", quote(name), " leads outside of this directory"));
  // Links are followed before they are judged. One that leads nowhere yet is judged by what there is of its path.
  std::error_code error;
  const fs::path root = fs::weakly_canonical(directory);
  const fs::path target = fs::weakly_canonical(directory / relative, error);
  if (error) throw FormatError(cat((directory / relative).string(), ": ", error.message()));
  const bool in_cache =
      root.parent_path().filename() == "snapshots" && lies_below(target, root.parent_path().parent_path() / "blobs");
  if (!lies_below(target, root) && !in_cache)
    throw FormatError(cat(directory.string(), ": ", quote(name), " is a link to ", target.string(),
                          ", outside of this directory; put the file itself here"));
  return directory / relative;
}

}  // namespace graft
