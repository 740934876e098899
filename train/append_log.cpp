#include "train/append_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/log.h"

namespace graft::train {

AppendLog::AppendLog(const fs::path& file, std::uint64_t position)
    : file_(file), position_(position), descriptor_(open_retrying(file, O_RDWR | O_CREAT)) {
  if (descriptor_.get() < 0) throw_machine_error("open", file, errno);
  struct stat status;
  if (::fstat(descriptor_.get(), &status) != 0) throw_machine_error("read", file, errno);
  if (status.st_size == 0) fsync_directory(parent_of(file));  // it may be new
  if (static_cast<std::uint64_t>(status.st_size) < position_) {
    log::warn("train", file.string(), " has ", status.st_size, " bytes, the checkpoint knew ", position_,
              "; earlier records are lost, the run goes on");
    position_ = static_cast<std::uint64_t>(status.st_size);
  }
  truncate_or_throw(descriptor_.get(), static_cast<std::int64_t>(position_), file);
  if (::lseek(descriptor_.get(), static_cast<off_t>(position_), SEEK_SET) < 0) throw_machine_error("write", file, errno);
}

void AppendLog::append(std::string_view bytes) {
  write_all(descriptor_.get(), bytes.data(), bytes.size(), file_);
  position_ += bytes.size();
}

void AppendLog::sync() { fsync_or_throw(descriptor_.get(), file_); }

}  // namespace graft::train
