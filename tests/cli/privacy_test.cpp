// A word of the documents is found in the documents and nowhere else: not in what is printed, nor in any file that is written.
#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

const std::string kSecret = "xylophone-4711";

// Files below `directory` that hold the word.
std::vector<std::string> holders(const fs::path& directory) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && read_file(entry.path()).find(kSecret) != std::string::npos)
      found.push_back(fs::relative(entry.path(), directory).string());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TEST_CASE("what a run writes is its owner's alone, whatever the umask", "[privacy]") {
  const Workshop workshop({}, 40);
  const std::vector<std::string> set = {"train.steps=4", "export.formats=[peft, hf, gguf-f16, gguf-q8_0]",
                                        "export.min_survival=0"};
  for (const char* command : {"run", "eval", "probe"}) {
    INFO(command);
    const Outcome done = run_program(workshop.command(command, set),
                                     {.directory = workshop.path(), .before = {"sh", "-c", "umask 000; exec \"$0\" \"$@\""}});
    INFO(done.err);
    REQUIRE(done.code == 0);
  }
  int files = 0;
  for (const char* top : {"run", "corpus"}) {
    CHECK((fs::status(workshop / top).permissions() & fs::perms::mask) == fs::perms::owner_all);
    for (const auto& entry : fs::recursive_directory_iterator(workshop / top)) {
      INFO(entry.path());
      const fs::perms mode = entry.status().permissions() & fs::perms::mask;
      CHECK(mode == (entry.is_directory() ? fs::perms::owner_all : fs::perms::owner_read | fs::perms::owner_write));
      files += !entry.is_directory();
    }
  }
  CHECK(files > 30);
}

TEST_CASE("no word of a document is in a log, an error or a file of graft's", "[privacy]") {
  const Workshop workshop({}, 40);
  const std::vector<std::string> given = {"docs/chat.jsonl", "docs/secret.html", "docs/secret.md", "docs/secret.txt"};
  for (const std::string& name : given)
    if (!name.ends_with(".jsonl")) write_file(workshop / name, cat(document(7), kSecret, " ", document(8), kSecret));
  std::string chat;
  for (const std::string& content : {"one " + kSecret, kSecret + " two"})
    chat += Json{{"messages",
                  {{{"role", "user"}, {"content", cat("What is a ", kSecret, "?")}},
                   {{"role", "assistant"}, {"content", cat("An instrument: ", content, ".")}}}}}
                .dump() +
            "\n";
  write_file(workshop / "docs/chat.jsonl", chat);
  REQUIRE(holders(workshop.path()) == given);

  const auto check_silent = [&](const Outcome& done) {
    INFO(done.err);
    CHECK(done.err.find(kSecret) == std::string::npos);
    CHECK(done.out.find(kSecret) == std::string::npos);
  };
  // Lines that cannot be used, in every way that there is.
  const std::string text = cat("\"", kSecret, " again\"");
  for (const std::string& line :
       {cat("{\"text\": ", text, ", }"), cat("{\"text\": ", text), cat("{\"other\": ", text, "}"),
        cat("{\"text\": [", text, "]}"), cat("[", text, "]"), text, kSecret, cat("{\"text\": ", text, "\xff}"),
        cat("{\"messages\": [{\"role\": ", text, ", \"content\": ", text, "}]}"),
        cat("{\"messages\": [{\"role\": \"user\", \"content\": [", text, "]}]}"), cat("{\"messages\": ", text, "}")}) {
    INFO(line);
    write_file(workshop / "docs/broken.jsonl", line + "\n");
    check_silent(workshop.graft("prepare", {"corpus.dir=broken"}));
    fs::remove_all(workshop / "broken");
  }
  fs::remove(workshop / "docs/broken.jsonl");

  const std::vector<std::string> set = {"train.steps=4", "corpus.heldout=0.3", "export.formats=[peft, gguf-f16]",
                                        "export.min_survival=0"};
  for (const char* command : {"prepare", "train", "eval", "run", "estimate"}) {
    INFO(command);
    const Outcome done = workshop.graft(command, set);
    INFO(done.err);
    CHECK(done.code == 0);
    check_silent(done);
  }
  CHECK(holders(workshop.path()) == given);
}
