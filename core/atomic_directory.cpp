#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <charconv>
#include <string>
#include <system_error>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/file.h"

namespace graft {
namespace {

void fsync_tree(const fs::path& directory) {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) {
      fsync_tree(entry.path());
    } else if (entry.is_regular_file()) {
      const Descriptor descriptor(open_retrying(entry.path(), O_RDONLY));
      if (descriptor.get() < 0) throw_machine_error("read", entry.path(), errno);
      fsync_or_throw(descriptor.get(), entry.path());
    }
  }
  fsync_directory(directory);
}

// Splits ".<name>.<kind>-<pid>-<number>"; an empty name when the file is not one of ours.
struct Leftover {
  std::string name, kind;
};
Leftover parse_leftover(const std::string& file) {
  auto digits_before = [&](std::size_t end) {  // start of the digits that end there
    while (end > 0 && file[end - 1] >= '0' && file[end - 1] <= '9') --end;
    return end;
  };
  const std::size_t number = digits_before(file.size());
  if (number == file.size() || number < 2 || file[number - 1] != '-') return {};
  const std::size_t pid = digits_before(number - 1);
  if (pid == number - 1 || pid < 7 || file[pid - 1] != '-' || file[0] != '.') return {};
  const std::string kind = file.substr(pid - 5, 5);
  if (kind != ".tmp-" && kind != ".old-") return {};
  return {file.substr(1, pid - 6), kind.substr(1, 3)};
}

}  // namespace

DirectoryWriter::DirectoryWriter(const fs::path& directory) : directory_(directory.lexically_normal()) {
  if (!directory_.has_filename()) directory_ = directory_.parent_path();  // "run/" is "run"
  if (directory_.empty() || directory_.filename() == "." || directory_.filename() == ".." || directory_ == directory_.root_path())
    throw UserError(cat("cannot replace the directory ", directory.string(), "; name one inside it"));
  if (fs::exists(directory_) && !fs::is_directory(directory_))
    throw UserError(cat("cannot write the directory ", directory_.string(), ": a file of that name exists"));
  graft::create_directories(parent_of(directory_));
  for (unsigned number = 0;; ++number) {
    temporary_ = temporary_name(directory_, "tmp", number);
    if (::mkdir(temporary_.c_str(), 0777) == 0) break;
    if (errno != EEXIST) throw_machine_error("create", directory_, errno);
  }
}

DirectoryWriter::~DirectoryWriter() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void DirectoryWriter::commit() {
  assert(!committed_);
  const fs::path parent = parent_of(directory_);
  fsync_tree(temporary_);
  if (!fs::exists(directory_)) {
    if (::rename(temporary_.c_str(), directory_.c_str()) != 0) throw_machine_error("write", directory_, errno);
    committed_ = true;
    return fsync_directory(parent);
  }

  fs::path old = temporary_;
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, directory_.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) throw_machine_error("write", directory_, errno);
    // This file system cannot exchange. Between two renames the name is gone; remove_leftovers brings the old one back.
    unsigned number = 0;
    do old = temporary_name(directory_, "old", number++);
    while (fs::exists(old));
    if (::rename(directory_.c_str(), old.c_str()) != 0) throw_machine_error("write", directory_, errno);
    if (::rename(temporary_.c_str(), directory_.c_str()) != 0) {
      const int reason = errno;
      [[maybe_unused]] const int restored = ::rename(old.c_str(), directory_.c_str());
      throw_machine_error("write", directory_, reason);
    }
  }
  committed_ = true;
  fsync_directory(parent);
  std::error_code ignored;  // an old directory that cannot be removed now is a leftover for later
  fs::remove_all(old, ignored);
}

void remove_leftovers(const fs::path& directory) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const Leftover leftover = parse_leftover(entry.path().filename().string());
    if (leftover.name.empty()) continue;
    const fs::path final_path = directory / leftover.name;
    if (leftover.kind == "old" && !fs::exists(final_path)) {
      fs::rename(entry.path(), final_path, error);
      if (error) throw_machine_error("restore", final_path, error.value());
      fsync_directory(directory);
    } else {
      fs::remove_all(entry.path(), error);
      if (error) throw_machine_error("remove", entry.path(), error.value());
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) throw_machine_error("read", directory, error.value());
}

DirectoryLock::DirectoryLock(const fs::path& directory) {
  const fs::path file = directory / ".lock";
  descriptor_ = open_retrying(file, O_RDWR | O_CREAT);
  if (descriptor_ < 0) throw_machine_error("lock", file, errno);
  int locked;
  do locked = ::flock(descriptor_, LOCK_EX | LOCK_NB);
  while (locked != 0 && errno == EINTR);
  char holder[24] = {};
  if (locked != 0) {
    const int reason = errno;
    const ssize_t got = reason == EWOULDBLOCK ? ::pread(descriptor_, holder, sizeof holder - 1, 0) : -1;
    ::close(descriptor_);
    if (reason != EWOULDBLOCK) throw_machine_error("lock", file, reason);
    long pid = 0;
    std::from_chars(holder, holder + std::max<ssize_t>(got, 0), pid);
    throw Error(EX_TEMPFAIL, cat(directory.string(), " is in use by process ", pid > 0 ? std::to_string(pid) : "of another user",
                                 "; wait for it to end"));
  }
  const std::string pid = cat(::getpid(), "\n");
  try {  // only for the message above
    truncate_or_throw(descriptor_, 0, file);
    write_all(descriptor_, pid.data(), pid.size(), file);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

DirectoryLock::~DirectoryLock() { ::close(descriptor_); }

}  // namespace graft
