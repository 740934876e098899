#include "core/config_reader.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <map>
#include <set>

#include "core/error.h"
#include "core/nearest.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

struct Source {
  std::string path;
  std::string format = "auto";
  template <class V>
  void visit(V& v) {
    v.field(path, "path", "a file");
    v.field(format, "format", {"auto", "text", "jsonl"}, "how to read it");
  }
};
struct Corpus {
  std::string dir = "corpus";
  std::vector<Source> sources;
  bool deduplicate = true;
  template <class V>
  void visit(V& v) {
    v.field(dir, "dir", "directory of the tokens");
    v.list(sources, "sources", "where documents come from");
    v.field(deduplicate, "deduplicate", "drop what was seen");
  }
};
struct Lora {
  std::int64_t rank = 16;
  double alpha = 32;
  std::vector<std::string> target_modules = {"all-linear"};
  template <class V>
  void visit(V& v) {
    v.field(rank, "rank", 1, 1024, "rank r of B*A");
    v.field(alpha, "alpha", 0.0, 1e6, "scale");
    v.field(target_modules, "target_modules", "layers");
  }
};
struct Run {
  std::string base;
  std::int64_t seed = 0;
  double factor = 0.1;
  std::vector<std::string> modes = {"fast"};
  Corpus corpus;
  Lora lora;
  template <class V>
  void visit(V& v) {
    v.field(base, "base", "the model");
    v.field(seed, "seed", "any integer");
    v.field(factor, "factor", "any number");
    v.field(modes, "modes", {"fast", "exact", "safe"}, "what to do");
    v.section(corpus, "corpus", "documents");
    v.section(lora, "lora", "the adapter");
  }
};

const std::string kSample =
    "base: model.gguf\n"
    "seed: -7\n"
    "factor: 2.5e-3\n"
    "modes: [exact, safe]\n"
    "corpus:\n"
    "  dir: tokens\n"
    "  sources:\n"
    "    - path: docs/a.txt\n"
    "      format: text\n"
    "    - {path: docs/b.jsonl, format: jsonl}\n"
    "  deduplicate: false\n"
    "lora:\n"
    "  rank: 8\n"
    "  alpha: 16\n"
    "  target_modules: [q_proj, v_proj]\n";

std::string refusal(const std::string& text, const std::vector<ConfigOverride>& overrides = {}) {
  const std::clock_t start = std::clock();  // processor time: other programs must not fail this test
  std::string message;
  try {
    read_config_text<Run>(text, "c.yaml", overrides);
  } catch (const ConfigError& error) {
    message = error.what();
  }
  CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 0.1);
  return message;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// The lines of the sample that hold a key of their own, with the key and its section.
struct Key {
  std::size_t line;
  std::string name, section, indent;
};
std::vector<Key> sample_keys() {
  std::vector<Key> keys;
  std::string section;
  const auto lines = lines_of(kSample);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::size_t start = lines[i].find_first_not_of(" -");
    if (lines[i][start] == '{') continue;
    const std::string name = lines[i].substr(start, lines[i].find(':') - start);
    if (start == 0) section = name == "corpus" || name == "lora" ? name : "";
    const std::string owner = start == 0 ? "" : start == 2 ? section : "corpus.sources";
    keys.push_back({i, name, owner, lines[i].substr(0, start)});
  }
  return keys;
}

}  // namespace

TEST_CASE("a config is read with its values", "[config]") {
  const Run run = read_config_text<Run>(kSample, "c.yaml");
  CHECK(run.base == "model.gguf");
  CHECK(run.seed == -7);
  CHECK(run.factor == 2.5e-3);
  CHECK(run.modes == std::vector<std::string>{"exact", "safe"});
  CHECK(run.corpus.dir == "tokens");
  REQUIRE(run.corpus.sources.size() == 2);
  CHECK(run.corpus.sources[0].format == "text");
  CHECK(run.corpus.sources[1].path == "docs/b.jsonl");
  CHECK_FALSE(run.corpus.deduplicate);
  CHECK(run.lora.rank == 8);
  CHECK(run.lora.alpha == 16);
  CHECK(run.lora.target_modules == std::vector<std::string>{"q_proj", "v_proj"});
}

