// A run from end to end on a tiny base: results, logs, the NaN policy, progress.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

std::vector<Json> records(const fs::path& file) {
  std::vector<Json> all;
  for (const std::string& line : read_lines(file)) all.push_back(parse_json(line, file.string()));
  return all;
}

Json result_of(const Outcome& done) {
  INFO(done.err);
  INFO(done.out);
  REQUIRE(done.code == 0);
  return parse_json(done.out, "stdout");  // one object and nothing else
}

std::size_t occurrences(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++count;
  return count;
}

}  // namespace

TEST_CASE("graft run does everything, a second run nothing", "[run]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"export.formats=[peft, hf, gguf-f16, gguf-q8_0, gguf-lora]"};
  const Json first = result_of(workshop.graft("run", set, {"--json"}));
  CHECK(first["prepare"]["documents_read"] == 90);
  CHECK(first["prepare"]["documents_kept"] == 90);
  CHECK(first["train"]["steps"] == 40);
  CHECK(first["train"]["skipped"] == 0);
  CHECK(first["train"]["last_loss"] < first["train"]["first_loss"]);
  CHECK(first["artifacts"].size() == 5);
  CHECK(first["answers"].size() == 1);
  CHECK(first["scores"].size() == 8);  // and the base in gguf-q8_0
  std::map<std::string, double> bits;
  for (const Json& score : first["scores"]) bits[score["model"]] = score["bits_per_byte"];
  CHECK(bits.at("adapted") < bits.at("base"));
  for (const char* exact : {"peft", "gguf_lora"}) {  // the very values of the adapter
    INFO(exact << " " << first["scores"].dump());
    CHECK(bits.count(exact) + bits.count("gguf-lora") > 0);
  }
  for (const auto& [model, value] : bits)
    if (!model.starts_with("base")) CHECK(value == Approx(bits.at("adapted")).epsilon(0.02));
  for (const char* file :
       {"run.json", "train.json", "loss.jsonl", "metrics.jsonl", "scores.json", "report.html", "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors", "tensorboard/events.out.tfevents.graft", "export/manifest.json"})
    CHECK(fs::exists(workshop / "run" / file));

  const auto run = workshop.files("run"), corpus = workshop.files("corpus");
  const Outcome again = workshop.graft("run", set, {"--json"});
  const Json second = result_of(again);
  CHECK(second["train"]["already_done"] == true);
  CHECK(second["prepare"]["documents_unchanged"] == 90);
  CHECK(second["scores"] == first["scores"]);
  CHECK(second["answers"] == first["answers"]);
  CHECK(again.err.find("loading") == std::string::npos);  // no weights were read
  auto now = workshop.files("run");
  now.erase("report.html");  // says when it was made
  auto then = run;
  then.erase("report.html");
  CHECK(now == then);
  CHECK(workshop.files("corpus") == corpus);

  const Outcome text = workshop.graft("run", set);
  for (const char* part :
       {"bits per byte", "against base", "trained before: 40 steps", "prompt   Note 3: the", "gguf-q8_0.gguf", "report  "}) {
    INFO(part << "\n" << text.out);
    CHECK(text.out.find(part) != std::string::npos);
  }
}

TEST_CASE("documents that came after a run began are not trained on in its directory, and that is said", "[run]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=2", "export.formats=[]"};
  CHECK(result_of(workshop.graft("run", set, {"--json"}))["train"]["corpus_changed"] == false);
  CHECK(result_of(workshop.graft("run", set, {"--json"}))["train"]["corpus_changed"] == false);
  for (int i = 0; i < 20; ++i) write_file(workshop / cat("docs/new-", i, ".txt"), document(static_cast<std::uint64_t>(1000 + i)));
  const Outcome quiet = workshop.graft("run", set, {"--json", "-q"});
  const Json after = result_of(quiet)["train"];
  CHECK((after["already_done"] == true && after["corpus_changed"] == true));
  CHECK(quiet.err.find("[train] warning: the corpus has changed since this run began") != std::string::npos);
  const Outcome text = workshop.graft("train", set, {"-q"});
  CHECK(text.out.find("another run_dir takes all, and `graft run --runs DIR` finds one\n") != std::string::npos);

  std::vector<std::string> another = set;
  another.push_back("run_dir=another");
  const Outcome fresh = workshop.graft("train", another, {"--json", "-q"});
  CHECK((result_of(fresh)["already_done"] == false && result_of(fresh)["corpus_changed"] == false));
  CHECK(fresh.err.find("the corpus has changed") == std::string::npos);
}

