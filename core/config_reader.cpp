#include "core/config_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "core/config_node.h"
#include "core/error.h"
#include "core/nearest.h"

namespace graft {
namespace {

using Kind = ConfigNode::Kind;
constexpr std::size_t kMostIssues = 100;

struct Issue {
  std::string origin;  // "file:line:col", or "--set path"
  int line, column;
  std::string path, what;
};

// Every field's name with the section it lives in, for "belongs under".
struct KnownKey {
  std::string section, name;
};
void collect_keys(const ConfigSection& fields, const std::string& section, std::vector<KnownKey>& out) {
  for (const ConfigField& field : fields) {
    out.push_back({section, field.name});
    const std::string path = section.empty() ? field.name : section + "." + field.name;
    if (const auto* inner = std::get_if<ConfigSection>(&field.value)) collect_keys(*inner, path, out);
    if (const auto* list = std::get_if<ConfigList>(&field.value)) collect_keys(list->prototype, path, out);
  }
}

std::vector<std::string> names_of(const ConfigSection& fields) {
  std::vector<std::string> names;
  for (const ConfigField& field : fields) names.push_back(field.name);
  return names;
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

const ConfigField* find(const ConfigSection& fields, std::string_view name) {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const ConfigField& field) { return field.name == name; });
  return at == fields.end() ? nullptr : &*at;
}

// The whole text as a number; a leading '+' is allowed, "inf" and "nan" are not.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value)) return std::nullopt;
  return value;
}

// "64k", "10%", "2 GB": a number with something behind it.
bool has_unit(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() + text.size() && end != text.data() && text.find_first_of("0123456789") < 2;
}

