// What is wrong with the user's input ends with exit code 2, one named error, and nothing half-written.
#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

void check_refused(const Outcome& done, const std::vector<std::string>& texts, int code = 2) {
  INFO(done.err);
  CHECK(done.code == code);
  CHECK(done.out.empty());
  const auto last = done.err.rfind("graft: ");
  REQUIRE(last != std::string::npos);
  CHECK(done.err.find("internal error") == std::string::npos);
  for (const std::string& text : texts) {
    INFO("expected: " << text);
    CHECK(done.err.find(text, last) != std::string::npos);
  }
}

// Only what the test put there.
void check_untouched(const Workshop& workshop) {
  for (const auto& entry : fs::recursive_directory_iterator(workshop.path())) {
    const std::string name = entry.path().filename().string(),
                      top = (*fs::relative(entry.path(), workshop.path()).begin()).string();
    INFO(entry.path());
    CHECK((top == "base" || top == "docs" || top == "run.yaml" || top == "other" || name == "corpus" || name == ".lock" ||
           name == "run"));
  }
}

void empty_folder(const fs::path& folder) {
  fs::remove_all(folder);
  fs::create_directories(folder);
}

}  // namespace

TEST_CASE("documents that give no corpus", "[errors]") {
  const Workshop workshop({}, 2);
  const fs::path docs = workshop / "docs";
  for (const char* command : {"prepare", "run"}) {
    INFO(command);
    empty_folder(docs);
    check_refused(workshop.graft(command), {"docs: the folder holds no files"});
    check_untouched(workshop);

    write_file(docs / "picture.png", "\x89PNG");
    check_refused(workshop.graft(command), {"docs"});
    check_untouched(workshop);

    empty_folder(docs);
    write_file(docs / "a.txt", "a");
    check_refused(workshop.graft(command, {"corpus.min_bytes=0"}),
                  {"no document is left of 1 that were read: 1 single token; nothing was written"});
    check_untouched(workshop);

    write_file(docs / "b.txt", "short\n");
    write_file(docs / "c.txt", "   \n\n");
    check_refused(workshop.graft(command, {"corpus.min_bytes=100"}),
                  {"no document is left of 3 that were read: ", "; nothing was written"});
    check_untouched(workshop);

    fs::remove_all(docs);
    check_refused(workshop.graft(command), {"docs: no such file or folder"});
    check_refused(workshop.graft(command, {"corpus.sources=[]"}), {"corpus.sources"});
    check_refused(workshop.graft(command, {"corpus.sources.0.path=docs/*.rst"}), {"docs/*.rst: the pattern matches no file"});
    check_untouched(workshop);
  }
}

TEST_CASE("a corpus without anything to train on, or to score", "[errors]") {
  const Workshop workshop({}, 3);
  check_refused(workshop.graft("train"), {"corpus: no documents to train on; run 'graft prepare' first"});
  check_refused(workshop.graft("eval"), {"corpus has no held-out set; prepare it with corpus.heldout above 0"});
  check_refused(workshop.graft("export"), {"there is no adapter in run; run `graft train` first"});
  check_refused(workshop.graft("train", {}, {"--resume"}),
                {"run holds no checkpoint to go on from; run without --resume to begin"});
  check_untouched(workshop);
  REQUIRE(workshop.graft("prepare", {"corpus.sources.0.set=exam"}).code == 0);  // everything is held out
  check_refused(workshop.graft("train"), {"corpus: no documents to train on"});
}

