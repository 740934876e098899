// Help, errors of the command line, exit codes and streams, as a person or a script meets them.
#include <sstream>

#include "core/config_reader.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"
#include "train/config.h"

using namespace graft;
using namespace graft::testing;

namespace {

// As `graft --help` lists them.
std::vector<std::string> commands() {
  const std::string top = run_program({"--help"}).out;
  std::istringstream lines(top.substr(std::min(top.size(), top.find("\nSubcommands:\n") + 14)));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line) && line.starts_with("  ");)
    names.push_back(line.substr(2, line.find(' ', 2) - 2));
  return names;
}

// Every path of the config as `graft help config` writes it.
void collect(const ConfigSection& fields, const std::string& prefix, std::vector<std::string>& out) {
  for (const ConfigField& field : fields) {
    out.push_back(prefix + field.name);
    CHECK(field.help.size() > 3);
    if (const auto* section = std::get_if<ConfigSection>(&field.value)) collect(*section, prefix + field.name + ".", out);
    if (const auto* list = std::get_if<ConfigList>(&field.value)) collect(list->prototype, prefix + field.name + "[].", out);
  }
}

std::string refused(const std::vector<std::string>& words) {
  const Outcome done = run_program(words);
  CHECK(done.code == 2);
  CHECK(done.out.empty());
  CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  return done.err;
}

}  // namespace

TEST_CASE("each command explains itself", "[help]") {
  const Outcome top = run_program({"--help"});
  CHECK(top.code == 0);
  CHECK(top.err.empty());
  const std::vector<std::string> names = commands();
  REQUIRE(names.size() == static_cast<std::size_t>(std::distance(
                              fs::directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "cli/commands"), fs::directory_iterator())));
  CHECK((names.front() == "run" && names.at(1) == "prepare" && names.back() == "help"));  // as one meets them
  for (const std::string& name : names) {
    INFO(name);
    const Outcome help = run_program({name, "--help"});
    CHECK(help.code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("graft " + name) != std::string::npos);
    CHECK(help.out.find("Example") != std::string::npos);
    CHECK(run_program({"help", name}).out == help.out);
    if (name == "help") continue;
    CHECK(help.out.find("Reads ") != std::string::npos);
    CHECK(help.out.find("Writes ") != std::string::npos);
    CHECK(help.out.find("--json") != std::string::npos);
    CHECK((help.out.find("--set KEY=VALUE") != std::string::npos) == (help.out.find("-c,--config") != std::string::npos));
  }
  CHECK(run_program({"help"}).out == top.out);
  CHECK(run_program({"--version"}).out == "graft " GRAFT_VERSION "\n");
  const Outcome nothing = run_program({});
  CHECK(nothing.code == 2);
  CHECK(nothing.err == top.out);
}

TEST_CASE("every exit code is in the list and below --help", "[help]") {
  const std::string list = "\n" + run_program({"help", "exit-codes"}).out, top = run_program({"--help"}).out;
  const std::size_t footer = top.find("Exit codes: ");
  REQUIRE(footer != std::string::npos);
  for (const std::string code : {"0", "2", "3", "4", "75", "129", "130", "143"}) {
    INFO(code);
    CHECK((list.find("\n" + code + " ") != std::string::npos || list.find("; " + code + ": ") != std::string::npos));
    CHECK(top.find(code, footer) != std::string::npos);
  }
}

TEST_CASE("no line of help is wider than a terminal of 132 columns", "[help]") {
  for (const std::string& name : commands()) {
    const std::string text = run_program({name, "--help"}).out;
    for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      INFO(text.substr(at, end - at));
      CHECK(end - at <= 132);
    }
  }
}

