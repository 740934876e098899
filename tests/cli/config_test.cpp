// The real program on damaged configs: every key of every config in configs/ and of one that sets every key there is, misspelt,
// moved and of a wrong type. Each is refused in under 100 ms with exit code 2, its place and the right key.
#include <algorithm>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>

#include "core/config_node.h"
#include "core/config_reader.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"
#include "train/config.h"

using namespace graft;
using namespace graft::testing;

namespace {

using Lines = std::vector<std::string>;

Lines lines_of(const std::string& text) {
  Lines lines;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    lines.push_back(text.substr(at, end - at));
  return lines;
}
std::string joined(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}
std::size_t indent_of(const std::string& line) { return std::min(line.find_first_not_of(" "), line.size()); }

// A key that a config sets, where it stands, and its description.
struct Key {
  std::string section, name;  // "corpus.sources", "path"
  std::string path;           // "corpus.sources[0].path", as messages have it
  std::string set_path;       // "corpus.sources.0.path", as --set has it
  std::size_t line, column;   // from 0
  const ConfigField* field;
};

void collect(const ConfigSection& fields, const ConfigNode& node, const std::string& section, const std::string& path,
             const std::string& set_path, std::vector<Key>& out) {
  for (const auto& [key, value] : node.entries) {
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const ConfigField& f) { return f.name == key.scalar; });
    REQUIRE(field != fields.end());
    const std::string dot = path.empty() ? "" : ".";
    out.push_back({section, key.scalar, path + dot + key.scalar, set_path + dot + key.scalar,
                   static_cast<std::size_t>(key.line - 1), static_cast<std::size_t>(key.column - 1), &*field});
    const Key here = out.back();
    const std::string inner = section.empty() ? key.scalar : section + "." + key.scalar;
    if (const auto* child = std::get_if<ConfigSection>(&field->value))
      collect(*child, value, inner, here.path, here.set_path, out);
    if (const auto* list = std::get_if<ConfigList>(&field->value))
      for (std::size_t i = 0; i < value.items.size(); ++i)
        collect(list->prototype, value.items[i], inner, cat(here.path, "[", i, "]"), cat(here.set_path, ".", i), out);
  }
}

struct Sample {
  std::string name, text;
};

// A config with every key there is, each at its default, and all configs of the repository.
std::vector<Sample> samples() {
  train::RunConfig every;
  every.corpus.sources.resize(1);
  std::vector<Sample> found = {{"every key", dump_config(every)}};
  for (const auto& entry : fs::directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "configs"))
    if (entry.path().extension() == ".yaml") found.push_back({entry.path().filename().string(), read_file(entry.path())});
  return found;
}

// Two neighbours that differ change places, which is the commonest slip.
std::string misspelt(const std::string& name) {
  for (std::size_t i = name.size() - 1; i > 0; --i)
    if (name[i] != name[i - 1]) return name.substr(0, i - 1) + name[i] + name[i - 1] + name.substr(i + 1);
  return name + "x";
}

// Values that the field does not take, and what the refusal says it wants.
struct Wrong {
  std::string value, wanted;
};
std::vector<Wrong> wrong_values(const ConfigField& field) {
  struct Of {
    std::vector<Wrong> operator()(const std::int64_t*) const {
      return {{"[1]", "expected an integer, found a list"},
              {"1.5", "expected an integer"},
              {"64k", "write the number alone"},
              {"\"3\"", "remove the quotes"},
              {"", "expected an integer, found nothing"}};
    }
    std::vector<Wrong> operator()(const double*) const {
      return {{"{a: 1}", "expected a number, found a section"},
              {"10%", "write the number alone"},
              {"true", "expected a number, found true"},
              {"nan", "expected a number"}};
    }
    std::vector<Wrong> operator()(const bool*) const {
      return {{"1", "expected true or false, found the number 1"}, {"yes", "expected true or false"}};
    }
    std::vector<Wrong> operator()(const std::string*) const {
      return {{"12", "expected text, found the number 12; put it in quotes"},
              {"[a]", "expected text, found a list"},
              {"", "expected text, found nothing"}};
    }
    std::vector<Wrong> operator()(const std::vector<std::string>*) const {
      return {{"word", "expected a list, found the text 'word'; write it in brackets"}, {"[1]", "expected text"}};
    }
    std::vector<Wrong> operator()(const ConfigSection&) const {
      return {{"word", "expected a section"}, {"[a]", "expected a section"}};
    }
    std::vector<Wrong> operator()(const ConfigList&) const {
      return {{"word", "expected a list of sections"}, {"[word]", "expected a section"}};
    }
  };
  return std::visit(Of{}, field.value);
}