TEST_CASE("a base that is not there, is no model, or does not fit its tokenizer", "[errors]") {
  const Workshop workshop({}, 3);
  for (const char* command : {"prepare", "train", "run", "eval", "generate", "export", "estimate"}) {
    INFO(command);
    const std::vector<std::string> prompt =
        std::string(command) == "generate" ? std::vector<std::string>{"hello"} : std::vector<std::string>{};
    check_refused(workshop.graft(command, {"base=nowhere"}, prompt),
                  {"nowhere: no such model (looked up from ",
                   "; name a directory with config.json and model.safetensors, or a GGUF file. graft downloads "
                   "nothing: `hf download OWNER/MODEL --local-dir DIR` does"});
    check_refused(workshop.graft(command, {"base=\"\""}, prompt), {"base is not set"});
    check_refused(workshop.graft(command, {"base=docs"}, prompt), {"docs: has no config.json"});
    check_refused(workshop.graft(command, {"base=run.yaml"}, prompt), {"run.yaml"});
  }
  write_tiny_base(workshop / "other", {.vocab = 1000});
  for (const char* command : {"prepare", "train", "run"})
    check_refused(workshop.graft(command, {"base=other"}),
                  {"other: the tokenizer has 1700 ids, the model's embedding 1000 rows"});
  // A control token beyond the embedding is nothing that a document could become; another token is.
  write_tiny_base(workshop / "other", {.vocab = 1700});
  const fs::path tokenizer = workshop / "other/tokenizer.json";
  Json json = read_json(tokenizer);
  json["added_tokens"].push_back(json["added_tokens"][3]);
  json["added_tokens"].back().update({{"id", 1700}, {"content", "<image_soft_token>"}});
  write_file(tokenizer, json.dump());
  CHECK(workshop.graft("estimate", {"base=other"}).code == 0);
  json["added_tokens"].back()["special"] = false;
  write_file(tokenizer, json.dump());
  check_refused(workshop.graft("prepare", {"base=other"}),
                {"other: the tokenizer has 1701 ids, the model's embedding 1700 rows"});
  write_tiny_base(workshop / "other", {.vocab = 1700, .tokenizer = false});
  fs::remove(workshop / "other" / "tokenizer.json");
  check_refused(workshop.graft("run", {"base=other"}), {"other", "tokenizer"});
  check_untouched(workshop);
}

TEST_CASE("a model whose ids mean other text is not scored on this corpus", "[errors][eval]") {
  const Workshop workshop({}, 60);
  const std::vector<std::string> set = {"train.steps=2", "export.formats=[hf, gguf-f16]", "export.min_survival=0"};
  REQUIRE(workshop.graft("run", set).code == 0);
  fs::copy(workshop / "base", workshop / "permuted");
  Json json = read_json(workshop / "permuted/tokenizer.json");
  std::swap(json["model"]["vocab"]["e"], json["model"]["vocab"]["t"]);  // as many ids as before
  write_file(workshop / "permuted/tokenizer.json", json.dump());
  check_refused(workshop.graft("eval", set, {"--model", "permuted"}),
                {"permuted: its tokenizer is another than that of the base base, which made the corpus: id ",
                 "is 't' in the one and 'e' in the other",
                 "score it with a corpus of its own, --set base=permuted --set corpus.dir=ANOTHER"});

  // What was exported of it has the same ids, also where the corpus was made with the GGUF file's form of the tokenizer.
  for (const char* model : {"run/export/hf", "run/export/gguf-f16.gguf"})
    CHECK(workshop.graft("eval", set, {"--model", model}).code == 0);
  const std::vector<std::string> gguf = {"base=run/export/gguf-f16.gguf", "corpus.dir=other", "run_dir=other-run"};
  REQUIRE(workshop.graft("prepare", gguf).code == 0);
  for (const char* model : {"base", "run/export/hf"}) {
    const Outcome scored = workshop.graft("eval", gguf, {"--model", model});
    INFO(scored.err);
    CHECK(scored.code == 0);
  }
  check_refused(workshop.graft("eval", gguf, {"--model", "permuted"}), {"permuted: its tokenizer is another"});
}

