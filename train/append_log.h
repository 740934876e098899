// A file that only grows, one record at a time, and whose end is part of a checkpoint: on resume it is cut back to where the
// checkpoint left it, so that a step that is done again is not recorded twice.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/descriptor.h"

namespace graft::train {

class AppendLog {
 public:
  // Opens or creates the file and cuts it to `position` bytes. A file that is shorter (it was removed or cut by hand) is kept
  // as it is, with a warning: what was logged is lost, the run is not. The name of a new file is durable on return.
  AppendLog(const fs::path& file, std::uint64_t position);

  void append(std::string_view bytes);  // visible to readers at once
  void sync();                          // on disk; called before a checkpoint that refers to position()
  std::uint64_t position() const { return position_; }

 private:
  fs::path file_;
  std::uint64_t position_;
  Descriptor descriptor_;
};

}  // namespace graft::train