TEST_CASE("what a config leaves out keeps its default", "[config]") {
  for (const char* text : {"", "# nothing\n", "lora:\n", "---\n", "lora: {}\n"}) {
    const Run run = read_config_text<Run>(text, "c.yaml");
    CHECK(run.lora.rank == 16);
    CHECK(run.lora.target_modules == std::vector<std::string>{"all-linear"});
    CHECK(run.corpus.sources.empty());
  }
}

TEST_CASE("every key misspelt is refused with the right one", "[config]") {
  const auto lines = lines_of(kSample);
  for (const Key& key : sample_keys()) {
    std::set<std::string> spellings = {key.name + "x", key.name + key.name.back(), key.name.substr(0, key.name.size() - 1)};
    for (std::size_t i = 0; i < key.name.size(); ++i) {
      std::string changed = key.name;
      changed[i] = 'q';
      spellings.insert(changed);
      if (i > 0) {
        changed = key.name;
        std::swap(changed[i], changed[i - 1]);
        spellings.insert(changed);
      }
    }
    spellings.erase(key.name);
    for (const std::string& spelling : spellings) {
      auto changed = lines;
      changed[key.line].replace(changed[key.line].find(key.name), key.name.size(), spelling);
      const std::string message = refusal(joined(changed));
      INFO(message);
      CHECK(contains(message, cat("c.yaml:", key.line + 1, ":", key.indent.size() + 1, ": ")));
      CHECK(contains(message, "unknown key; did you mean '" + key.name + "'?"));
    }
  }
}

TEST_CASE("every key moved to another section is refused with its own", "[config]") {
  const auto lines = lines_of(kSample);
  for (const Key& key : sample_keys()) {
    if (key.name == "corpus" || key.name == "lora" || key.name == "sources" || key.section == "corpus.sources") continue;
    for (const std::string target : {"", "corpus", "lora"}) {
      if (target == key.section) continue;
      auto changed = lines;
      const std::string value = changed[key.line].substr(key.indent.size());
      changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(key.line));
      if (target.empty()) {
        changed.push_back(value);
      } else {
        const auto at = std::find(changed.begin(), changed.end(), target + ":");
        changed.insert(at + 1, "  " + value);
      }
      const std::string message = refusal(joined(changed));
      INFO(message);
      const std::string home = key.section.empty() ? "the top level" : "'" + key.section + "'";
      CHECK(contains(message,
                     (target.empty() ? "" : target + ".") + key.name + ": does not belong here; it belongs under " + home));
    }
  }
  CHECK(contains(refusal("path: x\n"), "it belongs under 'corpus.sources'"));
}

TEST_CASE("every key given twice is refused with both lines", "[config]") {
  const auto lines = lines_of(kSample);
  for (const Key& key : sample_keys()) {
    auto changed = lines;
    std::string again = changed[key.line];
    if (const auto dash = again.find("- "); dash != std::string::npos) again[dash] = ' ';
    if (again.back() == ':') again += " {}";
    // Behind the value, which for sections ends with the next line that is indented no further.
    std::size_t end = key.line + 1;
    while (end < lines.size() && lines[end].find_first_not_of(' ') > key.indent.size()) ++end;
    changed.insert(changed.begin() + static_cast<std::ptrdiff_t>(end), again);
    const std::string message = refusal(joined(changed));
    INFO(message);
    CHECK(contains(message, cat(key.name, ": is there twice; first in line ", key.line + 1)));
  }
}