std::optional<bool> parse_truth(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::string found(const ConfigNode& node) {
  switch (node.kind) {
    case Kind::null:
      return "nothing";
    case Kind::sequence:
      return "a list";
    case Kind::mapping:
      return "a section";
    default:
      break;
  }
  if (!node.quoted && parse_truth(node.scalar)) return node.scalar;
  if (!node.quoted && parse_number<double>(node.scalar)) return "the number " + node.scalar;
  return "the text " + quote(node.scalar);
}

class Reader {
 public:
  Reader(const ConfigSection& root, std::string file) : root_(root), file_(std::move(file)) { collect_keys(root, "", known_); }

  void read_file(std::string_view text) {
    try {
      const ConfigNode node = parse_yaml(text);
      read_section(root_, node, "");
    } catch (const ConfigSyntaxError& error) {
      add(error.line, error.column, "", error.what);
    }
  }

  void apply(const ConfigOverride& override) {
    override_ = "--set " + override.path;
    try {
      ConfigSection owner;
      if (const ConfigField* field = locate(override.path, owner)) read_value(*field, parse_yaml(override.value), override.path);
    } catch (const ConfigSyntaxError& error) {
      add(error.line, error.column, override.path, error.what);
    }
    override_.clear();
  }

  void throw_if_any() {
    if (issues_.empty()) return;
    std::stable_sort(issues_.begin(), issues_.end(),
                     [](const Issue& a, const Issue& b) { return std::pair(a.line, a.column) < std::pair(b.line, b.column); });
    std::string text;
    for (std::size_t i = 0; i < std::min(issues_.size(), kMostIssues); ++i) {
      const Issue& issue = issues_[i];
      text += cat(i ? "\n" : "", issue.origin, ": ", issue.path.empty() ? "" : issue.path + ": ", issue.what);
    }
    if (issues_.size() > kMostIssues) text += cat("\n", file_, ": and more");
    throw ConfigError(text);
  }

 private:
  void add(int line, int column, const std::string& path, const std::string& what) {
    // What came from --set has no line; it is listed after the file.
    if (override_.empty())
      issues_.push_back({cat(file_, ":", line, ":", column), line, column, path, what});
    else
      issues_.push_back({override_, std::numeric_limits<int>::max(), 0, "", what});
  }
  void add(const ConfigNode& at, const std::string& path, const std::string& what) { add(at.line, at.column, path, what); }
  bool full() const { return issues_.size() > kMostIssues; }

  static std::string join_path(const std::string& section, const std::string& name) {
    return section.empty() ? name : section + "." + name;
  }

  // What to say of a name that this section does not have.
  std::string suggest(const ConfigSection& fields, std::string_view name) const {
    std::string places;
    for (const KnownKey& key : known_)
      if (key.name == name)
        places += (places.empty() ? "" : " or ") + (key.section.empty() ? "the top level" : quote(key.section));
    if (!places.empty()) return "does not belong here; it belongs under " + places;
    if (const std::string near = nearest_name(name, names_of(fields)); !near.empty())
      return "unknown key; did you mean " + quote(near) + "?";
    std::vector<std::string> everywhere;
    for (const KnownKey& key : known_) everywhere.push_back(key.name);
    if (const std::string near = nearest_name(name, everywhere); !near.empty()) {
      const auto key = std::find_if(known_.begin(), known_.end(), [&](const KnownKey& k) { return k.name == near; });
      return "unknown key; did you mean " + quote(join_path(key->section, key->name)) + "?";
    }
    return "unknown key; known here: " + join(names_of(fields));
  }

  void read_section(const ConfigSection& fields, const ConfigNode& node, const std::string& path) {
    if (node.kind == Kind::null) return;  // a section with nothing in it, or an empty file
    if (node.kind != Kind::mapping)
      return add(node, path, "expected a section (" + join(names_of(fields)) + "), found " + found(node));
    std::map<std::string_view, const ConfigNode*> seen;
    for (const auto& [key, value] : node.entries) {
      if (full()) return;
      if (key.kind != Kind::scalar) {
        add(key, path, "expected the name of a field, found " + found(key));
        continue;
      }
      const std::string name = key.scalar.size() > 80 ? key.scalar.substr(0, 80) : key.scalar;
      const auto [first, is_new] = seen.emplace(key.scalar, &key);
      if (!is_new) {
        add(key, join_path(path, name), cat("is there twice; first in line ", first->second->line));
      } else if (const ConfigField* field = find(fields, key.scalar)) {
        read_value(*field, value.kind == Kind::null ? at_place(value, key) : value, join_path(path, name));
      } else {
        const std::string shown = quote(name);
        add(key, join_path(path, shown.substr(1, shown.size() - 2)), suggest(fields, key.scalar));
      }
    }
  }

  // A missing value has no place of its own in some YAML; its key's is good enough.
  static ConfigNode at_place(ConfigNode value, const ConfigNode& key) {
    value.line = key.line;
    value.column = key.column;
    return value;
  }

  void read_value(const ConfigField& field, const ConfigNode& node, const std::string& path) {
    std::visit([&](auto& target) { read_as(target, field, node, path); }, field.value);
  }

  void read_as(std::int64_t* target, const ConfigField& field, const ConfigNode& node, const std::string& path) {
    const auto value = node.kind == Kind::scalar && !node.quoted ? parse_number<std::int64_t>(node.scalar) : std::nullopt;
    if (!value) return add(node, path, "expected an integer, found " + found(node) + number_hint(node));
    if (*value < field.lowest || *value > field.highest)
      return add(node, path, cat(*value, " is out of range; ", range_text(field.lowest, field.highest)));
    *target = *value;
  }

  void read_as(double* target, const ConfigField& field, const ConfigNode& node, const std::string& path) {
    const auto value = node.kind == Kind::scalar && !node.quoted ? parse_number<double>(node.scalar) : std::nullopt;
    if (!value) return add(node, path, "expected a number, found " + found(node) + number_hint(node));
    if (*value < field.low || *value > field.high)
      return add(node, path, cat(node.scalar, " is out of range; ", range_text(field.low, field.high)));
    *target = *value;
  }

  void read_as(bool* target, const ConfigField&, const ConfigNode& node, const std::string& path) {
    const auto value = node.kind == Kind::scalar && !node.quoted ? parse_truth(node.scalar) : std::nullopt;
    if (!value) return add(node, path, "expected true or false, found " + found(node));
    *target = *value;
  }

  void read_as(std::string* target, const ConfigField& field, const ConfigNode& node, const std::string& path) {
    if (check_text(field, node, path)) *target = node.scalar;
  }

  void read_as(std::vector<std::string>* target, const ConfigField& field, const ConfigNode& node, const std::string& path) {
    if (node.kind != Kind::sequence) {
      const bool one = node.kind == Kind::scalar;
      return add(node, path, "expected a list, found " + found(node) + (one ? "; write it in brackets: [...]" : ""));
    }
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < node.items.size() && !full(); ++i)
      if (check_text(field, node.items[i], cat(path, "[", i, "]"))) texts.push_back(node.items[i].scalar);
    if (texts.size() == node.items.size()) *target = std::move(texts);
  }

  void read_as(const ConfigSection& fields, const ConfigField&, const ConfigNode& node, const std::string& path) {
    read_section(fields, node, path);
  }

  void read_as(const ConfigList& list, const ConfigField&, const ConfigNode& node, const std::string& path) {
    if (node.kind != Kind::sequence) return add(node, path, "expected a list of sections, found " + found(node));
    list.reset(node.items.size());
    for (std::size_t i = 0; i < node.items.size() && !full(); ++i) {
      const std::string item_path = cat(path, "[", i, "]");
      if (node.items[i].kind == Kind::null) add(node.items[i], item_path, "expected a section, found nothing");
      read_section(list.item(i), node.items[i], item_path);
    }
  }

  bool check_text(const ConfigField& field, const ConfigNode& node, const std::string& path) {
    const bool text =
        node.kind == Kind::scalar && (node.quoted || (!parse_truth(node.scalar) && !parse_number<double>(node.scalar)));
    if (!text) {
      const std::string hint = node.kind == Kind::scalar ? "; put it in quotes if it is meant as text"
                               : node.kind == Kind::null ? "; write \"\" for an empty text"
                                                         : "";
      add(node, path, "expected text, found " + found(node) + hint);
      return false;
    }
    if (field.choices.empty() || std::find(field.choices.begin(), field.choices.end(), node.scalar) != field.choices.end())
      return true;
    const std::string near = nearest_name(node.scalar, field.choices);
    add(node, path,
        cat(quote(node.scalar), " is not one of ", join(field.choices),
            near.empty() ? "" : "; did you mean " + quote(near) + "?"));
    return false;
  }

  static std::string number_hint(const ConfigNode& node) {
    if (node.kind != Kind::scalar) return "";
    if (node.quoted && parse_number<double>(node.scalar)) return "; remove the quotes";
    if (has_unit(node.scalar)) return "; write the number alone, without a unit";
    return "";
  }

  template <class T>
  static std::string range_text(T low, T high) {
    if (high == std::numeric_limits<T>::max()) return cat("at least ", low, " is expected");
    return cat(low, " to ", high, " is expected");
  }

  // The field that a dotted path names. Fields of a list's item live in `owner`.
  const ConfigField* locate(const std::string& path, ConfigSection& owner) {
    const ConfigSection* section = &root_;
    for (std::size_t begin = 0;;) {
      const std::size_t dot = path.find('.', begin);
      const bool last = dot == std::string::npos;
      const std::string name = path.substr(begin, last ? dot : dot - begin);
      const ConfigField* field = find(*section, name);
      if (!field) {
        add(0, 0, path, suggest(*section, name));
        return nullptr;
      }
      if (last) return field;
      begin = dot + 1;
      if (const auto* inner = std::get_if<ConfigSection>(&field->value)) {
        section = inner;
      } else if (const auto* list = std::get_if<ConfigList>(&field->value)) {
        const std::size_t end = path.find('.', begin);
        const auto index = parse_number<std::size_t>(path.substr(begin, end == std::string::npos ? end : end - begin));
        if (!index || *index >= list->size() || end == std::string::npos) {
          add(0, 0, path,
              cat(quote(field->name), " is a list of ", list->size(), " sections; name a field of one: ", field->name, ".0.",
                  list->prototype.front().name));
          return nullptr;
        }
        ConfigSection item = list->item(*index);
        owner = std::move(item);
        section = &owner;
        begin = end + 1;
      } else {
        add(0, 0, path, quote(field->name) + " is a value, not a section");
        return nullptr;
      }
    }
  }

  const ConfigSection& root_;
  std::string file_, override_;
  std::vector<KnownKey> known_;
  std::vector<Issue> issues_;
};

}  // namespace

