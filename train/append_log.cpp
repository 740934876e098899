#include "train/append_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/descriptor.h"
#include "core/log.h"

namespace graft::train {

AppendLog::AppendLog(const fs::path& file, std::uint64_t position) : file_(file), position_(position) {
  descriptor_ = open_retrying(file, O_RDWR | O_CREAT);
  if (descriptor_ < 0) throw_machine_error("open", file, errno);
  struct stat status;
  bool good = ::fstat(descriptor_, &status) == 0;
  if (good && static_cast<std::uint64_t>(status.st_size) < position_) {
    log::warn("train", file.string(), " has ", status.st_size, " bytes, the checkpoint knew ", position_,
              "; earlier records are lost, the run goes on");
    position_ = static_cast<std::uint64_t>(status.st_size);
  }
  good = good && ::ftruncate(descriptor_, static_cast<off_t>(position_)) == 0 &&
         ::lseek(descriptor_, static_cast<off_t>(position_), SEEK_SET) >= 0;
  if (!good) {
    const int reason = errno;
    ::close(descriptor_);
    throw_machine_error("write", file, reason);
  }
}

AppendLog::~AppendLog() { ::close(descriptor_); }

void AppendLog::append(std::string_view bytes) {
  write_all(descriptor_, bytes.data(), bytes.size(), file_);
  position_ += bytes.size();
}

void AppendLog::sync() { fsync_or_throw(descriptor_, file_); }

}  // namespace graft::train
