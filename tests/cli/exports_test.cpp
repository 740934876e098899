// Exported files from the command line: what survives in them, whether they are as written, what servers will say.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

Json json_of(const Outcome& done) { return parse_json(done.out, "stdout"); }

void contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

// As if the file were of no use: worse than the base on every document.
void spoil(const Workshop& workshop, const std::vector<std::string>& formats) {
  Json book = read_json(workshop / "run/scores.json");
  for (Json& score : book["scores"])
    if (std::find(formats.begin(), formats.end(), score["model"]) != formats.end()) {
      score["bits_per_byte"] = 99;
      for (Json& nll : score["document_nll"]) nll = nll.get<double>() * 50;
    }
  write_file(workshop / "run/scores.json", book.dump());
}

}  // namespace

TEST_CASE("quantized files say how much of the gain they keep, and poor ones are not kept", "[export]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run").code == 0);
  const Outcome done =
      workshop.graft("export", {"export.min_survival=0.01"}, {"--json", "-f", "gguf-q4_0", "-f", "ct-w8a8", "-f", "peft"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  const Json artifacts = json_of(done)["artifacts"];
  REQUIRE(artifacts.size() == 3);
  std::map<std::string, double> bits;
  const Json book = read_json(workshop / "run/scores.json");
  for (const Json& score : book["scores"]) bits[score["model"]] = score["bits_per_byte"];
  for (const char* format : {"gguf-q4_0", "ct-w8a8"}) {
    INFO(format);
    const double kept = (bits.at("base") - bits.at(format)) / (bits.at("base") - bits.at("adapted"));
    const Json& artifact = artifacts[std::string(format) == "gguf-q4_0" ? 0 : 1];
    CHECK(artifact["format"] == format);
    CHECK(artifact["survival"].get<double>() == Approx(kept));
    CHECK(kept > 0.5);
  }
  CHECK(!artifacts[2].contains("survival"));  // nothing is rounded in an adapter

  const Outcome text = workshop.graft("export", {"export.min_survival=0.01"}, {"-f", "gguf-q4_0"});
  for (const char* column : {"bits per byte", "gain kept", "quantized base", "update kept", "KL to merged", "\nmerged "})
    contains(text.out, column);
  contains(text.out, ", KL over ");
  std::istringstream lines(text.out);
  for (std::string line; std::getline(lines, line) && !line.empty();) CHECK(line.size() <= 130);

  SECTION("too little survives") {
    spoil(workshop, {"gguf-q4_0"});
    const Outcome poor = workshop.graft("export", {"export.min_survival=1"}, {"-f", "gguf-q4_0", "-f", "peft"});
    CHECK(poor.code == 3);
    contains(poor.err, "gguf-q4_0 keeps ");
    contains(poor.err, " of what the adapter gained, export.min_survival asks for 100.0 %; it was not kept: ");
    CHECK(!fs::exists(workshop / "run/export/gguf-q4_0.gguf"));
    CHECK(fs::exists(workshop / "run/export/peft"));
    const Json manifest = read_json(workshop / "run/export/manifest.json");
    for (const Json& artifact : manifest["artifacts"]) CHECK(artifact["format"] != "gguf-q4_0");

    const fs::path signature = workshop / "run/export/manifest.json.sig";
    write_file(signature, "of what lies there");
    CHECK(workshop.graft("export", {"export.min_survival=1"}, {"-f", "gguf-q4_0"}).code == 3);
    CHECK((fs::exists(signature) && read_file(signature) == "of what lies there"));
  }
  SECTION("the next larger format of the same layout that fits the base is named") {
    const std::vector<std::string> formats = {"gptq-g32", "ct-w4a16-g32-gptq", "ct-w4a16-asym-g32-awq-gptq"};
    const std::vector<std::string> options = {"-f", formats[0], "-f", formats[1], "-f", formats[2]};
    REQUIRE(workshop.graft("export", {"export.min_survival=0", "export.calibration.rows=8"}, options).code == 0);
    spoil(workshop, formats);
    const Outcome poor = workshop.graft("export", {"export.min_survival=1", "export.calibration.rows=8"}, options);
    CHECK(poor.code == 3);
    contains(poor.err, "gptq-g32 keeps ");
    contains(poor.err, "it was not kept: try gptq-g32-gptq");
    contains(poor.err, "it was not kept: try ct-w4a16-asym-g32");  // rows of 32 have no groups of 128
    contains(poor.err, "it was not kept: try ct-w4w8a16-asym-g32");
    for (const auto& [server, next] : {std::pair{"vllm", "try fp8\n"}, {"tensorrt-llm", "try modelopt-fp8\n"}}) {
      const Outcome read = workshop.graft(
          "export", {"export.min_survival=1", "export.calibration.rows=8", std::string("export.serve=[") + server + "]"},
          {"-f", "modelopt-fp8-static-gptq"});
      CHECK(read.code == 3);
      contains(read.err, next);
    }
  }
  SECTION("a run says so in its report, and keeps the rest") {
    spoil(workshop, {"gguf-q4_0"});
    const Outcome poor = workshop.graft("run", {"export.min_survival=1", "export.formats=[gguf-q4_0, peft]"});
    CHECK(poor.code == 3);
    contains(poor.err, "gguf-q4_0 keeps ");
    contains(read_file(workshop / "run/report.html"), "of what the adapter gained, export.min_survival asks for 100.0 %");
    CHECK(fs::exists(workshop / "run/export/peft"));
    CHECK(!fs::exists(workshop / "run/export/gguf-q4_0.gguf"));
  }
  SECTION("anything is kept") {
    const Outcome any = workshop.graft("export", {"export.min_survival=0"}, {"-f", "gguf-q4_k_s"});
    CHECK(any.code == 0);
    contains(any.out, "gain kept");
    // One that is worse than the base too.
    spoil(workshop, {"gguf-q4_k_s"});
    const Outcome worst = workshop.graft("export", {"export.min_survival=0"}, {"-f", "gguf-q4_k_s"});
    CHECK(worst.code == 0);
    contains(worst.out, "99.0000");
    CHECK(fs::exists(workshop / "run/export/gguf-q4_k_s.gguf"));
    CHECK(workshop.graft("export", {"export.min_survival=0.01"}, {"-f", "gguf-q4_k_s"}).code == 3);
  }
}

TEST_CASE("a later adapter's file that keeps too little does not replace what is served", "[export][survival]") {
  const Workshop workshop;
  const std::vector<std::string> first = {"export.formats=[hf, gguf-q4_0]", "export.min_survival=0.01"};
  REQUIRE(workshop.graft("run", first).code == 0);
  const auto recorded = [&](const std::string& format) -> Json {
    const Json manifest = read_json(workshop / "run/export/manifest.json");
    for (const Json& artifact : manifest["artifacts"])
      if (artifact["format"] == format) return artifact;
    return {};
  };
  const Json served = recorded("gguf-q4_0"), merged = recorded("hf");
  std::map<std::string, double> bits;
  const Json book = read_json(workshop / "run/scores.json");
  for (const Json& score : book["scores"]) bits[score["model"]] = score["bits_per_byte"];
  CHECK(served["heldout"]["gate"] == "passed");
  CHECK(served["heldout"]["min_survival"] == 0.01);
  CHECK(served["heldout"]["bits_per_byte"] ==
        Json{{"base", bits["base"]}, {"adapted", bits["adapted"]}, {"file", bits["gguf-q4_0"]}});
  CHECK(served["heldout"]["survival"].get<double>() ==
        Approx((bits["base"] - bits["gguf-q4_0"]) / (bits["base"] - bits["adapted"])));

  const std::vector<std::string> aside = {first[0], "export.min_survival=0", "export.dir=aside", "train.seed=5"};
  REQUIRE(workshop.graft("run", aside, {"--fresh"}).code == 0);
  spoil(workshop, {"gguf-q4_0"});
  const Outcome poor = workshop.graft("run", {first[0], first[1], "train.seed=5"});
  CHECK(poor.code == 3);
  contains(poor.err, "; run/export/gguf-q4_0.gguf is still the older one");
  CHECK(sha256_file(workshop / "run/export/gguf-q4_0.gguf") == served["sha256"]);
  CHECK(recorded("gguf-q4_0") == served);
  CHECK(recorded("hf")["adapter"] != merged["adapter"]);
  CHECK(read_file(workshop / "run/export/serving/README.md").find("gguf-q4_0") == std::string::npos);
  fs::remove(workshop / "run/scores.json");
  REQUIRE(workshop.graft("export", {first[0], first[1], "train.seed=5"}).code == 0);
  CHECK(recorded("gguf-q4_0")["adapter"] == recorded("hf")["adapter"]);
}

TEST_CASE("documents that are too few to tell are named", "[export][survival]") {
  const Workshop workshop;
  const std::vector<std::string> set = {"export.formats=[gguf-q4_0]", "export.min_survival=0.01"};
  std::vector<std::string> one = set;
  one.push_back("eval.max_tokens=1");  // stops at a document's end
  const Outcome kept = workshop.graft("run", one);
  REQUIRE(kept.code == 0);
  contains(kept.err, "; 1 held-out documents do not tell that from less than export.min_survival, 1.0 % (95 %)");
  CHECK(fs::exists(workshop / "run/export/gguf-q4_0.gguf"));
  const Json entry = read_json(workshop / "run/export/manifest.json")["artifacts"][0];
  CHECK(entry["heldout"]["survival_interval"] == Json::array({nullptr, nullptr}));

  REQUIRE(workshop.graft("export", set).code == 0);  // on all documents
  const Json all = read_json(workshop / "run/export/manifest.json")["artifacts"][0]["heldout"];
  CHECK(all["survival_interval"][0] < all["survival"]);
  CHECK(all["survival_interval"][1] > all["survival"]);
  spoil(workshop, {"gguf-q4_0"});
  CHECK(workshop.graft("export", set).code == 3);
  CHECK(!fs::exists(workshop / "run/export/gguf-q4_0.gguf"));
}

TEST_CASE("an adapter that is no better than the base ends a run with 3, whatever is exported", "[export][survival]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"export.formats=[]"}).code == 0);
  Json book = read_json(workshop / "run/scores.json");
  for (Json& score : book["scores"])
    if (score["model"] == "adapted") score["bits_per_byte"] = 99;
  write_file(workshop / "run/scores.json", book.dump());
  const Outcome worse = workshop.graft("run", {"export.formats=[peft]"});
  CHECK(worse.code == 3);
  contains(worse.err, "the adapter gained nothing on the held-out documents (base ");
  contains(worse.err, ", adapted 99.0000 bits per byte): do not serve it");
  for (const char* format : {"peft", "ct-w8a8"}) {  // known from the run, or scored for what is rounded
    const Outcome exported = workshop.graft("export", {}, {"-f", format});
    CHECK(exported.code == 3);
    contains(exported.err, "the adapter gained nothing on the held-out documents (base ");
  }
  CHECK(!fs::exists(workshop / "run/export"));
  CHECK(workshop.graft("run", {"export.formats=[peft]", "export.min_survival=0"}).code == 0);
  CHECK(read_json(workshop / "run/export/manifest.json")["artifacts"][0]["heldout"]["gate"] == "off");
}

TEST_CASE("what is missing beside a run is said, not passed over", "[export][survival]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"export.formats=[peft]"}).code == 0);
  const Outcome elsewhere = workshop.graft("export", {"corpus.dir=nowhere"}, {"-f", "ct-w8a8"});
  CHECK(elsewhere.code == 2);
  contains(elsewhere.err, "nowhere: no corpus is here, so export.min_survival cannot be checked");
  CHECK(!fs::exists(workshop / "run/export/ct-w8a8"));
  CHECK(workshop.graft("export", {"corpus.dir=nowhere", "export.min_survival=0"}, {"-f", "ct-w8a8"}).code == 0);
  CHECK(workshop.graft("export", {"corpus.dir=nowhere"}, {"-f", "peft"}).code == 0);

  for (const std::string command : {"generate", "eval"}) {
    const std::vector<std::string> rest = command == "generate" ? std::vector<std::string>{"hello"} : std::vector<std::string>{};
    const Outcome bare = workshop.graft(command, {"run_dir=empty"}, rest);
    CHECK(bare.code == 0);
    contains(bare.err, "warning: there is no adapter in empty: ");
    std::vector<std::string> asked = rest;
    asked.push_back("--base");
    CHECK(workshop.graft(command, {"run_dir=empty"}, asked).err.find("there is no adapter") == std::string::npos);
  }
}

TEST_CASE("beside a quantized file stand the merged model and the base in its format", "[export][survival]") {
  const Workshop workshop;
  const std::vector<std::string> formats = {"gguf-q4_0", "gguf-q8_0", "ct-w8a8", "gptq-g32", "bnb-nf4"};
  const std::vector<std::string> any = {"export.min_survival=0", "export.formats=[hf]"};
  REQUIRE(workshop.graft("run", any).code == 0);  // nothing is quantized, nothing compared
  CHECK(read_file(workshop / "run/scores.json").find("kl") == std::string::npos);
  const std::vector<std::string> set = {"export.min_survival=0",
                                        "export.formats=[peft, hf, gguf-q4_0, gguf-q8_0, ct-w8a8, gptq-g32, bnb-nf4]"};
  const Outcome done = workshop.graft("run", set, {"--json"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  const Json result = json_of(done);
  std::map<std::string, double> bits, kl;
  for (const Json& score : result["scores"]) {
    bits[score["model"]] = score["bits_per_byte"];
    if (!score.contains("kl")) continue;
    kl[score["model"]] = score["kl"];
    CHECK(score["kl_tokens"] == score["tokens"]);  // few enough to take all
  }
  CHECK(bits.count("merged") == 0);  // hf is it
  CHECK(kl.at("gguf-q8_0") > 0);
  CHECK(kl.at("gguf-q4_0") > 10 * kl.at("gguf-q8_0"));
  CHECK(kl.size() == formats.size());
  CHECK(bits.count("base in hf") + bits.count("base in peft") == 0);
  for (const Json& artifact : result["artifacts"]) {
    const std::string format = artifact["format"];
    if (!bits.count("base in " + format)) continue;
    INFO(format);
    CHECK(artifact["kl"].get<double>() == kl.at(format));
    CHECK(artifact["update_kept"].get<double>() ==
          Approx((bits.at("base in " + format) - bits.at(format)) / (bits.at("base") - bits.at("adapted"))));
  }
  for (const char* part : {"quantized base", "update kept", "KL to merged", "<circle class=ring"})
    contains(read_file(workshop / "run/report.html"), part);
  for (const auto& entry : fs::directory_iterator(workshop / "run/export"))  // nothing of the base alone is left
    CHECK(entry.path().string().find("base-alone") == std::string::npos);

  // The merged model from memory is that of hf, and what was compared with the one was compared with the other.
  const Outcome alone = workshop.graft("export", {"export.min_survival=0.01"}, {"-f", "gguf-q4_0"});
  REQUIRE(alone.code == 0);
  contains(alone.err, "scoring merged on");
  CHECK(alone.err.find("scoring gguf-q4_0 on") == std::string::npos);
  for (const Json& score : read_json(workshop / "run/scores.json")["scores"])
    if (score["model"] == "merged") CHECK(score["bits_per_byte"] == bits.at("hf"));

  // The base alone is what an adapter that changes nothing leaves of it.
  fs::copy(workshop / "run/adapter", workshop / "zero");
  std::string adapter = read_file(workshop / "zero/adapter_model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, adapter.data(), sizeof header);
  const Json tensors = parse_json(adapter.substr(8, header), "header");
  for (const auto& [name, tensor] : tensors.items())
    if (name.find("lora_B") != std::string::npos)
      for (std::uint64_t at = tensor["data_offsets"][0]; at < tensor["data_offsets"][1]; ++at) adapter[8 + header + at] = 0;
  write_file(workshop / "zero/adapter_model.safetensors", adapter);
  std::vector<std::string> options = {"--adapter", "zero"};
  for (const std::string& format : formats) options.insert(options.end(), {"-f", format});
  const Outcome zero = workshop.graft("export", {"export.min_survival=0", "export.dir=zero"}, options);
  INFO(zero.err);
  REQUIRE(zero.code == 0);
  for (const std::string& format : formats) {
    INFO(format);
    const std::string path = cat("run/zero/", format, format.starts_with("gguf") ? ".gguf" : "");
    CHECK(json_of(workshop.graft("eval", {}, {"--json", "--model", path}))["scores"].back()["bits_per_byte"] ==
          bits.at("base in " + format));
  }
  // Of nothing there is no share: the gate does not pass.
  const Outcome refused = workshop.graft("export", {"export.min_survival=0.01", "export.dir=none"}, options);
  CHECK(refused.code == 3);
  contains(refused.err, "the adapter gained nothing on the held-out documents (base ");
  CHECK(!fs::exists(workshop / "run/none"));

  // Kept: nothing is loaded again. A damaged entry is made anew, one that is no number stays one that is none.
  CHECK(workshop.graft("run", set).err.find("loading") == std::string::npos);
  Json book = read_json(workshop / "run/scores.json");
  for (Json& score : book["scores"])
    if (score["model"] == "gguf-q4_0") score["bits_per_byte"] = nullptr;
  write_file(workshop / "run/scores.json", book.dump());
  const Outcome none = workshop.graft("run", {set[1], "export.min_survival=0.01"});
  CHECK(none.code == 3);
  contains(none.err, "gguf-q4_0 keeps nan % of what the adapter gained");
  book["scores"][0]["kl_to"] = 3;
  write_file(workshop / "run/scores.json", book.dump());
  contains(workshop.graft("run", any).err, "scores are computed anew: ");
}

TEST_CASE("scores are kept for the config that they were computed with", "[eval]") {
  const Workshop workshop({}, 20);
  REQUIRE(workshop.graft("prepare").code == 0);
  const auto bits = [](const Outcome& done) { return json_of(done)["scores"][0]["bits_per_byte"].get<double>(); };
  const double first = bits(workshop.graft("eval", {}, {"--json"}));
  CHECK(workshop.graft("eval").err.find("scoring base") == std::string::npos);
  Json config = read_json(workshop / "base/config.json");
  config["rope_theta"] = 100.0;
  write_file(workshop / "base/config.json", config.dump());
  CHECK(bits(workshop.graft("eval", {}, {"--json"})) != first);
}

TEST_CASE("where nothing was held out, files are kept with a warning", "[export][survival]") {
  const Workshop workshop({}, 20);
  const Outcome done = workshop.graft("run", {"corpus.heldout=0", "train.steps=2", "export.formats=[peft, gguf-q4_0]"});
  INFO(done.err);
  CHECK(done.code == 0);
  contains(done.err, "gguf-q4_0: nothing was held out, so that export.min_survival cannot be checked");
  CHECK(done.err.find("peft: nothing was held out") == std::string::npos);
  contains(done.err, "no document was held out, so that the models cannot be scored: corpus.heldout 0 chooses by hash");
  CHECK(fs::exists(workshop / "run/export/gguf-q4_0.gguf"));
}

TEST_CASE("where the hash held out nothing, that is said before the training", "[run][survival]") {
  const Workshop workshop({}, 20);
  const std::vector<std::string> few = {"corpus.heldout=0.0001", "train.steps=2"};
  const auto with = [&](const char* formats) { return std::vector<std::string>{few[0], few[1], formats}; };
  const std::string none = "no document was held out, so that the models cannot be scored: corpus.heldout 0.0001 chooses by hash";
  const Outcome refused = workshop.graft("run", with("export.formats=[peft, gguf-q4_0]"));
  CHECK(refused.code == 2);
  contains(refused.err, none);
  contains(refused.err, "set corpus.heldout: 0.2, say, and another corpus.dir");
  CHECK(!fs::exists(workshop / "run"));
  const Outcome warned = workshop.graft("run", with("export.formats=[peft]"));
  CHECK(warned.code == 0);
  CHECK(warned.err.find(none) < warned.err.find("[train]"));
  contains(workshop.graft("prepare", few).err, none);
}

TEST_CASE("quantizers look at training documents, and say so when there are too few", "[export][calibration]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run").code == 0);
  const std::vector<std::string> formats = {"--json", "-f", "ct-w4a16-g32-gptq", "-f", "gguf-q4_0-imatrix"};
  const Outcome few = workshop.graft("export", {"export.calibration.rows=4000"}, formats);
  CHECK(few.code == 2);
  contains(few.err, " to calibrate with are ");
  contains(few.err, "set export.calibration.rows to ");
  CHECK(!fs::exists(workshop / "run/export/ct-w4a16-g32-gptq"));
  const Outcome done = workshop.graft("export", {"export.calibration.rows=8", "export.min_survival=0.01"}, formats);
  INFO(done.err);
  REQUIRE(done.code == 0);
  for (const Json& artifact : json_of(done)["artifacts"]) {
    CHECK(artifact["survival"].get<double>() > 0.5);
    const std::string corpus = read_json(workshop / "run/run.json")["identity"]["corpus"];
    contains(artifact["calibration"], cat("8 rows of "));
    contains(artifact["calibration"], corpus);  // the documents that the adapter was trained on
  }
  // `graft run` says it before it trains.
  fs::remove_all(workshop / "run");
  const Outcome run = workshop.graft("run", {"export.calibration.rows=4000", "export.formats=[gguf-q4_0-imatrix]"});
  CHECK(run.code == 2);
  contains(run.err, " to calibrate with are ");
  CHECK(!fs::exists(workshop / "run/checkpoints"));
}

TEST_CASE("graft verify names the file that is not as it was written", "[verify]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"export.formats=[peft, hf, gguf-f16]"}).code == 0);
  const fs::path directory = workshop / "run/export";
  const auto verify = [&] { return workshop.graft_words({"verify", "run/export"}); };
  CHECK(verify().code == 0);
  contains(verify().out, "as written");
  const Outcome json = workshop.graft_words({"verify", "run/export", "--json"});
  CHECK(json_of(json)["intact"] == true);

  for (const char* name : {"gguf-f16.gguf", "hf/model.safetensors", "peft/adapter_config.json"}) {
    INFO(name);
    const std::string content = read_file(directory / name);
    std::string damaged = content;
    damaged[content.size() / 2] = static_cast<char>(damaged[content.size() / 2] ^ 1);
    write_file(directory / name, damaged);
    const Outcome found = verify();
    CHECK(found.code == 2);
    contains(found.err, cat("run/export/", name, " has sha256 "));
    fs::remove(directory / name);
    fs::create_symlink("/etc/hostname", directory / name);
    contains(verify().err,
             cat("'", fs::path(name).filename().string(), "' is a link to /etc/hostname, outside of this directory"));
    fs::remove(directory / name);
    contains(verify().err, cat("run/export/", name, " is missing"));
    write_file(directory / name, content);
  }
  CHECK(verify().code == 0);
  const std::string config = read_file(directory / "hf/config.json");
  write_file(directory / "hf/config.json", config + " ");
  contains(verify().err, cat("run/export/hf/config.json has ", config.size() + 1, " bytes, manifest.json says ", config.size()));
  write_file(directory / "hf/config.json", config);
  write_file(directory / "hf/extra.bin", "x");
  contains(verify().err, "run/export/hf/extra.bin is not in the manifest");
  fs::remove(directory / "hf/extra.bin");

  // The manifest of another run.
  const Workshop other({.seed = 2});
  REQUIRE(other.graft("run", {"export.formats=[peft, hf, gguf-f16]"}).code == 0);
  fs::copy_file(other / "run/export/manifest.json", directory / "manifest.json", fs::copy_options::overwrite_existing);
  const Outcome replayed = verify();
  CHECK(replayed.code == 2);
  contains(replayed.err, "run/export/gguf-f16.gguf has sha256 ");

  CHECK(workshop.graft_words({"verify", "docs"}).code == 2);
  contains(workshop.graft_words({"verify", "docs"}).err,
           "docs: has no manifest.json; name the directory that `graft export` wrote");
  contains(workshop.graft_words({"verify", "run"}).err, "run: has no manifest.json; did you mean run/export?");
}

TEST_CASE("doctor --for says what a server makes of the config, export.serve asks before training", "[servers]") {
  const Workshop workshop;
  const Outcome good = workshop.graft("doctor", {"export.formats=[peft, hf, gguf-q8_0]"}, {"--for", "vllm", "--for", "ollama"});
  CHECK(good.code == 0);
  contains(good.out, "vllm: peft");
  contains(good.out, "served with --max-lora-rank 8");
  contains(good.out, "ollama: gguf-q8_0");
  contains(good.out, "not for this server");
  const Outcome sharded = workshop.graft("doctor", {"export.formats=[hf]"}, {"--for", "vllm", "--tensor-parallel", "3"});
  CHECK(sharded.code == 2);
  contains(sharded.out, "3 devices do not divide 4 heads");
  const Outcome none = workshop.graft("doctor", {"export.formats=[hf]"}, {"--for", "llama.cpp"});
  CHECK(none.code == 2);
  contains(none.out, "llama.cpp reads none of export.formats");
  const Outcome unknown = workshop.graft("doctor", {}, {"--for", "vlm"});
  CHECK(unknown.code == 2);
  contains(unknown.out, "did you mean 'vllm'?");
  const Outcome alone = workshop.graft_words({"doctor", "--for", "vllm"});
  CHECK(alone.code == 2);
  contains(alone.err, "--for, --tensor-parallel and --set are about a config; give one with -c");

  const Outcome refused =
      workshop.graft("run", {"export.formats=[hf]", "export.serve=[llama.cpp, vllm]", "export.tensor_parallel=3"});
  CHECK(refused.code == 2);
  contains(refused.err, "export.serve llama.cpp: formats: llama.cpp reads none of export.formats");
  contains(refused.err, "export.serve vllm: hf: 3 devices do not divide 4 heads");
  CHECK(!fs::exists(workshop / "run"));
  const std::vector<std::string> served = {"export.formats=[hf]", "export.serve=[vllm]", "export.tensor_parallel=3"};
  const Outcome exported = workshop.graft("export", served);
  CHECK(exported.code == 2);
  contains(exported.err, "export.serve vllm: hf: 3 devices do not divide 4 heads");
  const Outcome another = workshop.graft("export", served, {"-f", "gguf-q8_0"});  // beside what vLLM is served from
  CHECK(another.err.find("export.serve") == std::string::npos);
  const Outcome misspelt = workshop.graft("run", {"export.serve=[olama]"});
  CHECK(misspelt.code == 2);
  contains(misspelt.err, "server 'olama' is not known; did you mean 'ollama'?");
}

TEST_CASE("an export comes with what servers need beside it", "[servers]") {
  const Workshop workshop;
  const Outcome run = workshop.graft("run", {"export.formats=[peft, gguf-q8_0, bnb-nf4]", "export.min_survival=0.01"});
  INFO(run.err);
  REQUIRE(run.code == 0);
  contains(run.out, "how to serve them: run/export/serving/README.md");
  const std::string readme = read_file(workshop / "run/export/serving/README.md");
  contains(readme, "vllm serve ../../base --enable-lora --max-lora-rank 8 --lora-modules run=peft");
  contains(readme, "llama-server -m gguf-q8_0.gguf --alias run");
  contains(read_file(workshop / "run/export/serving/ollama/gguf-q8_0.Modelfile"), "FROM ../../gguf-q8_0.gguf");
  const Json manifest = read_json(workshop / "run/export/manifest.json");
  CHECK(manifest["artifacts"].size() == 3);
  CHECK(workshop.graft_words({"verify", "run/export"}).code == 0);
  // The base ships no template, and no conversation was trained on.
  const fs::path modelfile = workshop / "run/export/serving/ollama/gguf-q8_0.Modelfile";
  CHECK(read_file(modelfile).find("TEMPLATE") == std::string::npos);
  CHECK(run.err.find("chat template") == std::string::npos);
  // The base in NF4 is scored with the adapter beside it.
  const Json book = read_json(workshop / "run/scores.json");
  std::map<std::string, double> bits;
  for (const Json& score : book["scores"]) bits[score["model"]] = score["bits_per_byte"];
  const double kept = (bits.at("base") - bits.at("bnb-nf4")) / (bits.at("base") - bits.at("adapted"));
  CHECK(kept > 0.3);
  CHECK(kept < 1.7);
}

TEST_CASE("the layout that was trained on is what servers are told", "[servers]") {
  const Workshop workshop({}, 20);
  const fs::path modelfile = workshop / "run/export/serving/ollama/gguf-f16.Modelfile";
  const fs::path readme = workshop / "run/export/serving/README.md";
  const std::vector<std::string> set = {"export.formats=[gguf-f16, peft]", "export.tensor_parallel=2", "train.steps=2"};
  std::vector<std::string> chosen = set;
  chosen.push_back("corpus.chat_template=chatml");
  const Outcome asked = workshop.graft("run", chosen);
  REQUIRE(asked.code == 0);
  contains(asked.err, "the base ships no chat template, so that hf and GGUF files hold none");
  contains(read_file(modelfile), "TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n");
  contains(read_file(modelfile), "PARAMETER stop \"<|im_end|>\"");
  contains(read_file(readme), "/v1/chat/completions");
  contains(read_file(readme), "--chat-template serving/chat_template.jinja");
  contains(read_file(workshop / "run/export/serving/chat_template.jinja"), "<|im_start|>assistant");
  CHECK(read_file(readme).find("stop_token_ids") == std::string::npos);
  REQUIRE(workshop.graft("export", set).code == 0);
  CHECK(read_file(modelfile).find("TEMPLATE") == std::string::npos);
  CHECK(!fs::exists(workshop / "run/export/serving/chat_template.jinja"));
  CHECK(read_file(readme).find("chat") == std::string::npos);

  for (const char* stage : {"run", "corpus"}) fs::remove_all(workshop / stage);
  std::string conversations;
  for (std::uint64_t i = 0; i < 40; ++i)
    conversations += Json{{"messages",
                           {{{"role", "user"}, {"content", "What is note " + std::to_string(i) + "?"}},
                            {{"role", "assistant"}, {"content", document(i)}}}}}
                         .dump() +
                     "\n";
  write_file(workshop / "docs/chat.jsonl", conversations);
  const Outcome trained = workshop.graft("run", set);
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  contains(trained.err, "the base ships no chat template");
  contains(read_file(modelfile), "TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n");
  contains(read_file(readme), R"("stop_token_ids":[2],)");
}
