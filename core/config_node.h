// A parsed YAML value with its place in the file: what config_reader.cpp reads from. Hides yaml-cpp.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft {

struct ConfigNode {
  enum class Kind { null, scalar, sequence, mapping } kind = Kind::null;
  std::string scalar;
  bool quoted = false;
  std::vector<ConfigNode> items;                           // sequence
  std::vector<std::pair<ConfigNode, ConfigNode>> entries;  // mapping, in order, duplicates included
  int line = 1, column = 1;
};

// A syntax error, or something configs do not use: anchors, aliases, tags, a second document, nesting above 16.
struct ConfigSyntaxError {
  int line, column;
  std::string what;
};

ConfigNode parse_yaml(std::string_view text);  // throws ConfigSyntaxError

}  // namespace graft