TEST_CASE("help config documents every key with its default and range", "[help]") {
  const std::string text = run_program({"help", "config"}).out;
  train::RunConfig config;
  std::vector<std::string> paths;
  collect(describe(config), "", paths);
  CHECK(paths.size() > 50);
  for (const std::string& path : paths) {
    INFO(path);
    CHECK(text.find("\n" + path + " ") != std::string::npos);
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(line.size() <= 132);
  }
  CHECK(text.find("1099511627776") == std::string::npos);  // a bound that only we need
  CHECK(text.find("1 to 1024") != std::string::npos);      // lora.rank
  const std::string formats = run_program({"help", "formats"}).out;
  for (const char* name : {"peft", "hf", "gguf-f16", "gguf-bf16", "gguf-q8_0", "gguf-lora"}) {
    INFO(name << "\n" << formats);
    CHECK(formats.find(cat("\n  ", name, " ")) != std::string::npos);
  }
  const std::string scores = run_program({"help", "scores"}).out;
  for (const char* column :
       {"bits per byte", "against base", "gain kept", "quantized base", "update kept", "KL to merged", "perplexity"}) {
    INFO(column << "\n" << scores);
    CHECK(scores.find(cat("\n", column, " ")) != std::string::npos);
  }
}

TEST_CASE("help formats is a page, by who reads them, and leaves none out", "[help]") {
  const std::string text = run_program({"help", "formats"}).out;
  CHECK(std::count(text.begin(), text.end(), '\n') < 60);
  std::map<std::string, std::string> sections;  // by title
  std::string title;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(line.size() <= 130);
    if (!line.starts_with(" ")) title = line;
    sections[title] += line + "\n";
  }
  const auto section = [&](const std::string& reader) {
    for (const auto& [name, body] : sections)
      if (name.find(reader) != std::string::npos) return body;
    return std::string();
  };
  for (const char* reader : {"vLLM", "Triton", "TensorRT-LLM", "llama.cpp", "Ollama", "transformers"}) {
    INFO(reader << "\n" << text);
    CHECK(!section(reader).empty());
  }
  CHECK(section("llama.cpp") == section("Ollama"));
  CHECK(section("vLLM").find("ct-w4a16-gN[-gptq]") != std::string::npos);
  CHECK(section("TensorRT-LLM").find("ct-w4a16") == std::string::npos);
  CHECK(section("llama.cpp").find("gguf-q4_k_m[-imatrix]") != std::string::npos);
  CHECK(section("llama.cpp").find("ct-") == std::string::npos);

  const Json list = parse_json(run_program({"help", "formats", "--json"}).out, "stdout")["formats"];
  CHECK(list.size() > 50);
  for (const Json& format : list) {
    std::string name = format["name"];
    INFO(name << "\n" << text);
    CHECK(!format["readers"].empty());
    std::string endings;
    for (bool more = format["calibrates"]; more;) {
      more = false;
      for (const std::string ending : {"-gptq", "-awq", "-smooth", "-static", "-imatrix"})
        if (name.ends_with(ending)) {
          endings = ending + endings;
          name.resize(name.size() - ending.size());
          more = true;
          break;
        }
    }
    for (const char* group : {"-g32", "-g64", "-g128"})
      if (name.ends_with(group)) name.replace(name.rfind("-g") + 2, std::string::npos, "N");
    const std::size_t plain = text.find("\n  " + name + " "), with = text.find("\n  " + name + "[");
    CHECK(std::min(plain, with) != std::string::npos);
    if (endings.empty()) continue;
    REQUIRE(with != std::string::npos);
    const std::string label = text.substr(with, text.find(']', with) - with) + "|";
    CHECK((label.find("[" + endings + "|") != std::string::npos || label.find("|" + endings + "|") != std::string::npos));
  }
}

