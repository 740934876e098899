// A config is a struct that describes itself: one `visit` method names each field with its range and meaning; its
// default is its initialiser. The reader, the dump, --set and the documentation all work on that description.
//
//   struct LoraConfig {
//     std::int64_t rank = 16;
//     template <class V> void visit(V& v) { v.field(rank, "rank", 1, 1024, "rank r of B*A"); }
//   };
//   auto config = read_config<LoraConfig>("lora.yaml", {{"rank", "8"}});
//
// Reading reports every problem at once, sorted by line, as "file:line:col: path: what; did you mean 'x'?"
// (ConfigError). Unknown, duplicate and misplaced keys are errors; a key that exists in another section is answered
// with that section's name. Types are strict: text that looks like a number or like true must be quoted, a list is a
// list, a number has no unit.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/file.h"
#include "core/json.h"

namespace graft {

struct ConfigOverride {
  // From --set a.b=value; the value is YAML. Items of a list are numbered: corpus.sources.0.path
  std::string path, value;
};

// ---- The description of one config object, with pointers to its values.

struct ConfigField;
using ConfigSection = std::vector<ConfigField>;

struct ConfigList {
  std::function<std::size_t()> size;
  std::function<void(std::size_t)> reset;  // that many items, all of them defaults
  std::function<ConfigSection(std::size_t)> item;
  std::shared_ptr<void> prototype_owner;
  ConfigSection prototype;  // a default item, for documentation and suggestions
};

struct ConfigField {
  std::string name, help;
  std::variant<std::int64_t*, double*, bool*, std::string*, std::vector<std::string>*, ConfigSection, ConfigList> value;
  std::int64_t lowest = std::numeric_limits<std::int64_t>::min(), highest = std::numeric_limits<std::int64_t>::max();
  double low = -std::numeric_limits<double>::max(), high = std::numeric_limits<double>::max();
  std::vector<std::string> choices = {};  // text and lists of text; empty: anything
};

// The V of `visit`.
class ConfigVisitor {
 public:
  void field(std::int64_t& value, const char* name, std::int64_t low, std::int64_t high, const char* help);
  void field(double& value, const char* name, double low, double high, const char* help);
  void field(std::int64_t& value, const char* name, const char* help);
  void field(double& value, const char* name, const char* help);
  void field(bool& value, const char* name, const char* help);
  void field(std::string& value, const char* name, const char* help);
  void field(std::vector<std::string>& value, const char* name, const char* help);
  void field(std::string& value, const char* name, std::initializer_list<std::string_view> choices, const char* help);
  void field(std::vector<std::string>& value, const char* name, std::initializer_list<std::string_view> choices,
             const char* help);

  template <class T>
  void section(T& value, const char* name, const char* help);
  template <class T>
  void list(std::vector<T>& value, const char* name, const char* help);

  ConfigSection fields;
};

template <class T>
ConfigSection describe(T& config) {
  ConfigVisitor visitor;
  config.visit(visitor);
  return std::move(visitor.fields);
}

template <class T>
void ConfigVisitor::section(T& value, const char* name, const char* help) {
  fields.push_back({name, help, describe(value)});
}

template <class T>
void ConfigVisitor::list(std::vector<T>& value, const char* name, const char* help) {
  auto prototype = std::make_shared<T>();
  ConfigList list;
  list.size = [&value] { return value.size(); };
  list.reset = [&value](std::size_t size) { value.assign(size, T()); };
  list.item = [&value](std::size_t index) { return describe(value.at(index)); };
  list.prototype = describe(*prototype);
  list.prototype_owner = prototype;
  fields.push_back({name, help, std::move(list)});
}

// ---- What is done with a description.

void read_fields(const ConfigSection& fields, std::string_view text, const std::string& file_name,
                 const std::vector<ConfigOverride>& overrides);
std::string dump_fields(const ConfigSection& fields);
Json fields_json(const ConfigSection& fields);
std::string document_fields(const ConfigSection& fields);

// ---- The same for a config type.

inline constexpr std::uint64_t kLargestConfig = 64 << 10;  // parsed in well under 100 ms

template <class T>
T read_config_text(std::string_view text, const std::string& file_name, const std::vector<ConfigOverride>& overrides = {}) {
  T config;
  read_fields(describe(config), text, file_name, overrides);
  return config;
}

template <class T>
T read_config(const fs::path& file, const std::vector<ConfigOverride>& overrides = {}) {
  return read_config_text<T>(read_file(file, kLargestConfig), file.string(), overrides);
}

// The resolved config as YAML with the help as comments; reading it back gives the same values.
template <class T>
std::string dump_config(const T& config) {
  T copy = config;
  return dump_fields(describe(copy));
}

// The resolved config for manifests and hashing: every field, in the order of `visit`.
template <class T>
Json config_json(const T& config) {
  T copy = config;
  return fields_json(describe(copy));
}

// A table of every field: path, type, default, range or choices, meaning.
template <class T>
std::string describe_config() {
  T config;
  return document_fields(describe(config));
}

}  // namespace graft