TEST_CASE("what export would refuse is said before any work is done", "[errors]") {
  const Workshop workshop({}, 3);
  for (const char* command : {"run", "train"}) {
    check_refused(
        workshop.graft(command, {"export.formats=[peft, gguf-q8]"}),
        {"export format 'gguf-q8' is not known; did you mean 'gguf-q8_0'? `graft help formats` lists what there is, by server"});
    check_refused(workshop.graft(command, {"export.formats=[w4a16]"}),
                  {"export format 'w4a16' is not known; did you mean 'ct-w4a16-"});
    const Outcome unlike = workshop.graft(command, {"export.formats=[onnx]"});
    check_refused(unlike, {"export format 'onnx' is not known; `graft help formats` lists what there is, by server\n"});
    CHECK(unlike.err.size() < 120);
    check_refused(
        workshop.graft(command, {"export.formats=[peft, ct-w4a16-g128, gguf-lora]", "lora.target_modules=[q_proj, lm_head]"}),
        {"export format ct-w4a16-g128: groups of 128 do not divide the rows of model.layers.0.self_attn.q_proj.weight, "
         "which have 32 columns; choose groups of 32\nexport format gguf-lora: the head is tied to the embedding"});
    check_refused(workshop.graft(command, {"export.signing_key=nowhere.pem"}), {"cannot open nowhere.pem"});
    check_refused(workshop.graft(command, {"lora.target_modules=[q_prj]"}),
                  {"lora.target_modules: 'q_prj' matches none of the model's 14 linear layers; their names are q_proj, k_proj"});
    check_refused(workshop.graft(command, {"lora.target_modules=[]"}), {"lora.target_modules is empty; name some of: q_proj"});
    check_refused(workshop.graft(command, {"train.length=512"}),
                  {"train.length is 512, the base's context is 256 tokens; lower train.length"});
    check_refused(workshop.graft(command, {"eval.length=300"}),
                  {"eval.length is 300, the base's context is 256 tokens; lower eval.length"});
    check_refused(workshop.graft(command, {"train.merge_aware.format=q4_0"}),
                  {"export format 'q4_0' is not known; did you mean 'gguf-q4_0'?"});
    for (const char* format : {"peft", "hf", "gguf-f16"})
      check_refused(workshop.graft(command, {cat("train.merge_aware.format=", format)}),
                    {cat("train.merge_aware.format: ", format, " has no grid that training could learn to live with")});
    for (const char* format : {"ct-w4a16-g32-gptq", "ct-w8a8-smooth", "gguf-q4_0-imatrix", "gptq-g32-gptq"})
      check_refused(workshop.graft(command, {cat("train.merge_aware.format=", format)}),
                    {cat("train.merge_aware.format: the values of ", format, " depend on more than the weights")});
    check_refused(workshop.graft(command, {"train.merge_aware.format=ct-w4a16-g128"}),
                  {"export format ct-w4a16-g128: groups of 128 do not divide the rows of "});
    for (const char* precision : {"int8", "nf4"})
      check_refused(workshop.graft(command, {"train.merge_aware.format=gguf-q4_0", cat("train.base_precision=", precision)}),
                    {cat("train.merge_aware rounds the weights at each step, train.base_precision: ", precision,
                         " has them in codes of its own; set train.base_precision: full, or leave train.merge_aware out")});
    check_refused(workshop.graft(command, {"train.base_precision=nf3"}),
                  {"train.base_precision: 'nf3' is not one of full, int8, nf4"});
    check_refused(workshop.graft(command, {"train.merge_aware.share=1.5"}),
                  {"train.merge_aware.share: 1.5 is out of range; 0.001 to 1 is expected"});
  }
  check_untouched(workshop);

  const Workshop mixture({.experts = 2}, 3);
  check_refused(
      mixture.graft("run", {"lora.target_modules=[q_proj, gate]"}),
      {"lora.target_modules: 'gate' matches none of the model's 20 linear layers; their names are q_proj, k_proj, v_proj, "
       "o_proj, w1, w3, w2"});
  check_refused(mixture.graft("run", {"export.formats=[gguf-lora]"}), {"export format gguf-lora: adapters of single experts"});
  check_untouched(mixture);
}