TEST_CASE("a run that goes on under another instruction set or program says that its bits may differ", "[run]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=4", "train.checkpoint_every=2"};
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train", set).code == 0);
  const std::string begun = read_json(workshop / "run/run.json")["program"];
  CHECK(begun.starts_with("graft " GRAFT_VERSION " on "));
  const auto resumed = [&](const std::map<std::string, std::string>& environment) {
    fs::remove(workshop / "run/train.json");  // as though it had been stopped before the end
    const Outcome done = run_program(workshop.command("train", set), {.directory = workshop.path(), .environment = environment});
    CHECK(done.code == 0);
    return done.err;
  };
  const std::string warning =
      cat("[train] warning: this run was begun by ", begun, " and goes on with graft " GRAFT_VERSION " on scalar");
  CHECK(resumed({}).find("was begun by") == std::string::npos);
  for (int again = 0; again < 2; ++again) CHECK(resumed({{"GRAFT_ISA", "scalar"}}).find(warning) != std::string::npos);
  Json pins = read_json(workshop / "run/run.json");
  pins["program"] = "graft 0.0.9 on abacus";
  write_file(workshop / "run/run.json", pins.dump());
  CHECK(resumed({}).find("begun by graft 0.0.9 on abacus and goes on with " + begun) != std::string::npos);
  pins.erase("program");  // of a program that did not write it
  write_file(workshop / "run/run.json", pins.dump());
  CHECK(resumed({}).find("was begun by") == std::string::npos);
}

TEST_CASE("a finished run refuses a corpus that it was not trained on", "[run]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=2", "export.formats=[]"};
  REQUIRE(workshop.graft("run", set).code == 0);
  fs::remove_all(workshop / "corpus");
  fs::remove(*fs::directory_iterator(workshop / "docs"));
  const Outcome other = workshop.graft("run", set);
  CHECK(other.code == 2);
  CHECK(other.err.find("corpus is not the corpus that the run in run was trained on") != std::string::npos);
}

TEST_CASE("a base in codes trains; it is part of the run and not what is scored", "[run][int8][nf4]") {
  const auto [precision, apart] = GENERATE(std::pair{"int8", 0.005}, std::pair{"nf4", 0.1});
  INFO(precision);
  const Workshop workshop;
  const bool nf4 = precision == std::string("nf4");
  const std::vector<std::string> set = {cat("train.base_precision=", precision),
                                        cat("export.formats=[peft", nf4 ? ", bnb-nf4]" : "]"), "export.min_survival=0"};
  const Json first = result_of(workshop.graft("run", set, {"--json"}));
  CHECK(first["train"]["storage_dtype"] == cat(precision, " of f32"));
  CHECK(first["train"]["last_loss"] < first["train"]["first_loss"]);
  std::map<std::string, double> bits;
  for (const Json& score : first["scores"]) bits[score["model"]] = score["bits_per_byte"];
  CHECK(bits.at("adapted") < bits.at("base"));
  CHECK(bits.at("peft") == bits.at("adapted"));
  const double while_training = records(workshop / "run/loss.jsonl").back()["bits_per_byte"];
  CHECK(while_training != bits.at("adapted"));
  CHECK(while_training == Approx(bits.at("adapted")).epsilon(apart));
  // What was trained is what this file serves, but for embedding and norms: bf16 in it, f32 in this training.
  if (nf4) CHECK(bits.at("bnb-nf4") == Approx(while_training).epsilon(0x1p-9));
  CHECK(result_of(workshop.graft("run", set, {"--json"}))["train"]["already_done"] == true);

  const Outcome other = workshop.graft("train");
  CHECK(other.code == 2);
  CHECK(other.err.find(cat("storage_dtype: ", precision, " of f32 then, f32 now")) != std::string::npos);

  // Taken up from an earlier checkpoint it ends with the same bytes.
  const fs::path adapter = workshop / "run/adapter/adapter_model.safetensors";
  const std::string values = read_file(adapter), losses = read_file(workshop / "run/loss.jsonl");
  for (const char* newer : {"adapter", "train.json", "checkpoints/step-00000040", "checkpoints/step-00000035"})
    REQUIRE(fs::remove_all(workshop / "run" / newer) > 0);
  const Outcome resumed = workshop.graft("train", set);
  INFO(resumed.err);
  CHECK(resumed.err.find("going on after step 28 of 40") != std::string::npos);
  CHECK(read_file(adapter) == values);
  CHECK(read_file(workshop / "run/loss.jsonl") == losses);
}

