// From an export to a server that can be trusted: signature, origin, and what a server answers.
#include <cstdlib>

#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

void contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

std::vector<Json> lines_of(const fs::path& file) {
  std::vector<Json> lines;
  for (const std::string& line : read_lines(file)) lines.push_back(parse_json(line, file.string()));
  return lines;
}

// What vLLM or llama-server would answer if it were the probed model of `format`.
enum class Server { vllm, llama };
void write_answers(const Workshop& workshop, const std::string& format, Server server) {
  std::string answers;
  for (const Json& line : lines_of(workshop / "run/export/probe/expected.jsonl")) {
    if (line["format"] != format) continue;
    Json named = Json::object(), listed = Json::array();
    for (const Json& token : line["top"]) {
      named["token_id:" + std::to_string(token["id"].get<int>())] = token["logprob"];
      listed.push_back({{"id", token["id"]}, {"token", "x"}, {"logprob", token["logprob"]}});
    }
    const Json logprobs = server == Server::vllm ? Json{{"top_logprobs", Json::array({named})}}
                                                 : Json{{"content", Json::array({{{"id", 1}, {"top_logprobs", listed}}})}};
    answers +=
        Json{{"object", "text_completion"}, {"choices", Json::array({{{"index", 0}, {"logprobs", logprobs}}})}}.dump() + "\n\n";
  }
  write_file(workshop / "answers.jsonl", answers);
}

}  // namespace