TEST_CASE("what is not understood is answered with the nearest thing", "[help]") {
  CHECK(refused({"trian"}) == "graft: unknown command 'trian'; did you mean 'train'? See `graft --help`\n");
  CHECK(refused({"frobnicate"}) == "graft: unknown command 'frobnicate'; see `graft --help`\n");
  CHECK(refused({"train", "--resum", "-c", "x"}) ==
        "graft: unknown option '--resum'; did you mean '--resume'? See `graft train --help`\n");
  CHECK(refused({"eval", "--modle=x"}) == "graft: unknown option '--modle'; did you mean '--model'? See `graft eval --help`\n");
  CHECK(refused({"run", "a.yaml", "b.yaml"}).find("unexpected argument 'b.yaml'") != std::string::npos);
  CHECK(refused({"train", "--fresh", "--resume"}).find("--fresh") != std::string::npos);
  CHECK(refused({"generate", "-n", "many", "hello"}).find("--max-tokens") != std::string::npos);
  CHECK(refused({"generate", "-n", "0", "hello"}).find("--max-tokens") != std::string::npos);
  CHECK(refused({"generate", "--system", "x", "hello"}).find("--chat") != std::string::npos);
  CHECK(refused({"inspect", "x", "--length", "8"}).find("--batches") != std::string::npos);
  CHECK(refused({"inspect"}).find("give either a PATH to look into or a config") != std::string::npos);
  CHECK(refused({"help", "confg"}) == "graft: no help on 'confg'; did you mean 'config'?\n");
  CHECK(refused({"--hlep"}).find("--help") != std::string::npos);
  CHECK(refused({"-c", "run.yaml"}).find("graft --help") != std::string::npos);
  CHECK(refused({"train", "-c"}).find("--config") != std::string::npos);
  CHECK(refused({""}).find("unknown command ''") != std::string::npos);
  CHECK(refused({"tr\x1b[31main"}).find("\x1b") == std::string::npos);  // no escapes of others on the terminal
}

TEST_CASE("results that cannot be written are the machine's fault", "[help]") {
  Process process({"help", "config"}, {.before = {"sh", "-c", "\"$0\" \"$@\" > /dev/full"}});
  const Outcome full = process.finish();
  CHECK(full.code == 4);
  CHECK(full.err == "graft: cannot write the result to standard output\n");
}

TEST_CASE("the program has no function of the network linked in", "[help][network]") {
  const fs::path build = fs::path(GRAFT_PROGRAM).parent_path();
  const std::string script = "nm -D --undefined-only '" + (build / "graft").string() + "' '" +
                             (build / "libgraft_core.so").string() + "' '" + (build / "libgraft_engine.so").string() + "'";
  const Outcome names = run_program({}, {.before = {"sh", "-c", script}});
  REQUIRE(names.code == 0);
  CHECK(names.out.find(" U write@") != std::string::npos);  // so that the check below can fail
  for (const char* name : {"socket", "connect", "bind", "listen", "accept", "accept4", "send", "sendto", "sendmsg", "recv",
                           "recvfrom", "recvmsg", "getaddrinfo", "gethostbyname"}) {
    INFO(name);
    CHECK(names.out.find(cat(" U ", name, "@")) == std::string::npos);
  }
}

TEST_CASE("the program makes no network calls", "[help][network]") {
  if (run_program({}, {.before = {"sh", "-c", "exec strace -V"}}).code != 0) {
    WARN("strace is not here: the check was left out");
    return;
  }
  const Workshop workshop;
  const std::string log = (workshop / "calls").string();
  const std::string make_key = "openssl genpkey -algorithm ed25519 -out key.pem && chmod 600 key.pem";
  REQUIRE(run_program({}, {.directory = workshop.path(), .before = {"sh", "-c", make_key}}).code == 0);
  const std::vector<std::string> set = {"train.steps=2", "export.formats=[hf]"};
  for (const auto& words : {workshop.command("doctor", set), workshop.command("estimate", set), workshop.command("run", set),
                            workshop.command("eval", set), workshop.command("generate", set, {"hello"}),
                            workshop.command("export", set, {"-f", "gguf-f16"}), workshop.command("probe", set),
                            std::vector<std::string>{"sign", "run/export", "--key", "key.pem"},
                            std::vector<std::string>{"verify", "run/export"}, std::vector<std::string>{"inspect", "corpus"}}) {
    INFO(words[0]);
    Process process(words, {.directory = workshop.path(),
                            .before = {"strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-o", log}});
    const Outcome done = process.finish();
    INFO(done.err);
    CHECK(done.code == 0);
    // The one exception: NVIDIA's CUPTI, which LibTorch links, asks libc for the user's name when it is loaded, and libc asks a
    // local name service first.
    std::istringstream calls(read_file(log));
    for (std::string call; std::getline(calls, call);) {
      INFO(call);
      CHECK((call.find("socket(AF_UNIX, ") != std::string::npos ||
             call.find("sun_path=\"/var/run/nscd/socket\"") != std::string::npos));
    }
  }
}
