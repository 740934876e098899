#include <algorithm>
#include <iostream>
#include <map>
#include <set>

#include "cli/engine.h"
#include "core/error.h"
#include "core/json.h"
#include "core/wrap.h"
#include "export/exporter.h"
#include "export/server.h"

namespace graft::cli {
namespace {

using Names = std::vector<std::string>;

// Formats that differ in the size of their groups, or in how documents are looked at: "awq-gN[-awq|-awq-gptq]".
struct Family {
  std::string name, summary;
  Names suffixes;
  bool quantizes = false;
  std::string label() const {
    std::string all;
    for (const std::string& suffix : suffixes) all += (all.empty() ? "" : "|") + suffix;
    return all.empty() ? name : cat(name, "[", all, "]");
  }
};

// "-awq-gptq" of "awq-g32-awq-gptq".
std::string suffix_of(const std::string& name) {
  std::size_t at = name.size();
  for (;;) {
    const std::size_t dash = name.rfind('-', at - 1);
    const std::string word = dash == std::string::npos ? "" : name.substr(dash, at - dash);
    if (word != "-gptq" && word != "-awq" && word != "-smooth" && word != "-static" && word != "-imatrix") return name.substr(at);
    at = dash;
  }
}

void replace_number(std::string& text, const std::string& number) {
  if (const auto at = text.find(number); at != std::string::npos) text.replace(at, number.size(), "N");
}

Family family_of(const exports::Exporter& format) {
  Family family{std::string(format.name), std::string(format.summary), {}, format.quantizes};
  if (format.calibrates) {
    family.suffixes = {suffix_of(family.name)};
    family.name.resize(family.name.size() - family.suffixes.front().size());
  }
  if (const std::int64_t group = exports::group_of(family.name); group > 0 && family.name.ends_with(cat("-g", group))) {
    replace_number(family.name, std::to_string(group));
    replace_number(family.summary, std::to_string(group));
  }
  return family;
}

// Unrounded ones first. What a family says of itself is what its member without a suffix says.
std::vector<Family> families() {
  std::vector<Family> all;
  for (const exports::Exporter* format : exports::all_formats()) {
    Family family = family_of(*format);
    const auto known = std::find_if(all.begin(), all.end(), [&](const Family& each) { return each.name == family.name; });
    if (known == all.end())
      all.push_back(std::move(family));
    else if (family.suffixes.empty())
      known->summary = family.summary;
    else if (std::find(known->suffixes.begin(), known->suffixes.end(), family.suffixes.front()) == known->suffixes.end())
      known->suffixes.push_back(family.suffixes.front());
  }
  std::stable_sort(all.begin(), all.end(), [](const Family& a, const Family& b) { return a.quantizes < b.quantizes; });
  return all;
}

bool reads(const exports::Server& server, const std::string& format) {
  model::ModelSpec spec;
  spec.family = "llama", spec.architecture = "LlamaForCausalLM";  // the one that every server reads
  const auto findings = server.findings({spec, {}, {}, {format, "gguf-base-bf16"}});
  return std::any_of(findings.begin(), findings.end(), [&](const exports::Finding& finding) {
    return finding.topic == format && finding.state == exports::State::ok;
  });
}

// Who loads a format; transformers and peft are no servers of export/servers/.
Names readers_of(const exports::Exporter& format) {
  Names names;
  for (const exports::Server* server : exports::all_servers())
    if (reads(*server, std::string(format.name))) names.emplace_back(server->title);
  for (const char* library : {"transformers", "peft"})
    if (format.loads_in.find(library) != std::string_view::npos) {
      names.emplace_back("transformers, peft");
      break;
    }
  return names;
}

struct Section {
  std::string title;
  Names families;  // names
};

// A section for each reader, the one of the most formats first; readers of the same formats share one.
std::vector<Section> sections() {
  std::map<std::string, Names> by_reader;
  for (const exports::Exporter* format : exports::all_formats())
    for (const std::string& reader : readers_of(*format)) {
      Names& names = by_reader[reader];
      const std::string name = family_of(*format).name;
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  std::vector<Section> sections;
  for (const auto& [reader, names] : by_reader) {
    const auto same = std::find_if(sections.begin(), sections.end(), [&](const Section& each) { return each.families == names; });
    if (same == sections.end())
      sections.push_back({reader, names});
    else
      same->title += ", " + reader;
  }
  std::stable_sort(sections.begin(), sections.end(),
                   [](const Section& a, const Section& b) { return a.families.size() > b.families.size(); });
  return sections;
}

void print_sections() {
  constexpr std::size_t kColumn = 28;
  const std::vector<Family> all = families();
  std::set<std::string> described;
  for (const Section& section : sections()) {
    std::cout << section.title << "\n";
    std::string above;
    for (const Family& family : all) {
      if (std::find(section.families.begin(), section.families.end(), family.name) == section.families.end()) continue;
      if (described.insert(family.name).second)
        std::cout << in_column("  " + family.label(), kColumn, family.summary);
      else
        above += (above.empty() ? "" : ", ") + family.label();
    }
    if (!above.empty()) std::cout << in_column("  and of the above", kColumn, above);
    std::cout << "\n";
  }
  std::cout << "gN              N is 32, 64 or 128: that many columns of a row share one scale\n"
               "[-gptq|...] ... with one of these endings: rounded with a look at training documents (export.calibration)\n"
               "`graft doctor --for SERVER` says what a server makes of the formats in your config.\n";
}

}  // namespace
}  // namespace graft::cli

int graft::cli::graft_formats(const Context& context) {
  if (!context.json) {
    print_sections();
    return kDone;
  }
  Json list = Json::array();
  for (const exports::Exporter* format : exports::all_formats())
    list.push_back({{"name", format->name},
                    {"summary", format->summary},
                    {"loads_in", format->loads_in},
                    {"readers", readers_of(*format)},
                    {"directory", format->extension.empty()},
                    {"merged", format->merges},
                    {"calibrates", format->calibrates}});
  std::cout << Json{{"formats", list}}.dump(2) << "\n";
  return kDone;
}
