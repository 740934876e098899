// A config is a struct that describes itself: one `visit` method names each field with its default, range and meaning, and the
// reader, the dump, --set and the documentation are visitors of it.
//
//   struct LoraConfig {
//     std::int64_t rank = 16;
//     template <class V> void visit(V& v) { v.field(rank, "rank", 1, 1024, "rank r of B*A"); }
//   };
//
// Reading reports every problem at once, sorted by line, as "file:line:col: path: what; did you mean 'x'?" (ConfigError).
// Unknown, duplicate and misplaced keys are errors; a key that belongs to another section is answered with that section's name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"

namespace graft {

// A YAML value with its place in the file. Anchors, tags and multi-documents are refused; depth and size are bounded.
struct ConfigNode {
  enum class Kind { null, scalar, sequence, mapping } kind = Kind::null;
  std::string scalar;
  bool quoted = false;
  std::vector<ConfigNode> items;                              // sequence
  std::vector<std::pair<ConfigNode, ConfigNode>> entries;     // mapping, keys as scalars
  std::string file;
  int line = 0, column = 0;  // 1-based
};
ConfigNode parse_yaml(const std::string& text, const std::string& file);

struct ConfigIssue {
  std::string file;
  int line, column;
  std::string path, what;
};

// Names every field of a schema with its dotted path, for "did you mean" and for `misplaced`.
class ConfigReader {
 public:
  ConfigReader(const ConfigNode& node, std::string path, std::vector<ConfigIssue>& issues,
               const std::vector<std::string>& all_paths);

  void field(std::int64_t& value, const char* name, std::int64_t low, std::int64_t high, const char* help);
  void field(double& value, const char* name, double low, double high, const char* help);
  void field(bool& value, const char* name, const char* help);
  void field(std::string& value, const char* name, const char* help);
  void field(std::string& value, const char* name, const std::vector<std::string>& choices, const char* help);
  void field(std::vector<std::string>& value, const char* name, const char* help);
  void field(std::vector<std::string>& value, const char* name, const std::vector<std::string>& choices, const char* help);

  template <class T>
  void section(T& value, const char* name, const char* help) {
    (void)help;
    if (auto child = child_section(name)) {
      value.visit(*child);
      child->finish();
    }
  }
  template <class T>
  void list(std::vector<T>& value, const char* name, const char* help) {  // sequence of sections
    (void)help;
    auto children = child_list(name);
    if (!children.empty()) value.clear();
    for (auto& child : children) {
      value.emplace_back().visit(*child);
      child->finish();
    }
  }
  void finish();  // reports the keys nobody asked for

 private:
  const ConfigNode* take(const char* name);
  void issue(const ConfigNode& at, const std::string& name, const std::string& what);
  std::unique_ptr<ConfigReader> child_section(const char* name);
  std::vector<std::unique_ptr<ConfigReader>> child_list(const char* name);

  const ConfigNode& node_;
  std::string path_;
  std::vector<ConfigIssue>& issues_;
  const std::vector<std::string>& all_paths_;
  std::map<std::string, bool> known_;
};

struct ConfigOverride {
  std::string path, value;  // from --set a.b=value
};

// In config_reader_impl.h: template <class T> T read_config(text, file, overrides); std::string dump_config(T) (YAML with the
// help as comments); std::vector<ConfigDoc> document_config(T).

}  // namespace graft
