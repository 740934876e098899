// Which linears a group of a compressed-tensors config is about: its "targets" (compressed-tensors utils/match.py).
//
//   "Linear"                             every linear that no other group names
//   "model.layers.0.mlp.down_proj"       that module
//   "re:.*\.down_proj$"                  every module whose name the pattern matches from its beginning on: letters, digits, '_',
//                                        '-' and '\.' stand for themselves, '.' for any character, '.*' for any number of them;
//                                        without '$' at its end, anything may follow
#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace graft::model {

class ModuleTargets {
 public:
  // Begin with `origin`: FormatError when it is no list of strings, UnsupportedError for a target of another kind.
  ModuleTargets(const Json& targets, const std::string& origin);

  bool linears() const { return linears_; }     // "Linear" is among them
  bool names(const std::string& module) const;  // by its name or by a pattern

 private:
  bool linears_ = false;
  std::set<std::string> modules_;
  std::vector<std::string> patterns_;  // '*' for any characters, '?' for one
};

}  // namespace graft::model