TEST_CASE("places to write in that are read as documents are refused", "[errors]") {
  const Workshop workshop({}, 3);
  fs::create_directory_symlink("docs", workshop / "other");
  for (const char* command : {"run", "train", "prepare"}) {
    check_refused(workshop.graft(command, {"run_dir=docs/run"}),
                  {"run_dir 'docs/run' lies in the source 'docs': what is written there would be read as documents; name a place "
                   "outside of it"});
    check_refused(workshop.graft(command, {"corpus.dir=other"}), {"corpus.dir 'other' lies in the source 'docs'"});
    check_refused(workshop.graft(command, {"corpus.sources.0.path=."}), {"run_dir 'run' lies in the source '.'"});
    check_refused(workshop.graft(command, {cat("export.dir=", (workshop / "docs/out").string())}),
                  {"export.dir '", "lies in the source"});
  }
  check_untouched(workshop);
  CHECK(workshop.graft("prepare", {"corpus.dir=docs2"}).code == 0);  // beside it, not in it
}

TEST_CASE("an adapter of another base, a run directory of another run, another tokenizer's corpus", "[errors]") {
  const Workshop workshop({}, 12);
  REQUIRE(workshop.graft("run", {"train.steps=2"}).code == 0);
  const auto run = workshop.files("run"), corpus = workshop.files("corpus");

  write_tiny_base(workshop / "other", {.seed = 2});
  const std::vector<std::string> other = {"base=other", "train.steps=2"};
  for (const char* command : {"generate", "eval", "export"}) {
    INFO(command);
    check_refused(
        workshop.graft(command, other,
                       std::string(command) == "generate" ? std::vector<std::string>{"hello"} : std::vector<std::string>{}),
        {"adapter", "base"});
  }
  check_refused(workshop.graft("train", other),
                {"run holds a run that differs from this one:\n  base: ", "begin anew with --fresh"});
  check_refused(
      workshop.graft("train", {"train.steps=3", "lora.rank=8"}),
      {"run holds a run that differs from this one:\n  lora.rank: 4 then, 8 now\n  train.steps: 2 then, 3 now\n"
       "Put these settings back (`threads: 0` is all processors), name another run_dir, or begin anew with --fresh (its "
       "checkpoints are removed)"});
  check_refused(workshop.graft("generate", {}, {"--adapter", "docs", "hello"}), {"docs", "adapter_config.json"});
  check_refused(workshop.graft("generate", {}, {"--adapter", "nowhere", "hello"}), {"there is no adapter at nowhere"});
  CHECK(workshop.files("run") == run);

  Json tokenizer = read_json(workshop / "other" / "tokenizer.json");
  tokenizer["added_tokens"][3]["content"] = "<another>";
  tokenizer["model"]["vocab"].erase("<repo_name>");
  tokenizer["model"]["vocab"]["<another>"] = 3;
  write_file(workshop / "other" / "tokenizer.json", tokenizer.dump());
  check_refused(workshop.graft("prepare", other), {"was made with tokenizer ", "use another 'dir' for this model"});
  check_refused(workshop.graft("train", {"base=other", "run_dir=run2"}), {"tokenizer"});
  CHECK(workshop.files("corpus") == corpus);
}