TEST_CASE("every key with a value of a wrong type is refused", "[config]") {
  const std::map<std::string, std::string> expected = {{"base", "text"},
                                                       {"seed", "an integer"},
                                                       {"factor", "a number"},
                                                       {"modes", "a list"},
                                                       {"corpus", "a section"},
                                                       {"dir", "text"},
                                                       {"sources", "a list of sections"},
                                                       {"path", "text"},
                                                       {"format", "text"},
                                                       {"deduplicate", "true or false"},
                                                       {"lora", "a section"},
                                                       {"rank", "an integer"},
                                                       {"alpha", "a number"},
                                                       {"target_modules", "a list"}};
  const std::vector<std::string> values = {"3", "2.5", "true", "word", "'3'",  "[1]", "{a: 1}",
                                           "",  "~",   "64k",  "10%",  ".nan", ".inf"};
  const auto lines = lines_of(kSample);
  for (const Key& key : sample_keys()) {
    const std::string& kind = expected.at(key.name);
    for (const std::string& value : values) {
      if (kind == "text" && (value == "word" || value == "'3'" || value == "64k" || value == "10%" || value[0] == '.')) continue;
      if (kind == "an integer" && value == "3") continue;
      if (kind == "a number" && (value == "3" || value == "2.5")) continue;
      if (kind == "true or false" && value == "true") continue;
      if (kind == "a section" && (value.empty() || value == "~" || value[0] == '{')) continue;
      if (kind == "a list" && value[0] == '[') continue;
      if (kind == "a list of sections" && value[0] == '[') continue;
      auto changed = lines;
      changed[key.line] = changed[key.line].substr(0, changed[key.line].find(':')) + ": " + value;
      std::size_t end = key.line + 1;  // drop the section that was there
      while (end < changed.size() && changed[end].find_first_not_of(' ') > key.indent.size()) ++end;
      changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(key.line + 1),
                    changed.begin() + static_cast<std::ptrdiff_t>(end));
      const std::string message = refusal(joined(changed));
      INFO(changed[key.line] << " -> " << message);
      CHECK(contains(message, cat("c.yaml:", key.line + 1, ":")));
      CHECK(contains(message, key.name + ": expected " + kind));
    }
  }
}

TEST_CASE("the refusals say what to do", "[config]") {
  CHECK(refusal("lora: {rank: 64k}") ==
        "c.yaml:1:14: lora.rank: expected an integer, found the text '64k'; write the number alone, without a unit");
  CHECK(refusal("lora: {rank: '8'}") == "c.yaml:1:14: lora.rank: expected an integer, found the text '8'; remove the quotes");
  CHECK(refusal("lora: {rank: 0}") == "c.yaml:1:14: lora.rank: 0 is out of range; 1 to 1024 is expected");
  CHECK(refusal("lora: {rank: 1025}") == "c.yaml:1:14: lora.rank: 1025 is out of range; 1 to 1024 is expected");
  CHECK(refusal("lora: {alpha: -1}") == "c.yaml:1:15: lora.alpha: -1 is out of range; 0 to 1e+06 is expected");
  CHECK(refusal("base: 7") == "c.yaml:1:7: base: expected text, found the number 7; put it in quotes if it is meant as text");
  CHECK(refusal("modes: [exakt]") == "c.yaml:1:9: modes[0]: 'exakt' is not one of fast, exact, safe; did you mean 'exact'?");
  CHECK(refusal("modes: fast") == "c.yaml:1:8: modes: expected a list, found the text 'fast'; write it in brackets: [...]");
  CHECK(refusal("corpus: {sources: [a.txt]}") ==
        "c.yaml:1:20: corpus.sources[0]: expected a section (path, format), found the text 'a.txt'");
  CHECK(refusal("- a\n") == "c.yaml:1:1: expected a section (base, seed, factor, modes, corpus, lora), found a list");
  CHECK(refusal("zzzzzzzzz: 1") == "c.yaml:1:1: zzzzzzzzz: unknown key; known here: base, seed, factor, modes, corpus, lora");
  CHECK(refusal("ranks: 1") == "c.yaml:1:1: ranks: unknown key; did you mean 'lora.rank'?");
  CHECK(refusal("seed: 99999999999999999999") == "c.yaml:1:7: seed: expected an integer, found the number 99999999999999999999");
}