TEST_CASE("metrics are one JSON object a step, evaluations beside them", "[run]") {
  const Workshop workshop;
  CHECK(result_of(workshop.graft("prepare", {}, {"--json"}))["documents_by_split"]["train"] == 77);
  const Json report = result_of(workshop.graft("train", {}, {"--json"}));
  const auto loss = records(workshop / "run/loss.jsonl"), metrics = records(workshop / "run/metrics.jsonl");
  REQUIRE(loss.size() == metrics.size());
  std::int64_t step = 0, evaluations = 0, tokens = 0;
  for (std::size_t i = 0; i < loss.size(); ++i) {
    Json timeless = metrics[i];
    CHECK(timeless["time"].get<double>() > 1.6e9);
    for (const char* key : {"time", "seconds", "tokens_per_second"}) timeless.erase(key);
    CHECK(timeless == loss[i]);
    if (loss[i].contains("set")) {
      ++evaluations;
      CHECK(loss[i]["step"] == step);
    } else {
      CHECK(loss[i]["step"] == ++step);
      CHECK(std::isfinite(loss[i]["loss"].get<double>()));
      CHECK(loss[i]["tokens"] > tokens);
      tokens = loss[i]["tokens"];
    }
  }
  CHECK(step == 40);
  CHECK(evaluations == 4);  // before the first step and after 16, 32 and 40
  CHECK(report["tokens"] == tokens);
}

TEST_CASE("a merge-aware run ends on the weights that its file has", "[run][merge_aware]") {
  const Workshop workshop({.ffn = 256});  // rows that fill a block of the K-quants
  const auto run = [&](const std::string& format, const std::string& dtype) {
    return workshop.graft("run",
                          {"train.steps=20", "train.merge_aware.share=0.4", "export.min_survival=0", "train.dtype=" + dtype,
                           "train.merge_aware.format=" + format, "export.formats=[" + format + "]", "run_dir=" + format,
                           "export.calibration.rows=4"},
                          {"--fresh", "--json"});
  };
  for (const std::string format : {"ct-w4a16-g32", "ct-w4a16-asym-g32-awq", "gguf-q4_0", "gguf-q4_k_m"}) {
    INFO(format);
    const Json result = result_of(run(format, "fp32"));
    CHECK(result["train"]["merge_aware"] == format);
    CHECK(result["train"]["merge_aware_from"] == 13);
    std::map<std::string, double> nll;
    for (const Json& score : result["scores"]) nll[score["model"]] = score["nll"];
    // The same values, as W'' + s B A there and as Q here, in f32.
    CHECK(result["train"]["heldout"][0]["nll"].get<double>() == Approx(nll.at(format)).epsilon(2e-6));
    CHECK(nll.at("adapted") != Approx(nll.at(format)).epsilon(1e-5));  // the adapter itself, unrounded
    std::int64_t on_rounded = 0;
    for (const Json& record : records(workshop / (format + "/loss.jsonl"))) {
      const std::int64_t step = record["step"];
      CHECK(record.contains("merge_aware") == (record.contains("set") ? step >= 12 : step > 12));
      on_rounded += record.contains("merge_aware");
    }
    CHECK(on_rounded == 10);  // 8 steps, evaluations after 16 and 20
  }
  const Json bf16 = result_of(run("gguf-q4_0", "bf16"));
  for (const Json& score : bf16["scores"])
    if (score["model"] == "gguf-q4_0")
      CHECK(bf16["train"]["heldout"][0]["nll"].get<double>() == Approx(score["nll"].get<double>()).epsilon(1e-3));

  const Outcome text = workshop.graft("train", {"train.steps=20", "train.merge_aware.format=gguf-q4_0", "run_dir=text"});
  INFO(text.out << text.err);
  CHECK(text.out.find("from step 15 on with the weights as gguf-q4_0 has them") != std::string::npos);
  CHECK(text.err.find("merge-aware from step 15 on: the weights are rounded as in gguf-q4_0") != std::string::npos);
}