// The value of the key on `line` replaced; what is indented below it goes.
Lines with_value(Lines lines, const Key& key, const std::string& value) {
  lines[key.line] = lines[key.line].substr(0, key.column) + key.name + ": " + value;
  std::size_t end = key.line + 1;
  while (end < lines.size() &&
         (indent_of(lines[end]) > key.column || (indent_of(lines[end]) == key.column && lines[end][key.column] == '-')))
    ++end;
  lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(key.line) + 1, lines.begin() + static_cast<std::ptrdiff_t>(end));
  return lines;
}

class Refusals {
 public:
  explicit Refusals(const Workshop& workshop) : workshop_(workshop) {}

  // The program on `config`: exit 2, and each of `texts` on stderr.
  void check(const std::string& config, const std::vector<std::string>& texts, const std::vector<std::string>& set = {}) {
    write_file(workshop_ / "run.yaml", config);
    const Outcome refused = workshop_.graft("run", set);
    INFO(refused.err);
    CHECK(refused.code == 2);
    CHECK(refused.out.empty());
    for (const std::string& text : texts) {
      INFO("expected: " << text);
      CHECK(refused.err.find(text) != std::string::npos);
    }
    CHECK(!fs::exists(workshop_ / "run"));
    CHECK(!fs::exists(workshop_ / "corpus"));
    seconds_.push_back(refused.seconds);
  }
  ~Refusals() {
    std::sort(seconds_.begin(), seconds_.end());
    const double median = seconds_.at(seconds_.size() / 2);
    std::cout << seconds_.size() << " configs refused, median " << 1000 * median << " ms, slowest " << 1000 * seconds_.back()
              << " ms\n";
    CHECK(median < 0.1);
  }

 private:
  const Workshop& workshop_;
  std::vector<double> seconds_;
};

}  // namespace

TEST_CASE("every config of the repository is read, and the configs that help names are there", "[config]") {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path());
    names.insert(entry.path().filename().string());
    const auto config = read_config<train::RunConfig>(entry.path());
    CHECK(!config.base.empty());
    CHECK(!config.corpus.sources.empty());
  }
  CHECK(names.count("minimal.yaml"));
  CHECK(names.count("quickstart.yaml"));
}

TEST_CASE("the examples of help name places that their config has", "[config][help]") {
  int places = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "cli/commands")) {
    std::string command = entry.path().stem().string();
    if (command.ends_with('_')) command.pop_back();
    std::optional<train::RunConfig> config;  // that the line names, or one before it
    std::istringstream lines(run_program({command, "--help"}).out);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("  graft ")) continue;
      INFO(line);
      std::istringstream words(line);
      for (std::string word, before; words >> word; before = word) {
        if (before == "-c")
          config = word.starts_with("configs/") ? std::optional(read_config<train::RunConfig>(fs::path(GRAFT_SOURCE_DIR) / word))
                                                : std::nullopt;
        if (before == "-c" || !config || word.find('=') != std::string::npos) continue;
        if (word != "corpus" && word != "run" && word.find('/') == std::string::npos) continue;
        if (before == "graft") continue;  // graft run
        std::vector<std::string> known = {config->run_dir, config->corpus.dir};
        for (const data::SourceConfig& source : config->corpus.sources) known.push_back(source.path);
        CHECK(std::any_of(known.begin(), known.end(), [&](const std::string& place) { return word.starts_with(place); }));
        if (word.find("/export/") != std::string::npos)
          CHECK(std::count(config->export_.formats.begin(), config->export_.formats.end(), fs::path(word).stem().string()) == 1);
        ++places;
      }
    }
  }
  CHECK(places >= 6);
}

TEST_CASE("every key misspelt, moved or of a wrong type is refused at once", "[config]") {
  const Workshop workshop({}, 1);
  Refusals refusals(workshop);
  for (const Sample& sample : samples()) {
    const Lines lines = lines_of(sample.text);
    train::RunConfig config;
    const ConfigSection fields = describe(config);
    std::vector<Key> keys;
    collect(fields, parse_yaml(sample.text), "", "", "", keys);
    for (const Key& key : keys) {
      INFO(sample.name << ": " << key.path);
      const std::string place = cat("run.yaml:", key.line + 1, ":", key.column + 1, ": ");

      // misspelt
      Lines changed = lines;
      const std::string other = misspelt(key.name);
      changed[key.line].replace(key.column, key.name.size(), other);
      const std::string prefix = key.path.substr(0, key.path.size() - key.name.size());
      refusals.check(joined(changed), {cat(place, prefix, other, ": unknown key; did you mean '", key.name, "'?")});

      // in another place: what belongs into a section at the top level, and the other way round
      changed = lines;
      if (!key.section.empty()) {
        changed.push_back(key.name + ": x");
        refusals.check(joined(changed), {"does not belong here; it belongs under ", quote(key.section)});
      } else if (key.name != "lora") {
        const auto lora =
            std::find_if(changed.begin(), changed.end(), [](const std::string& line) { return line.starts_with("lora:"); });
        changed.insert(lora == changed.end() ? lora : lora + 1,
                       lora == changed.end() ? "lora: {" + key.name + ": x}" : "  " + key.name + ": x");
        refusals.check(joined(changed), {cat("lora.", key.name, ": does not belong here; it belongs under the top level")});
      }

      // of a wrong type
      for (const Wrong& wrong : wrong_values(*key.field))
        refusals.check(joined(with_value(lines, key, wrong.value)),
                       {cat("run.yaml:", key.line + 1, ":"), key.path, wrong.wanted});
    }
  }
}