TEST_CASE("all problems are listed, sorted by line", "[config]") {
  const std::string message =
      refusal("lora:\n  rank: 0\n  alpah: 3\nbase: [x]\nseed: a\n", {{"lora.rnk", "3"}, {"lora.rank", "x"}});
  CHECK(lines_of(message + "\n") == std::vector<std::string>{"c.yaml:2:9: lora.rank: 0 is out of range; 1 to 1024 is expected",
                                                             "c.yaml:3:3: lora.alpah: unknown key; did you mean 'alpha'?",
                                                             "c.yaml:4:7: base: expected text, found a list",
                                                             "c.yaml:5:7: seed: expected an integer, found the text 'a'",
                                                             "--set lora.rnk: unknown key; did you mean 'rank'?",
                                                             "--set lora.rank: expected an integer, found the text 'x'"});
}

TEST_CASE("--set replaces values of the file", "[config]") {
  const Run run = read_config_text<Run>(kSample, "c.yaml",
                                        {{"lora.rank", "4"},
                                         {"lora.rank", "2"},
                                         {"modes", "[safe]"},
                                         {"base", "other model"},
                                         {"corpus.sources.1.format", "text"},
                                         {"lora", "{alpha: 3}"}});
  CHECK(run.lora.rank == 2);
  CHECK(run.lora.alpha == 3);
  CHECK(run.modes == std::vector<std::string>{"safe"});
  CHECK(run.base == "other model");
  CHECK(run.corpus.sources[1].format == "text");
  CHECK(read_config_text<Run>(kSample, "c.yaml", {{"corpus.sources", "[{path: x}]"}}).corpus.sources.size() == 1);

  CHECK(refusal("", {{"rank", "3"}}) == "--set rank: does not belong here; it belongs under 'lora'");
  CHECK(refusal("", {{"base.x", "3"}}) == "--set base.x: 'base' is a value, not a section");
  CHECK(refusal("", {{"corpus.sources.0.path", "a"}}) ==
        "--set corpus.sources.0.path: 'sources' is a list of 0 sections; name a field of one: sources.0.path");
  CHECK(contains(refusal("", {{"lora.rank", "[3"}}), "--set lora.rank: YAML: "));
  CHECK(contains(refusal("", {{"", "3"}}), "--set "));
}

TEST_CASE("YAML that configs do not use is refused", "[config]") {
  CHECK(contains(refusal("base: &a x\n"), "c.yaml:1:7: anchors"));
  CHECK(contains(refusal("base: x\nmodes: [*a]\n"), "c.yaml:2:"));
  CHECK(contains(refusal("base: !!str x\n"), "tags (!name) are not accepted"));
  CHECK(contains(refusal("base: x\n---\nbase: y\n"), "a second document"));
  CHECK(contains(refusal("base: [x\n"), "c.yaml:"));
  CHECK(contains(refusal("a: b: c\n"), "c.yaml:1:"));
  CHECK(contains(refusal("base: \xff\n"), "c.yaml:1:7: not UTF-8 text"));
  CHECK(contains(refusal(std::string("base: a\0b", 9)), "not UTF-8 text"));
  CHECK(contains(refusal("? [a]\n: b\n"), "expected the name of a field, found a list"));
  CHECK(contains(refusal(std::string(17, '[') + std::string(17, ']')), "nested deeper than 16 levels"));
  CHECK(contains(refusal(std::string(kLargestConfig, '[')), "nested deeper than 16 levels"));
  CHECK(contains(refusal(std::string(kLargestConfig, '{')), "nested deeper than 16 levels"));
  CHECK(contains(refusal("lora:\n\trank: 3\n"), "c.yaml:2:"));
}

