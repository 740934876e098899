// What to try where a format lost too much of what was learned.
#pragma once

#include <string>
#include <vector>

namespace graft::exports {

// The merged formats for the same servers to try next, in this order: as many bits rounded with more care, then more bits; the
// last quantizes nothing. Empty where there are none.
std::vector<std::string> larger_formats(const std::string& format);

}  // namespace graft::exports