TEST_CASE("every key misspelt or of a wrong type in --set is refused at once", "[config]") {
  const Workshop workshop({}, 1);
  const std::string config = Workshop::config();
  train::RunConfig every;
  every.corpus.sources.resize(1);
  const std::string text = dump_config(every);
  const ConfigSection fields = describe(every);
  std::vector<Key> keys;
  collect(fields, parse_yaml(text), "", "", "", keys);
  Refusals refusals(workshop);
  for (const Key& key : keys) {
    INFO(key.set_path);
    const std::string wrong = key.set_path.substr(0, key.set_path.size() - key.name.size()) + misspelt(key.name);
    refusals.check(config, {cat("--set ", wrong, ": unknown key; did you mean '", key.name, "'?")}, {wrong + "=1"});
    for (const Wrong& value : wrong_values(*key.field))
      refusals.check(config, {cat("--set ", key.set_path, ": "), value.wanted}, {key.set_path + "=" + value.value});
  }
}

TEST_CASE("all problems of a config and of --set are told at once, by line", "[config]") {
  const Workshop workshop({}, 1);
  Refusals refusals(workshop);
  refusals.check("base: 7\nlora:\n  rnak: 8\n  alpha: big\ntrain:\n  schedule: cosin\nsteps: 3\n",
                 {"graft: run.yaml:1:7: base: expected text, found the number 7; put it in quotes if it is meant as text\n"
                  "run.yaml:3:3: lora.rnak: unknown key; did you mean 'rank'?\n"
                  "run.yaml:4:10: lora.alpha: expected a number, found the text 'big'\n"
                  "run.yaml:6:13: train.schedule: 'cosin' is not one of cosine, linear, constant; did you mean 'cosine'?\n"
                  "run.yaml:7:1: steps: does not belong here; it belongs under 'train'\n"
                  "--set lora.dropout: 2 is out of range; 0 to 0.95 is expected\n"
                  "--set trian.steps: unknown key; did you mean 'train'?\n"},
                 {"lora.dropout=2", "trian.steps=3"});
  refusals.check(Workshop::config(), {"--set 'train.steps' has no key and value; write --set train.steps=100"}, {"train.steps"});
  refusals.check("base: [\n", {"run.yaml:"});
  refusals.check("train:\n\tsteps: 3\n", {"run.yaml:2:"});
}

TEST_CASE("a config error is told without loading LibTorch", "[config]") {
  const Workshop workshop({}, 1);
  write_file(workshop / "run.yaml", "bsae: x\n");
  const auto loaded = [&](const std::vector<std::string>& words) {
    const Outcome done =
        run_program(words, {.directory = workshop.path(),
                            .environment = {{"LD_DEBUG", "files"}, {"LD_DEBUG_OUTPUT", (workshop / "loaded").string()}}});
    std::string text;
    for (const auto& entry : fs::directory_iterator(workshop.path()))
      if (entry.path().filename().string().starts_with("loaded.")) {
        text += read_file(entry.path());
        fs::remove(entry.path());
      }
    return std::pair(done.code, text);
  };
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"run", "-c", "run.yaml"}, {"--help"}, {"train", "--help"}, {"help", "config"}}) {
    const auto [code, text] = loaded(words);
    INFO(words[0]);
    CHECK(code == (words[0] == "run" ? 2 : 0));
    CHECK(text.find("libgraft_core") != std::string::npos);
    CHECK(text.find("libtorch") == std::string::npos);
    CHECK(text.find("libgraft_engine") == std::string::npos);
  }
  CHECK(loaded({"doctor"}).second.find("libtorch_cpu") != std::string::npos);  // so that the check above can fail
}

TEST_CASE("a config that is no file is a named error", "[config]") {
  const Workshop workshop({}, 1);
  const auto message = [&](const std::vector<std::string>& words) {
    const Outcome done = workshop.graft_words(words);
    CHECK(done.code == 2);
    return done.err;
  };
  CHECK(message({"run", "-c", "nowhere.yaml"}) == "graft: cannot open nowhere.yaml: No such file or directory\n");
  CHECK(message({"run", "-c", "docs"}) == "graft: docs is not a regular file\n");
  CHECK(message({"run"}) == "graft: no config given; name one with -c FILE (configs/minimal.yaml is a start)\n");
  CHECK(message({"run", "-c", "run.yaml", "--set", "train.steps"}).find("has no key and value") != std::string::npos);
}
