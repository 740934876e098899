// inspect, estimate, doctor, eval, generate and export on a finished tiny run: text for people, one JSON object for machines.
#include <cstdlib>

#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

class FinishedRun : public Workshop {
 public:
  FinishedRun() {
    const Outcome done = graft("run", kSet);
    INFO(done.err);
    REQUIRE(done.code == 0);
  }
  static inline const std::vector<std::string> kSet = {"train.steps=4", "export.formats=[peft, gguf-q8_0, gguf-lora]"};

  Json inspect(const std::string& path) const {
    const Outcome done = graft_words({"inspect", path, "--json"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    CHECK(done.err.empty());
    return parse_json(done.out, "stdout");
  }
  std::string inspect_text(const std::string& path) const {
    const Outcome done = graft_words({"inspect", path});
    CHECK(done.code == 0);
    return done.out;
  }
};

void check_holds(const std::string& text, const std::vector<std::string>& parts) {
  INFO(text);
  for (const std::string& part : parts) {
    INFO("expected: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("inspect says what each thing is and what it holds", "[inspect]") {
  const FinishedRun run;

  Json found = run.inspect("base");
  CHECK(found["kind"] == "Hugging Face model");
  CHECK(found["spec"]["vocabulary"] == 1700);
  CHECK(found["spec"]["layers"] == 2);
  CHECK(found["tokenizer"]["ids"] == 1700);
  CHECK(found["tensors"].size() == 20);
  check_holds(run.inspect_text("base"), {"LlamaForCausalLM", "tensors", "20, listed by --json"});

  found = run.inspect("corpus");
  CHECK(found["kind"] == "corpus");
  std::int64_t documents = 0;
  for (const Json& split : found["splits"]) documents += split["documents"].get<std::int64_t>();
  CHECK(documents == 90);
  check_holds(run.inspect_text("corpus"), {"heldout", "train", "every shard's sha256 is the one in the manifest"});
  CHECK(run.inspect_text("corpus").find("vacuum") == std::string::npos);  // no text of documents

  found = run.inspect("run");
  CHECK(found["kind"] == "run");
  CHECK(found["finished"] == true);
  CHECK(found["identity"]["train.steps"] == 4);
  CHECK(found["report"]["steps"] == 4);
  std::vector<std::string> models;
  for (const Json& score : found["scores"]) models.push_back(score["model"]);
  CHECK(std::count(models.begin(), models.end(), "base") == 1);
  CHECK(std::count(models.begin(), models.end(), "adapted") == 1);

  found = run.inspect("run/checkpoints/step-00000004");
  CHECK(found["kind"] == "checkpoint");
  CHECK(found["state"]["step"] == 4);
  CHECK(found["tensors"].size() == 28);  // A and B of 14 linear layers

  for (const char* path : {"run/adapter", "run/export/peft"}) {
    found = run.inspect(path);
    CHECK(found["kind"] == "LoRA adapter (PEFT)");
    CHECK(found["rank"] == 4);
    CHECK(found["parameters"] == 4096);
    CHECK(found["trained on base"] == run.inspect("base")["fingerprint"]);
  }
  found = run.inspect("run/export");
  CHECK(found["artifacts"].size() == 3);
  for (const Json& artifact : found["artifacts"]) CHECK(artifact["intact"] == true);
  found = run.inspect("run/export/gguf-q8_0.gguf");
  CHECK(found["kind"] == "GGUF model");
  CHECK(found["spec"]["vocabulary"] == 1700);
  CHECK(found["metadata"]["general.architecture"] == "llama");
  CHECK(run.inspect("run/export/gguf-lora.gguf")["kind"] == "GGUF LoRA");
  CHECK(run.inspect("base/model.safetensors")["tensors"].size() == 20);

  for (const char* path : {"docs", "run.yaml", "run/run.json", "nowhere"}) {
    const Outcome refused = run.graft_words({"inspect", path});
    CHECK(refused.code == 2);
    CHECK(refused.err.starts_with(cat("graft: ", path)));
  }
}

TEST_CASE("inspect finds a document by its id, and says whether a run had it", "[inspect]") {
  const FinishedRun run;
  write_file(run / "docs/5.txt", "Note 5, as it reads since the training.\n");
  write_file(run / "docs/new.txt", "A note that came after the training.\n");
  fs::remove(run / "docs/7.txt");
  CHECK(run.graft("prepare", FinishedRun::kSet).code == 0);
  const auto look = [&](const std::string& id, const std::vector<std::string>& more = {"--run", "run"}) {
    std::vector<std::string> words = {"inspect", "corpus", "--document", id, "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome done = run.graft_words(words);
    INFO(done.err);
    REQUIRE(done.code == 0);
    return parse_json(done.out, "stdout");
  };
  const auto place = [](const Json& version) { return version["split"] == "train" ? "training set" : "held-out set"; };
  Json found = look("docs/5.txt");
  CHECK(found["in the corpus"] == 2);
  CHECK(found["versions"][0]["in the run"] == place(found["versions"][0]));
  CHECK(found["versions"][1]["in the run"] == "no");
  CHECK(found["versions"][0]["split"] == found["versions"][1]["split"]);
  CHECK(found["versions"][1]["bytes of text"] == 39);
  CHECK(fs::exists(run / "corpus" / found["versions"][1]["shard"].get<std::string>()));
  found = look("docs/7.txt");  // withdrawn
  CHECK(found["in the corpus"] == 1);
  CHECK(found["versions"][0]["in the run"] == place(found["versions"][0]));
  CHECK(look("docs/new.txt")["versions"][0]["in the run"] == "no");
  CHECK(look("./docs/5.txt")["in the corpus"] == 0);
  CHECK_FALSE(look("docs/5.txt", {})["versions"][0].contains("in the run"));

  const auto refusal = [&](const std::vector<std::string>& words) {
    const Outcome refused = run.graft_words(words);
    CHECK(refused.code == 2);
    return refused.err;
  };
  CHECK(refusal({"inspect", "corpus", "--document", "x", "--run", "docs"}) ==
        "graft: docs: no run began here; it would have a run.json\n");
  CHECK(refusal({"inspect", "docs", "--document", "x"}) == "graft: docs: no corpus here; --document looks into one\n");
  CHECK(run.graft("prepare", {"corpus.dir=other"}).code == 0);
  CHECK(refusal({"inspect", "other", "--document", "x", "--run", "run"}) ==
        "graft: other: its 'train' shards are not those that the run run was started with\n");
}

TEST_CASE("inspect shows the config with every value it has", "[inspect]") {
  const Workshop workshop({}, 1);
  const Outcome text = workshop.graft("inspect", {"train.steps=7"});
  CHECK(text.code == 0);
  check_holds(text.out, {"\n  steps: 7  # ", "\n  beta2: 0.999  # ", "base: base  # ", "    - path: docs  # "});
  write_file(workshop / "again.yaml", text.out);  // which is a config itself
  CHECK(workshop.graft_words({"inspect", "-c", "again.yaml"}).out == text.out);
  const Json json = parse_json(workshop.graft("inspect", {"train.steps=7"}, {"--json"}).out, "stdout");
  CHECK(json["config"]["train"]["steps"] == 7);
}

TEST_CASE("inspect prints the rows that training reads", "[inspect]") {
  const FinishedRun run;
  const auto batches = [&](const std::vector<std::string>& words) {
    std::vector<std::string> all = {"inspect", "corpus"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome done = run.graft_words(all);
    INFO(done.err);
    REQUIRE(done.code == 0);
    std::vector<Json> lines;
    for (std::size_t at = 0, end; (end = done.out.find('\n', at)) != std::string::npos; at = end + 1)
      lines.push_back(parse_json(done.out.substr(at, end - at), "stdout"));
    return lines;
  };
  const auto lines = batches({"--batches", "3", "--length", "64", "--rows", "5"});
  REQUIRE(lines.size() == 3);
  for (const Json& batch : lines) {
    CHECK(batch["rows"] == 5);
    CHECK(batch["tokens"].size() == batch["labels"].size());
    CHECK(batch["starts"].front() == 0);
    CHECK(batch["starts"].back() == batch["tokens"].size());
  }
  // The tokens of three steps of training are those of the run's log.
  std::size_t tokens = 0;
  for (const Json& batch : lines) tokens += batch["tokens"].size();
  for (const std::string& line : read_lines(run / "run/loss.jsonl"))
    if (const Json record = parse_json(line, "loss.jsonl"); record["step"] == 3 && record.contains("loss"))
      CHECK(record["tokens"] == tokens);
  CHECK(batches({"--batches", "1", "--length", "64", "--seed", "1"}) != batches({"--batches", "1", "--length", "64"}));
}

TEST_CASE("estimate and doctor look before anything is done", "[inspect]") {
  const Workshop workshop;
  const Outcome estimate = workshop.graft("estimate");
  CHECK(estimate.code == 0);
  check_holds(estimate.out, {"memory plan", "base weights", "available", "adapter", "4.10 k parameters of 73.0 k", "40 steps"});
  const Json json = parse_json(workshop.graft("estimate", {}, {"--json"}).out, "stdout");
  CHECK(json["adapter_parameters"] == 4096);
  CHECK(json["steps"] == 40);
  CHECK(json["seconds_per_step"] > 0);
  CHECK(json["seconds"].get<double>() == Approx(40 * json["seconds_per_step"].get<double>()));
  CHECK(json["memory"]["total"] > 0);
  CHECK(json["base_precision"] == "full");
  std::int64_t weights = json["memory"]["items"][0]["bytes"];
  for (const char* precision : {"int8", "nf4"}) {
    const std::vector<std::string> set = {cat("train.base_precision=", precision)};
    const std::int64_t fewer =
        parse_json(workshop.graft("estimate", set, {"--json"}).out, "stdout")["memory"]["items"][0]["bytes"];
    CHECK(fewer < weights);
    weights = fewer;
  }
  check_holds(workshop.graft("estimate", {"train.base_precision=nf4"}).out, {" in f32, frozen weights of the layers in NF4"});
  check_holds(workshop.graft("estimate", {"train.steps=0"}).out,
              {" steps, without evaluations; guessed from the size of the documents"});
  check_holds(workshop.graft("estimate", {"train.steps=0", "corpus.sources.0.path=nowhere"}).out,
              {"unknown: there are no documents yet; set train.steps, or name them"});
  const Outcome huge = workshop.graft("estimate", {"train.length=256", "train.rows=1048576", "train.micro_rows=1048576"});
  CHECK(huge.code == 4);
  check_holds(huge.err,
              {"graft: the run needs ", " of memory and ", " are available; the largest part is ", "lower train.micro_rows"});
  CHECK(!fs::exists(workshop / "run"));
  CHECK(!fs::exists(workshop / "corpus"));

  const Outcome machine = workshop.graft_words({"doctor"});
  CHECK(machine.code == 0);
  check_holds(machine.out, {"processor", "memory", "LibTorch", "GPU"});
  const Outcome good = workshop.graft("doctor");
  CHECK(good.code == 0);
  check_holds(good.out, {"base", "LlamaForCausalLM", "tokenizer fits", "docs: 90 files", "not prepared yet", "free at "});
  for (const char* name : {"docs/a.pdf", "docs/b.docx"}) write_file(workshop / name, "");
  check_holds(workshop.graft("doctor").out, {"note", "docs: 90 of 92 files are of a type that is read"});
  const Outcome bad = workshop.graft("doctor", {"base=nowhere", "corpus.sources.0.path=missing", "train.length=1024"});
  CHECK(bad.code == 2);
  check_holds(bad.out, {"fault", "nowhere: no such model", "missing: no such file or folder"});
  const Json findings = parse_json(workshop.graft("doctor", {"export.formats=[gguf]"}, {"--json"}).out, "stdout");
  std::string states;
  for (const Json& finding : findings["findings"])
    states += finding["topic"].get<std::string>() + "=" + finding["state"].get<std::string>() + " ";
  check_holds(states, {"base=ok", "plan=fault", "corpus=ok"});
}

TEST_CASE("estimate counts the steps of a corpus without opening it", "[inspect]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const std::vector<std::string> set = {"train.steps=0", "train.epochs=2"};
  const auto json = [&](const char* command) { return parse_json(workshop.graft(command, set, {"--json"}).out, "stdout"); };
  const double steps = json("train")["steps"];
  CHECK(json("estimate")["steps"].get<double>() == Approx(steps).epsilon(0.05));
  for (const auto& entry : fs::directory_iterator(workshop / "corpus"))
    if (entry.path().extension() == ".h5") fs::remove(entry.path());
  CHECK(json("estimate")["steps"].get<double>() == Approx(steps).epsilon(0.05));
}

TEST_CASE("room for the exports is asked for before anything is done", "[inspect]") {
  const Workshop workshop;
  const auto bytes = [&](const std::string& formats) -> std::int64_t {
    return parse_json(workshop.graft("estimate", {"export.formats=" + formats}, {"--json"}).out, "stdout")["export_bytes"];
  };
  constexpr std::int64_t kAdapter = 4096 * 4;
  CHECK(bytes("[]") == 0);
  CHECK(bytes("[peft]") == kAdapter);
  const std::int64_t hf = bytes("[hf]");
  CHECK(std::abs(hf - 2 * 73'000) < 100);  // parameters, as `graft estimate` rounds them
  CHECK(bytes("[peft, hf, hf-f16]") == kAdapter + 2 * hf);
  const std::int64_t rounded = bytes("[gguf-q8_0]") / 2;  // and the base alone, to be scored
  CHECK(rounded < 0.6 * static_cast<double>(hf));
  CHECK(bytes("[hf, gguf-q8_0]") == hf + 2 * rounded);
  check_holds(workshop.graft("estimate", {"export.formats=[hf]"}).out, {"exports", " of disk"});

  for (const char* command : {"run", "estimate"}) {  // /proc has no room
    const Outcome full = workshop.graft(command, {"export.dir=/proc/graft", "export.formats=[hf]"});
    CHECK(full.code == 4);
    check_holds(full.err, {"the exports need ", " on the disk of /proc/graft, ", " are free; free space, choose fewer"});
  }
  CHECK(!fs::exists(workshop / "run"));
  REQUIRE(workshop.graft("run", {"export.formats=[hf]"}).code == 0);
  CHECK(bytes("[hf]") == 0);
  CHECK(workshop.graft("export", {"export.dir=/proc/graft"}, {"-f", "hf"}).code == 4);
}

TEST_CASE("eval, generate and export on their own", "[inspect]") {
  const FinishedRun run;
  const Json scores = parse_json(run.graft("eval", FinishedRun::kSet, {"--json"}).out, "stdout")["scores"];
  REQUIRE(scores.size() == 2);
  CHECK(scores[0]["model"] == "base");
  CHECK(scores[1]["model"] == "adapted");
  CHECK(parse_json(run.graft("eval", FinishedRun::kSet, {"--base", "--json"}).out, "stdout")["scores"].size() == 1);
  const Json other = parse_json(run.graft("eval", FinishedRun::kSet, {"--model", "run/export/gguf-q8_0.gguf", "--json"}).out,
                                "stdout")["scores"];
  REQUIRE(other.size() == 3);  // base and adapted are known
  CHECK((other[0] == scores[0] && other[1] == scores[1]));
  CHECK(other[2]["bits_per_byte"].get<double>() == Approx(scores[1]["bits_per_byte"].get<double>()).epsilon(0.02));
  const std::string table = run.graft("eval", FinishedRun::kSet, {"--model", "run/export/gguf-q8_0.gguf"}).out;
  check_holds(table, {"gain kept", "\nadapted ", "\nrun/export/gguf-q8_0.gguf "});

  const auto answer = [&](const std::vector<std::string>& rest, const std::string& input = {}) {
    const Outcome done = run_program(run.command("generate", FinishedRun::kSet, rest), {.directory = run.path(), .input = input});
    INFO(done.err);
    CHECK(done.code == 0);
    return done.out;
  };
  CHECK(answer({"-n", "8", "Note 3:"}) == answer({"-n", "8"}, "Note 3:\n"));  // as an argument or on stdin
  CHECK(answer({"-n", "8", "--temperature", "1", "--seed", "3", "Note"}) ==
        answer({"-n", "8", "--temperature", "1", "--seed", "3", "Note"}));
  CHECK(answer({"-n", "24", "--temperature", "1", "--seed", "3", "Note"}) !=
        answer({"-n", "24", "--temperature", "1", "--seed", "4", "Note"}));
  const Json json = parse_json(answer({"-n", "8", "--json", "Note 3:"}), "stdout");
  CHECK(json["tokens"] == 8);
  CHECK(json["adapter"] == "run/adapter");
  CHECK(parse_json(answer({"-n", "8", "--json", "--base", "Note 3:"}), "stdout")["adapter"] == "");
  CHECK(json["text"].get<std::string>() + "\n" == answer({"-n", "8", "Note 3:"}));
  CHECK(!answer({"-n", "8", "--chat", "--system", "Be brief.", "What is a lock?"}).empty());  // ChatML by its control tokens
  const Outcome empty = run_program(run.command("generate"), {.directory = run.path()});
  CHECK(empty.code == 2);
  CHECK(empty.err == "graft: the prompt is empty; give it as an argument or on stdin\n");
  CHECK(run_program(run.command("generate", {}, {"\xff"}), {.directory = run.path()}).err ==
        "graft: the prompt is not valid UTF-8\n");

  const Json exported = parse_json(run.graft("export", FinishedRun::kSet, {"-f", "hf", "-f", "peft", "--json"}).out, "stdout");
  CHECK(exported["directory"] == "run/export");
  CHECK(exported["artifacts"].size() == 2);
  CHECK(fs::exists(run / "run/export/hf/model.safetensors"));
  CHECK(run.inspect("run/export")["artifacts"].size() == 4);
}