void read_fields(const ConfigSection& fields, std::string_view text, const std::string& file_name,
                 const std::vector<ConfigOverride>& overrides) {
  Reader reader(fields, file_name);
  reader.read_file(text);
  for (const ConfigOverride& override : overrides) reader.apply(override);
  reader.throw_if_any();
}

void ConfigVisitor::field(std::int64_t& value, const char* name, std::int64_t low, std::int64_t high, const char* help) {
  fields.push_back({name, help, &value});
  fields.back().lowest = low;
  fields.back().highest = high;
}
void ConfigVisitor::field(double& value, const char* name, double low, double high, const char* help) {
  fields.push_back({name, help, &value});
  fields.back().low = low;
  fields.back().high = high;
}
void ConfigVisitor::field(std::int64_t& value, const char* name, const char* help) { fields.push_back({name, help, &value}); }
void ConfigVisitor::field(double& value, const char* name, const char* help) { fields.push_back({name, help, &value}); }
void ConfigVisitor::field(bool& value, const char* name, const char* help) { fields.push_back({name, help, &value}); }
void ConfigVisitor::field(std::string& value, const char* name, const char* help) { fields.push_back({name, help, &value}); }
void ConfigVisitor::field(std::vector<std::string>& value, const char* name, const char* help) {
  fields.push_back({name, help, &value});
}
void ConfigVisitor::field(std::string& value, const char* name, std::initializer_list<std::string_view> choices,
                          const char* help) {
  fields.push_back({name, help, &value});
  fields.back().choices.assign(choices.begin(), choices.end());
}
void ConfigVisitor::field(std::vector<std::string>& value, const char* name, std::initializer_list<std::string_view> choices,
                          const char* help) {
  fields.push_back({name, help, &value});
  fields.back().choices.assign(choices.begin(), choices.end());
}

}  // namespace graft
