// A config as text: YAML with comments, JSON, and the table of `graft help config`.
#include <algorithm>
#include <charconv>

#include "core/config_reader.h"
#include "core/error.h"
#include "core/wrap.h"

namespace graft {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

std::string number_text(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;  // the shortest that reads back the same
  return {text, end};
}

// Bare when YAML reads it back as this text, else in double quotes.
std::string yaml_text(std::string_view text) {
  static constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/.";
  static constexpr std::string_view others = "0123456789-+*";
  static constexpr std::string_view words[] = {"true", "false", "null", "yes", "no",  "on",
                                               "off",  "y",     "n",    "inf", "nan", "infinity"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  const bool starts_like_text = !text.empty() && letters.find(text[0]) != text.npos && text[0] != '.';
  const bool plain = std::all_of(text.begin(), text.end(),
                                 [](char c) { return letters.find(c) != letters.npos || others.find(c) != others.npos; });
  if (starts_like_text && plain && std::find(std::begin(words), std::end(words), lower) == std::end(words))
    return std::string(text);

  constexpr char digits[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7F) {
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string yaml_list(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? ", " : "") + yaml_text(text);
  return out + "]";
}

std::string scalar_text(const ConfigField& field) {
  return std::visit(
      Overloaded{[](const std::int64_t* value) { return std::to_string(*value); },
                 [](const double* value) { return number_text(*value); },
                 [](const bool* value) { return std::string(*value ? "true" : "false"); },
                 [](const std::string* value) { return yaml_text(*value); },
                 [](const std::vector<std::string>* value) { return yaml_list(*value); },
                 [](const ConfigSection&) { return std::string(); }, [](const ConfigList&) { return std::string("[]"); }},
      field.value);
}

constexpr std::int64_t kUnlimited = std::int64_t{1} << 40;  // a bound that nobody meets is none

// "1 to 1024", "at least 1", "a, b, c" or nothing.
std::string limits_text(const ConfigField& field) {
  std::string out;
  for (const std::string& choice : field.choices) out += (out.empty() ? "" : ", ") + choice;
  if (std::holds_alternative<std::int64_t*>(field.value) && field.highest != std::numeric_limits<std::int64_t>::max())
    out = field.highest < kUnlimited ? cat(field.lowest, " to ", field.highest) : cat("at least ", field.lowest);
  if (std::holds_alternative<double*>(field.value) && field.high != std::numeric_limits<double>::max())
    out = number_text(field.low) + " to " + number_text(field.high);
  return out;
}

// `lead` replaces the indentation of the first line: "- " of a list's item.
void dump(const ConfigSection& fields, const std::string& indent, std::string lead, std::string& out) {
  for (const ConfigField& field : fields) {
    const auto* section = std::get_if<ConfigSection>(&field.value);
    const auto* list = std::get_if<ConfigList>(&field.value);
    const std::string limits = limits_text(field);
    const std::string comment = "  # " + field.help + (limits.empty() ? "" : " (" + limits + ")") + "\n";
    out += lead + field.name + ":";
    lead = indent;
    if (section) {
      out += comment;
      dump(*section, indent + "  ", indent + "  ", out);
    } else if (list && list->size() > 0) {
      out += comment;
      for (std::size_t i = 0; i < list->size(); ++i) dump(list->item(i), indent + "    ", indent + "  - ", out);
    } else {
      out += " " + scalar_text(field) + comment;
    }
  }
}

struct Row {
  std::string path, standard, meaning;
  bool section = false;
};
void collect_rows(const ConfigSection& fields, const std::string& prefix, std::vector<Row>& rows) {
  for (const ConfigField& field : fields) {
    const std::string path = prefix + field.name, limits = limits_text(field);
    const auto* section = std::get_if<ConfigSection>(&field.value);
    rows.push_back({path, scalar_text(field), field.help + (limits.empty() ? "" : " (" + limits + ")"), section != nullptr});
    if (section) collect_rows(*section, path + ".", rows);
    if (const auto* list = std::get_if<ConfigList>(&field.value)) collect_rows(list->prototype, path + "[].", rows);
  }
}

}  // namespace

std::string dump_fields(const ConfigSection& fields) {
  std::string out;
  dump(fields, "", "", out);
  return out;
}

Json fields_json(const ConfigSection& fields) {
  Json out = Json::object();
  for (const ConfigField& field : fields) {
    out[field.name] = std::visit(Overloaded{[](const ConfigSection& section) { return fields_json(section); },
                                            [](const ConfigList& list) {
                                              Json items = Json::array();
                                              for (std::size_t i = 0; i < list.size(); ++i)
                                                items.push_back(fields_json(list.item(i)));
                                              return items;
                                            },
                                            [](const auto* value) { return Json(*value); }},
                                 field.value);
  }
  return out;
}

std::string document_fields(const ConfigSection& fields) {
  constexpr std::size_t kDefault = 12;
  std::vector<Row> rows = {{"key", "default", "meaning"}};
  collect_rows(fields, "", rows);
  std::size_t path = 0;
  for (const Row& row : rows) path = std::max(path, row.path.size());
  std::string out;
  for (const Row& row : rows) {
    const std::string key = row.path + std::string(path + 2 - row.path.size(), ' ') + row.standard;
    out += (row.section ? "\n" : "") + in_column(key, path + kDefault + 4, row.meaning);
  }
  return out;
}

}  // namespace graft