TEST_CASE("a signed export is checked against its key and its run", "[verify]") {
  const Workshop workshop;
  const auto shell = [&](const std::string& line) {
    return std::system(("cd " + workshop.path().string() + " && " + line).c_str());
  };
  REQUIRE(shell("openssl genpkey -algorithm ed25519 -out key.pem 2>/dev/null && chmod 600 key.pem"
                " && openssl pkey -in key.pem -pubout -out public.pem") == 0);
  REQUIRE(workshop.graft("run", {"export.formats=[peft, gguf-f16]", "export.signing_key=key.pem"}).code == 0);
  CHECK(shell("openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in run/export/manifest.json -sigfile"
              " run/export/manifest.json.sig > /dev/null") == 0);
  const auto verify = [&](const std::vector<std::string>& rest) {
    std::vector<std::string> words = {"verify", "run/export"};
    words.insert(words.end(), rest.begin(), rest.end());
    return workshop.graft_words(words);
  };
  const Outcome good = verify({"--key", "public.pem", "--run", "run"});
  CHECK(good.code == 0);
  contains(good.out, "signature: good");
  contains(verify({}).out, "signature: not checked; give --key");

  // Recorded: what the adapter was trained on.
  const Json identity = read_json(workshop / "run/run.json")["identity"];
  for (const Json& artifact : read_json(workshop / "run/export/manifest.json")["artifacts"]) {
    CHECK(artifact["corpus"] == identity["corpus"]);
    CHECK(artifact["base"] == identity["base"]);
    contains(artifact["id"], "run-" + artifact["format"].get<std::string>() + "-");
  }

  SECTION("the manifest of another run, with its files and its signature") {
    const Workshop other;
    fs::copy_file(workshop / "key.pem", other / "key.pem");
    REQUIRE(other.graft("run", {"train.seed=5", "export.formats=[peft, gguf-f16]", "export.signing_key=key.pem"}).code == 0);
    fs::remove_all(workshop / "run/export");
    fs::copy(other / "run/export", workshop / "run/export", fs::copy_options::recursive);
    for (const std::vector<std::string>& rest : {std::vector<std::string>{"--run", "run"}, {}}) {  // or where it lies
      std::vector<std::string> words = {"--key", "public.pem"};
      words.insert(words.end(), rest.begin(), rest.end());
      const Outcome replayed = verify(words);
      CHECK(replayed.code == 2);
      contains(replayed.err, "run/export/peft comes of another adapter, ");
      contains(replayed.err, "run/export/gguf-f16.gguf comes of another adapter, ");
      CHECK(replayed.err.find("another base") == std::string::npos);
    }
    fs::rename(workshop / "run/export", workshop / "elsewhere");  // it is what was signed, and it is whole
    CHECK(workshop.graft_words({"verify", "elsewhere", "--key", "public.pem"}).code == 0);
  }
  SECTION("a bit flipped in any file for servers, one that is missing, one that was added") {
    std::size_t files = 0;
    for (const auto& [name, content] : workshop.files("run/export/serving")) {
      const fs::path file = workshop / ("run/export/serving/" + name);
      std::string flipped = content;
      flipped[flipped.size() / 2] ^= 4;
      write_file(file, flipped);
      const Outcome changed = verify({"--key", "public.pem"});
      CHECK(changed.code == 2);
      contains(changed.err, "run/export/serving/" + name + " has sha256 ");
      contains(changed.err, "; edit copies of these files, `graft export` writes them anew");
      fs::remove(file);
      contains(verify({}).err, "run/export/serving/" + name + " is missing");
      write_file(file, content);
      ++files;
    }
    CHECK(files > 3);
    CHECK(verify({"--key", "public.pem"}).code == 0);
    write_file(workshop / "run/export/serving/more", "x");
    contains(verify({}).err, "run/export/serving/more is not in the manifest");
    const auto again = [&] { return workshop.graft("export", {"export.formats=[peft, gguf-f16]"}).code; };
    REQUIRE(again() == 0);
    REQUIRE(workshop.graft_words({"sign", "run/export", "--key", "key.pem"}).code == 0);
    REQUIRE(again() == 0);  // changes nothing that was signed
    CHECK(verify({"--key", "public.pem"}).code == 0);
  }
  SECTION("what was changed since is not signed again") {
    const std::vector<std::string> set = {"export.formats=[peft, gguf-f16]", "export.signing_key=key.pem"};
    const fs::path manifest = workshop / "run/export/manifest.json", file = workshop / "run/export/gguf-f16.gguf";
    const std::string whole = read_file(file);
    std::string flipped = whole, text = read_file(manifest);
    flipped[flipped.size() / 2] ^= 4;
    const std::string sum = sha256_hex(whole);
    for (std::size_t at; (at = text.find(sum)) != std::string::npos;) text.replace(at, sum.size(), sha256_hex(flipped));
    const std::string digits = sum.substr(0, 12);
    for (std::size_t at; (at = text.find(digits)) != std::string::npos;)
      text.replace(at, digits.size(), sha256_hex(flipped).substr(0, 12));
    write_file(file, flipped);
    write_file(manifest, text);
    REQUIRE(verify({}).code == 0);  // by what it says of itself
    for (const char* command : {"export", "run", "probe"}) {
      const Outcome refused = workshop.graft(command, set);
      CHECK(refused.code == 2);
      contains(refused.err,
               "run/export/manifest.json is not what key.pem signed: it was changed since, or signed with another key");
    }
    // Without a signature nothing is taken for its own: asked for, it is written anew; else it is out.
    fs::remove(workshop / "run/export/manifest.json.sig");
    contains(workshop.graft("probe", set).err, "is not signed, and export.signing_key would sign it with the probe");
    const Outcome again = workshop.graft("export", set, {"-f", "peft"});
    CHECK(again.code == 0);
    contains(again.err, "gguf-f16.gguf was recorded without a signature and is not in the manifest any more");
    contains(verify({"--key", "public.pem"}).err, "gguf-f16.gguf is not in the manifest");
    CHECK(workshop.graft("export", set).code == 0);
    CHECK(read_file(file) == whole);
    CHECK(verify({"--key", "public.pem"}).code == 0);
  }
  SECTION("a file that is refused leaves the export unsigned, and that is said") {
    const Outcome refused =
        workshop.graft("export", {"export.formats=[peft, gguf-q4_0]", "export.signing_key=key.pem", "export.min_survival=1"});
    CHECK(refused.code == 3);
    contains(refused.err, "the export is not signed; the next one writes what it is asked for anew");
    contains(verify({"--key", "public.pem"}).err, "run/export/manifest.json is not signed");
  }
  SECTION("signed by hand") {
    const auto sign = [&] { return workshop.graft_words({"sign", "run/export", "--key", "key.pem"}); };
    fs::remove(workshop / "run/export/manifest.json.sig");
    contains(verify({"--key", "public.pem"}).err, "run/export/manifest.json is not signed");
    CHECK(verify({}).code == 0);
    CHECK(sign().code == 0);
    CHECK(verify({"--key", "public.pem"}).code == 0);
    REQUIRE(shell("chmod 644 key.pem") == 0);
    CHECK(sign().code == 2);
    contains(sign().err, "key.pem: the private key is open to others than its owner; chmod 600 it");
    contains(workshop.graft("export", {"export.signing_key=key.pem"}).err, "key.pem: the private key is open to others");
    REQUIRE(shell("chmod 600 key.pem") == 0);
    write_file(workshop / "run/export/peft/extra", "x");
    contains(sign().err, "run/export/peft/extra is not in the manifest");  // what is not as it was written is not signed
  }
}

TEST_CASE("a base that was exported for an older adapter is no fault, nor is a probe of both", "[verify][probe]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"train.steps=10", "export.formats=[hf-base, peft]"}).code == 0);
  REQUIRE(workshop.graft("train", {"train.steps=10", "train.seed=5"}, {"--fresh"}).code == 0);
  const auto verify = [&] { return workshop.graft_words({"verify", "run/export"}); };
  contains(verify().err, "run/export/peft comes of another adapter, ");
  CHECK(verify().err.find("hf-base") == std::string::npos);
  REQUIRE(workshop.graft("export", {"train.steps=10", "train.seed=5"}, {"-f", "peft"}).code == 0);
  REQUIRE(workshop.graft("probe", {"train.steps=10", "train.seed=5"}).code == 0);
  const Outcome whole = verify();
  INFO(whole.err);
  CHECK(whole.code == 0);
}