TEST_CASE("a damaged checkpoint is told, set aside, and the run goes on from the one before", "[errors]") {
  const Workshop workshop({}, 30);
  const std::vector<std::string> set = {"train.steps=6", "train.checkpoint_every=2"};
  REQUIRE(workshop.graft("run", set).code == 0);
  const auto finished = workshop.files("run");
  fs::remove(workshop / "run/train.json");
  fs::remove_all(workshop / "run/adapter");
  std::string bytes = read_file(workshop / "run/checkpoints/step-00000006/adapter.safetensors");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(workshop / "run/checkpoints/step-00000006/adapter.safetensors", bytes);

  const Outcome resumed = workshop.graft("train", set);
  INFO(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(resumed.err.find("step-00000006 is damaged: ") != std::string::npos);
  CHECK(resumed.err.find("differs from its sha256 in SHA256SUMS") != std::string::npos);
  CHECK(resumed.err.find("going on from the older checkpoint ") != std::string::npos);
  CHECK(resumed.err.find("going on after step 4 of 6") != std::string::npos);
  CHECK(fs::exists(workshop / "run/checkpoints/damaged-step-00000006"));
  const auto now = workshop.files("run");
  for (const char* name : {"adapter/adapter_model.safetensors", "loss.jsonl"}) CHECK(now.at(name) == finished.at(name));

  fs::remove(workshop / "run/train.json");
  for (const char* step : {"step-00000002", "step-00000004", "step-00000006"})
    write_file(workshop / "run/checkpoints" / step / "state.json", "{}");
  check_refused(workshop.graft("train", set),
                {"none of the 3 checkpoints in run/checkpoints is usable (the warnings above say why); begin anew with --fresh"});
}

TEST_CASE("files of a corpus or a run that were damaged by hand are told", "[errors]") {
  const Workshop workshop({}, 30);
  REQUIRE(workshop.graft("run", {"train.steps=2"}).code == 0);
  const auto damage = [&](const std::string& name) {
    std::string bytes = read_file(workshop / name);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    write_file(workshop / name, bytes);
  };
  // An adapter that is not what was trained here is written again from the last checkpoint.
  const std::string adapter = read_file(workshop / "run/adapter/adapter_model.safetensors");
  damage("run/adapter/adapter_model.safetensors");
  const Outcome again = workshop.graft("train", {"train.steps=2"});
  CHECK(again.code == 0);
  CHECK(again.err.find("run/adapter is not what was trained here; writing it again from the last checkpoint") !=
        std::string::npos);
  CHECK(read_file(workshop / "run/adapter/adapter_model.safetensors") == adapter);

  // An export that was damaged is made again, scores that were damaged are computed again.
  const auto exported = workshop.files("run/export");
  damage("run/export/peft/adapter_model.safetensors");
  write_file(workshop / "run/scores.json", "{");
  const Outcome repaired = workshop.graft("run", {"train.steps=2"});
  INFO(repaired.err);
  CHECK(repaired.code == 0);
  CHECK(repaired.err.find("scores are computed anew: ") != std::string::npos);
  CHECK(workshop.files("run/export") == exported);

  for (const auto& [name, content] : workshop.files("corpus"))
    if (name.starts_with("train-")) damage("corpus/" + name);
  fs::remove_all(workshop / "run");
  check_refused(workshop.graft("run", {"train.steps=2"}), {"corpus/train-0001-", "sha256"});
  CHECK(!fs::exists(workshop / "run/checkpoints"));
}

TEST_CASE("a run directory in use by another process is told", "[errors]") {
  const Workshop workshop({}, 30);
  REQUIRE(workshop.graft("prepare").code == 0);
  Process first(workshop.command("train", {"train.steps=100000"}), {.directory = workshop.path()});
  REQUIRE(first.wait_for("100000 steps of"));
  check_refused(workshop.graft("train", {"train.steps=100000"}), {"run is in use by process ", "; wait for it to end"}, 75);
  first.signal(SIGTERM);
  CHECK(first.finish().code == 143);
}

TEST_CASE("places that cannot be written are the machine's fault", "[errors]") {
  const Workshop workshop({}, 3);
  write_file(workshop / "other", "a file");
  check_refused(workshop.graft("prepare", {"corpus.dir=other/corpus"}), {"cannot create other/corpus: Not a directory"}, 4);
  REQUIRE(workshop.graft("prepare").code == 0);
  check_refused(workshop.graft("train", {"run_dir=other/run"}), {"cannot create other/run: Not a directory"}, 4);
  check_refused(workshop.graft("train", {"run_dir=/proc/here", "export.formats=[]"}), {"cannot create /proc/here: "}, 4);
}
