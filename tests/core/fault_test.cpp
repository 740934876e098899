// Every write, fsync, rename, mkdir and open of core/file.h fails once, in a process of its own: what is visible
// afterwards is the old state or the new one, and the next attempt succeeds.
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/fault.h"

using namespace graft;

namespace {

const std::string kNew(3 << 19, 'n');

// More than the writer's buffer in pieces below it: several calls of write.
void write_new_file(const fs::path& file) {
  FileWriter writer(file);
  for (std::size_t at = 0; at < kNew.size(); at += 1 << 18) writer.write(std::string_view(kNew).substr(at, 1 << 18));
  writer.commit();
}

void write_old_directory(const fs::path& dir) {
  fs::create_directories(dir / "target" / "sub");
  write_file(dir / "target" / "a", "old a");
  write_file(dir / "target" / "sub" / "b", "old b");
  write_file(dir / "target" / "old_only", "old");
}

void write_new_directory(const fs::path& dir) {
  DirectoryWriter writer(dir / "target");
  write_file(writer.path() / "a", "new a");
  graft::create_directories(writer.path() / "sub");
  write_new_file(writer.path() / "sub" / "b");
  writer.commit();
}

// Every file below dir with its content.
std::map<std::string, std::string> snapshot(const fs::path& dir) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(dir))
    if (entry.is_regular_file()) out[fs::relative(entry.path(), dir).string()] = read_file(entry.path());
  return out;
}

struct Scenario {
  std::function<void(const fs::path&)> prepare, act;
};
const std::map<std::string, Scenario> scenarios = {
    {"new_file", {[](const fs::path&) {}, [](const fs::path& dir) { write_new_file(dir / "file"); }}},
    {"replaced_file",
     {[](const fs::path& dir) { write_file(dir / "file", "old"); }, [](const fs::path& dir) { write_new_file(dir / "file"); }}},
    {"new_directory", {[](const fs::path&) {}, write_new_directory}},
    {"replaced_directory", {write_old_directory, write_new_directory}},
    {"new_log", {[](const fs::path&) {}, [](const fs::path& dir) { append_line(dir / "log", "one"); }}},
    {"log",
     {[](const fs::path& dir) { write_file(dir / "log", "one\ntwo\n"); },
      [](const fs::path& dir) { append_line(dir / "log", "three"); }}},
    {"torn_log",
     {[](const fs::path& dir) { write_file(dir / "log", "one\ntwo\nto"); },
      [](const fs::path& dir) { append_line(dir / "log", "three"); }}},
    {"directories", {[](const fs::path&) {}, [](const fs::path& dir) { graft::create_directories(dir / "a/b/c"); }}},
    {"lock", {[](const fs::path&) {}, [](const fs::path& dir) { DirectoryLock lock(dir); }}},
};

// What readers see: logs by their complete lines, lock files not at all.
std::map<std::string, std::string> visible(const fs::path& dir) {
  auto files = snapshot(dir);
  files.erase(".lock");
  if (fs::exists(dir / "log")) {
    std::string lines;
    for (const std::string& line : read_lines(dir / "log")) lines += line + "\n";
    files["log"] = lines;
    if (lines.empty()) files.erase("log");
  }
  return files;
}

fs::path fresh_directory(const std::string& name) {
  const fs::path dir = fs::temp_directory_path() / cat("graft-fault-test-", getpid()) / name;
  fs::remove_all(dir);
  fs::create_directories(dir);
  return dir;
}

}  // namespace

TEST_CASE("fault child", "[.fault-child]") {  // run by the test below
  const char* name = std::getenv("GRAFT_FAULT_SCENARIO");
  if (!name) return;
  const Scenario& scenario = scenarios.at(name);
  int code = 0;
  try {
    scenario.act(std::getenv("GRAFT_FAULT_DIR"));
  } catch (const Error& error) {
    std::cerr << error.what() << std::endl;
    code = error.exit_code();
  } catch (const std::exception& error) {
    std::cerr << "not one of our errors: " << error.what() << std::endl;
    code = 99;
  }
  std::_Exit(code);
}

TEST_CASE("a failing disk leaves the old state or the new one", "[fault]") {
  struct Fault {
    const char* name;
    bool sticky;
    const char* text;  // what the message must say; null: the call is retried or the process dies
  };
  const Fault faults[] = {{"ENOSPC", false, "No space left on device; free space and run again"},
                          {"ENOSPC", true, "No space left on device; free space and run again"},
                          {"EIO", false, "Input/output error; check the disk and run again"},
                          {"EINVAL", false, ""},
                          {"EINTR", false, nullptr},
                          {"SHORT", false, nullptr},
                          {"KILL", false, nullptr}};
  for (const auto& [name, scenario] : scenarios) {
    const fs::path dir = fresh_directory(name);
    const std::string command =
        cat("env GRAFT_FAULT_SCENARIO=", name, " '", fs::read_symlink("/proc/self/exe").string(), "' '[.fault-child]'");
    scenario.prepare(dir);
    const auto old_state = visible(dir);
    const FaultResult clean = run_with_fault(command, dir, 0, "ENOSPC");
    INFO(name << ": " << clean.output);
    REQUIRE(clean.exit_code == 0);
    REQUIRE(clean.calls >= 2);
    if (name == "directories") CHECK(clean.calls == 3 * 2);  // each is made, and its parent synced
    const auto new_state = visible(dir);

    for (const Fault& fault : faults) {
      for (long k = 1; k <= clean.calls; ++k) {
        fs::remove_all(dir);
        fs::create_directories(dir);
        scenario.prepare(dir);
        const FaultResult result = run_with_fault(command, dir, k, fault.name, fault.sticky);
        INFO(name << " " << fault.name << (fault.sticky ? " from " : " at ") << k << ": " << result.exit_code << " "
                  << result.output);
        if (std::string(fault.name) == "KILL") {
          CHECK(result.exit_code == 128 + 9);
        } else if (!fault.text) {
          CHECK(result.exit_code == 0);
        } else if (*fault.text) {
          CHECK(result.exit_code == kMachineFault);
          CHECK(result.output.find(fault.text) != std::string::npos);
          CHECK(result.output.find(dir.string()) != std::string::npos);
        } else {
          CHECK((result.exit_code == 0 || result.exit_code == kMachineFault));
        }
        remove_leftovers(dir);
        const auto state = visible(dir);
        CHECK((state == old_state || state == new_state));
        if (result.exit_code == 0) CHECK(state == new_state);
        scenario.act(dir);  // running again
        CHECK((visible(dir) == new_state || name == "new_log" || name == "log" || name == "torn_log"));
      }
    }
  }
  fs::remove_all(fs::temp_directory_path() / cat("graft-fault-test-", getpid()));
}