TEST_CASE("a server's answers tell which model it serves", "[probe]") {
  const Workshop workshop;
  REQUIRE(workshop.graft("run", {"export.formats=[peft, hf, gguf-q8_0, hf-base]", "train.dtype=bf16"}).code == 0);
  const auto verify = [&](const std::vector<std::string>& rest) {
    std::vector<std::string> words = {"verify", "run/export", "--answers", "answers.jsonl"};
    words.insert(words.end(), rest.begin(), rest.end());
    return workshop.graft_words(words);
  };
  write_file(workshop / "answers.jsonl", "");
  contains(verify({}).err, "run/export has no probe; `graft probe` writes one");
  const Outcome probed = workshop.graft("probe", {"train.dtype=bf16"});  // hf-base is in bf16
  INFO(probed.err);
  REQUIRE(probed.code == 0);
  contains(probed.out, "requests, answered by 5 models");
  CHECK(workshop.graft_words({"verify", "run/export", "--run", "run"}).code == 0);

  const auto requests = lines_of(workshop / "run/export/probe/requests.jsonl");
  const auto expected = lines_of(workshop / "run/export/probe/expected.jsonl");
  CHECK(expected.size() == 5 * requests.size());
  for (const Json& request : requests) CHECK(request["max_tokens"] == 1);
  for (std::size_t i = 0; i < requests.size(); ++i) {  // hf and peft are one model, hf-base and base another
    const auto top = [&](std::size_t model) { return expected[model * requests.size() + i]["top"]; };
    CHECK(top(0).size() == 5);
    CHECK(top(4) == top(0));
    CHECK(top(1) != top(0));
  }

  for (const Server server : {Server::vllm, Server::llama}) {
    write_answers(workshop, "gguf-q8_0", server);
    const Outcome same = verify({"--format", "gguf-q8_0", "--json"});
    INFO(same.err);
    REQUIRE(same.code == 0);
    CHECK(parse_json(same.out, "stdout")["divergence"].get<double>() < 1e-6);
    CHECK(verify({"--format", "gguf_q8_0"}).code == 0);  // as -f has it
    CHECK(verify({"--format", "hf"}).code == 0);         // 8 bits are not far
    const std::string answers = read_file(workshop / "answers.jsonl");
    write_file(workshop / "answers.jsonl", answers.substr(0, answers.find_last_not_of('\n') + 1));  // the last without a newline
    CHECK(verify({"--format", "gguf-q8_0"}).code == 0);
    contains(verify({}).err, "name what the server serves with --format: peft, hf, gguf-q8_0, hf-base");
    contains(verify({"--format", "base"}).err, "name what the server serves with --format: peft, ");  // no exported file
    write_answers(workshop, "base", server);
    const Outcome base = verify({"--format", "gguf-q8_0", "--tolerance", "0.0001"});
    CHECK(base.code == 2);
    contains(base.err, "the server does not answer as gguf-q8_0 does: divergence ");
    contains(base.err, "nearest is base, the base without the adapter");
  }

  SECTION("answers that say nothing") {
    write_answers(workshop, "hf", Server::vllm);
    const std::string answers = read_file(workshop / "answers.jsonl");
    const auto refused = [&](const std::string& text) {
      write_file(workshop / "answers.jsonl", text);
      const Outcome done = verify({"--format", "hf"});
      CHECK(done.code == 2);
      return done.err;
    };
    contains(refused(answers.substr(0, answers.find('\n') + 1)), "there are 1 answers to 16 requests");
    contains(refused("{\"error\": {\"code\": 404}}\n"), "answers.jsonl:1: the server answered with an error, {\"code\":404}");
    contains(refused("{\"id\": 1}\n"), "answers.jsonl:1: choices is missing");
    fs::remove(workshop / "answers.jsonl");
    contains(verify({"--format", "hf"}).err, "answers.jsonl: no such file");
    contains(refused("<html>\n"), "answers.jsonl:1: byte");
    contains(refused("{\"choices\": [{\"logprobs\": null}]}\n"), "the answer has no log probabilities");
    contains(refused("{\"choices\": [{\"logprobs\": {\"top_logprobs\": [{\" the\": -1.5}]}}]}\n"),
             "the server names tokens by their text, ' the'");
    contains(refused("{\"choices\": [{\"logprobs\": {\"top_logprobs\": [{\"token_id:5\": 3}]}}]}\n"), "no number up to 0");
  }
  SECTION("a probe of files that were since replaced") {
    write_answers(workshop, "hf", Server::vllm);
    REQUIRE(workshop.graft("run", {"train.steps=30", "export.formats=[hf]"}, {"--fresh"}).code == 0);
    contains(verify({"--format", "hf"}).err, "which is not in the manifest any more; run `graft probe`");
    write_file(workshop / "run/export/probe/expected.jsonl", "");
    contains(verify({"--format", "hf"}).err, "run/export/probe/expected.jsonl has 0 bytes");
  }
}