TEST_CASE("training that rounds by documents finds the same scales when it is taken up", "[run][merge_aware]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  std::vector<std::string> set = {"train.steps=20", "train.merge_aware.share=0.5", "train.checkpoint_every=5",
                                  "train.merge_aware.format=ct-w4a16-asym-g32-awq", "export.calibration.rows=4"};
  REQUIRE(workshop.graft("train", set).code == 0);
  const fs::path adapter = workshop / "run/adapter/adapter_model.safetensors";
  const std::string values = read_file(adapter), losses = read_file(workshop / "run/loss.jsonl");
  for (const char* newer : {"adapter", "train.json", "checkpoints/step-00000020"})  // the phase begins after 10 steps
    REQUIRE(fs::remove_all(workshop / "run" / newer) > 0);
  const Outcome resumed = workshop.graft("train", set);
  INFO(resumed.err);
  CHECK(resumed.err.find("going on after step 15 of 20") != std::string::npos);
  CHECK(read_file(adapter) == values);
  CHECK(read_file(workshop / "run/loss.jsonl") == losses);

  set.back() = "export.calibration.rows=3";
  const Outcome other = workshop.graft("train", set);
  CHECK(other.code == 2);
  CHECK(other.err.find("export.calibration.rows: 4 then, 3 now") != std::string::npos);
  set.back() = "export.calibration.rows=1000";
  set.push_back("run_dir=other");
  const Outcome few = workshop.graft("train", set);
  CHECK(few.code == 2);
  CHECK(few.err.find("rows of 64 to calibrate with are 64000; set export.calibration.rows to ") != std::string::npos);
  CHECK(!fs::exists(workshop / "other/checkpoints"));
}

TEST_CASE("a base with a value that is not finite trains nothing", "[nan]") {
  const Workshop workshop({.poisoned = "model.layers.1.mlp.up_proj.weight"});
  REQUIRE(workshop.graft("prepare").code == 0);
  const Outcome done = workshop.graft("train", {"train.max_bad_steps=3"});
  INFO(done.err);
  CHECK(done.code == 2);
  CHECK(done.out.empty());
  for (const char* step : {"step 1", "step 2", "step 3"})
    CHECK(done.err.find(cat(step, " was skipped: the loss is not finite; parameters are unchanged")) != std::string::npos);
  CHECK(done.err.find("step 4 was") == std::string::npos);
  CHECK(done.err.find(
            "graft: the loss or gradient was not finite in 3 steps in a row (train.max_bad_steps), the last at step 3; look at "
            "the data, or begin anew (--fresh, or another run_dir) with a lower train.learning_rate. The last good checkpoint is "
            "none: "
            "this run had not reached one") != std::string::npos);
  CHECK(!fs::exists(workshop / "run/adapter"));
  const auto loss = records(workshop / "run/loss.jsonl");
  REQUIRE(loss.size() == 4);  // the first is the evaluation of the base
  CHECK(loss[0]["bits_per_byte"].is_null());
  for (std::size_t i = 1; i < 4; ++i) {
    CHECK(loss[i]["loss"].is_null());
    CHECK(loss[i]["skipped"] == "the loss is not finite");
  }
  const Outcome answer = workshop.graft("generate", {}, {"hello"});
  CHECK(answer.code == 2);
  CHECK(answer.err.find("are not finite; its weights or adapter are damaged") != std::string::npos);
}