TEST_CASE("a hostile config is refused quickly", "[config]") {
  std::string many;
  for (int i = 0; many.size() < kLargestConfig; ++i) many += cat("k", i, ": 1\n");
  const std::string message = refusal(many);
  CHECK(contains(message, "c.yaml: and more"));
  CHECK(lines_of(message).size() <= 101);
  CHECK(contains(refusal(std::string(kLargestConfig - 10, 'x') + ": 1\n"), "c.yaml:1:"));
  // Any bytes: a refusal or a config, never a crash.
  std::uint64_t state = 1;
  for (int round = 0; round < 3000; ++round) {
    std::string text = kSample;
    for (int change = 0; change < 3; ++change) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const std::size_t at = (state >> 33) % text.size();
      constexpr std::string_view bytes = "[]{}:,-#&*!|>'\"%@`\n\t ?~0a\x80\xc3";
      text[at] = bytes[(state >> 20) % bytes.size()];
    }
    refusal(text);
  }
}

TEST_CASE("a dumped config reads back the same", "[config]") {
  Run run = read_config_text<Run>(kSample, "c.yaml");
  const std::vector<std::string> awkward = {
      "",    "true",        "null", "~",    "3",     "-1e5", " x ", "a: b", "#x",       "- x",         "a\"b\\c", "a\nb\t",
      "'x'", "é ü",         "\x7f", "yes",  "[a]",   "*x",   "&x",  "!x",   "%x",       "@x",          "\x01",    "x #y",
      "{}",  "/a/b-c.gguf", "0x10", ".nan", "1_000", "=",    "<<",  "|",    "\xc2\x85", "\xe2\x80\xa8"};
  for (const std::string& text : awkward) {
    run.base = text;
    run.lora.target_modules = {text, text};
    run.factor = 0.1 + 0.2;
    const std::string yaml = dump_config(run);
    INFO(yaml);
    const Run back = read_config_text<Run>(yaml, "c.yaml");
    CHECK(back.base == text);
    CHECK(config_json(back) == config_json(run));
    CHECK(dump_config(back) == yaml);
  }
  CHECK(config_json(read_config_text<Run>(dump_config(Run()), "c.yaml")) == config_json(Run()));
  CHECK(contains(dump_config(run), "  rank: 8  # rank r of B*A (1 to 1024)\n"));
  CHECK(
      contains(dump_config(run), "    - path: docs/a.txt  # a file\n      format: text  # how to read it (auto, text, jsonl)\n"));
}

TEST_CASE("a config as JSON and as documentation", "[config]") {
  const Json json = config_json(read_config_text<Run>(kSample, "c.yaml"));
  CHECK(json.dump() ==
        R"({"base":"model.gguf","seed":-7,"factor":0.0025,"modes":["exact","safe"],"corpus":{"dir":"tokens","sources":[)"
        R"({"path":"docs/a.txt","format":"text"},{"path":"docs/b.jsonl","format":"jsonl"}],"deduplicate":false},)"
        R"("lora":{"rank":8,"alpha":16.0,"target_modules":["q_proj","v_proj"]}})");
  const std::string table = describe_config<Run>();
  CHECK(contains(table, "corpus.sources[].format"));
  bool found = false;
  for (const std::string& line : lines_of(table))
    found = found || (line.starts_with("lora.rank ") && contains(line, " 16 ") && line.ends_with("rank r of B*A (1 to 1024)"));
  CHECK(found);
}

TEST_CASE("nearest names", "[config]") {
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("ab", "ba") == 1);
  CHECK(edit_distance("Learning-Rate", "learning_rate") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(nearest_name("training", {"train", "eval"}) == "train");
  CHECK(nearest_name("lr", {"rank", "seed"}).empty());
  CHECK(nearest_name("xyz", {"abc"}).empty());
}