TEST_CASE("a learning rate that is far too high is skipped, counted and stopped with a good checkpoint", "[nan]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  // Weight decay of 100 times the parameters alone takes them out of f32's range within some twenty steps.
  const std::vector<std::string> set = {"train.learning_rate=10", "train.schedule=constant", "train.warmup=0",
                                        "train.weight_decay=10",  "train.steps=4000",        "train.checkpoint_every=1",
                                        "train.max_bad_steps=4",  "train.eval_every=0"};
  const Outcome done = workshop.graft("train", set);
  INFO(done.err.substr(done.err.size() > 3000 ? done.err.size() - 3000 : 0));
  CHECK(done.code == 2);
  CHECK(occurrences(done.err, "parameters are unchanged") == 4);
  CHECK(done.err.find("was not finite in 4 steps in a row (train.max_bad_steps), the last at step ") != std::string::npos);
  CHECK(done.err.find("with a lower train.learning_rate. The last good checkpoint is run/checkpoints/step-") !=
        std::string::npos);
  std::int64_t skipped = 0;
  for (const Json& record : records(workshop / "run/loss.jsonl")) skipped += record.contains("skipped");
  CHECK(skipped == 4);
  int checked = 0;
  for (const auto& entry : fs::directory_iterator(workshop / "run/checkpoints"))
    for (const char* name : {"adapter.safetensors", "optimizer.safetensors"}) {
      const SafetensorsFile file(entry.path() / name);
      for (const auto& [tensor, info] : file.tensors()) {
        const auto bytes = file.data(info);
        const auto* values = reinterpret_cast<const float*>(bytes.data());
        CHECK(std::all_of(values, values + bytes.size() / sizeof(float), [](float v) { return std::isfinite(v); }));
        ++checked;
      }
    }
  CHECK(checked > 0);
  CHECK(!fs::exists(workshop / "run/adapter"));
}

TEST_CASE("progress is plain lines in a file and a bar on a terminal", "[progress]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"train.steps=60"};
  const Outcome plain = workshop.graft("run", set);
  CHECK(plain.code == 0);
  CHECK(plain.err.find('\r') == std::string::npos);
  CHECK(plain.err.find('\x1b') == std::string::npos);
  CHECK(plain.err.find("train: ") != std::string::npos);
  CHECK(plain.err.find("tokens/s") != std::string::npos);
  CHECK(plain.err.find("step 60/60  loss ") != std::string::npos);

  fs::remove_all(workshop / "run");
  Process process(workshop.command("run", set), {.directory = workshop.path(), .terminal = true});
  const Outcome bar = process.finish();
  CHECK(bar.code == 0);
  CHECK(bar.err.find("\r\x1b[Ktrain: [") != std::string::npos);
  CHECK(bar.err.find("tokens/s") != std::string::npos);
  CHECK(bar.err.find(" left") != std::string::npos);
  CHECK(bar.err.find("loss ") != std::string::npos);
  CHECK(bar.out.find('\x1b') == std::string::npos);

  fs::remove_all(workshop / "run");
  const Outcome quiet = workshop.graft("run", set, {"--quiet"});
  CHECK(quiet.code == 0);
  CHECK(quiet.err.empty());
}

TEST_CASE("documents that came after a run began are scored, and the report says what was trained on", "[run]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  REQUIRE(workshop.graft("train", {"train.steps=5"}).code == 0);
  const Json begun = read_json(workshop / "run/run.json");
  fs::remove(workshop / "run/train.json");  // as though it had been stopped before the end
  for (int i = 500; i < 560; ++i)
    write_file(workshop / "docs" / (std::to_string(i) + ".txt"), document(static_cast<std::uint64_t>(i), 40));
  const std::vector<std::string> set = {"train.steps=5", "export.formats=[hf]"};
  const Json result = result_of(workshop.graft("run", set, {"--json"}));
  std::set<std::int64_t> documents;
  for (const Json& score : result["scores"]) documents.insert(score["documents"].get<std::int64_t>());
  INFO(result["scores"].dump());
  CHECK(documents.size() == 1);  // base, adapted and files are compared on one set
  CHECK(*documents.begin() > result["train"]["heldout"][0]["documents"].get<std::int64_t>());
  const std::string report = read_file(workshop / "run/report.html");
  CHECK(report.find(begun["identity"]["corpus"].get<std::string>()) != std::string::npos);
  const auto shards = read_lines(workshop / "corpus/manifest.jsonl");
  REQUIRE(shards.size() == 4);  // train and heldout, twice
  for (std::size_t i = 0; i < shards.size(); ++i)
    CHECK((report.find(parse_json(shards[i], "manifest")["sha256"].get<std::string>()) != std::string::npos) == (i < 2));
}

TEST_CASE("a fresh run that cannot begin leaves the old one", "[run]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"train.steps=5", "export.formats=[hf]"}).code == 0);
  const auto run = workshop.files("run");
  const Outcome refused = workshop.graft("train", {"train.rows=1000000", "train.micro_rows=1000000"}, {"--fresh"});
  INFO(refused.err);
  CHECK(refused.code == 4);
  CHECK(refused.err.find("of memory and") != std::string::npos);
  CHECK(workshop.files("run") == run);
  const Outcome few =
      workshop.graft("train", {"train.merge_aware.format=ct-w4a16-asym-g32-awq", "export.calibration.rows=100000"}, {"--fresh"});
  CHECK(few.code == 2);
  CHECK(few.err.find("set export.calibration.rows to ") != std::string::npos);
  CHECK(workshop.files("run") == run);
  const Outcome own = workshop.graft("train", {"lora.start_from=run/adapter"}, {"--fresh"});
  CHECK(own.code == 2);
  CHECK(own.err.find(
            "lora.start_from 'run/adapter' is the adapter that a training in run_dir 'run' replaces; name another run_dir") !=
        std::string::npos);
  CHECK(workshop.files("run") == run);
}

TEST_CASE("a base whose configuration has changed is another base", "[run]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"train.steps=3", "export.formats=[]"}).code == 0);
  const fs::path file = workshop / "base/config.json";
  Json config = read_json(file);
  const auto trained = [&] { return workshop.graft("train", {"train.steps=3"}); };
  config["use_cache"] = false;  // changes nothing of the model
  write_file(file, config.dump());
  CHECK(trained().code == 0);
  config["rope_theta"] = 500000.0;
  write_file(file, config.dump());
  const Outcome other = trained();
  CHECK(other.code == 2);
  CHECK(other.err.find("\n  base_config: ") != std::string::npos);
  // A run that began before this was looked at goes on.
  Json pins = read_json(workshop / "run/run.json");
  pins["identity"].erase("base_config");
  write_file(workshop / "run/run.json", pins.dump());
  fs::remove(workshop / "run/train.json");
  fs::remove_all(workshop / "run/checkpoints");
  write_file(workshop / "run/train.json", "{}");
  const Outcome old = trained();
  INFO(old.err);
  CHECK(old.code == 0);
}

TEST_CASE("a window that is longer than a model's context is not scored", "[eval]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("prepare").code == 0);
  const Outcome outcome = workshop.graft("eval", {"eval.length=512"}, {"--base"});
  CHECK(outcome.code == 2);
  CHECK(outcome.err.find("eval.length is 512, the base's context is 256 tokens; lower eval.length") != std::string::npos);
}

TEST_CASE("a pattern that matches what graft wrote is refused before it is read", "[run]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"corpus.sources.0.path='**/*.md'", "train.steps=5", "export.formats=[gguf-f16]"};
  write_file(workshop / "docs/one.md", document(1, 400));
  write_file(workshop / "docs/two.md", document(2, 400));
  std::vector<std::string> all = set;
  all.push_back("corpus.heldout=0");
  const Outcome first = workshop.graft("run", all);
  INFO(first.err);
  REQUIRE(first.code == 0);
  const Outcome again = workshop.graft("run", all);
  INFO(again.err);
  CHECK(again.code == 2);
  CHECK(again.err.find(
            "the source '**/*.md' matches 'run/export/serving/README.md', which lies in run_dir 'run' and was written by "
            "graft; name a place outside, or a narrower pattern") != std::string::npos);
}
