// An export into a directory that holds an older one, with every write, fsync, rename and mkdir failing in turn, and killed at
// random instants and while its gate is asked: each artifact is the old or the new one, whole, and the rerun succeeds.
//
// The calls below replace libc's within this program: graft's libraries are linked into it.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "core/file.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

namespace {

class Faults {
 public:
  // The failing-th call fails; sticky: and all writes after it, as on a full disk.
  void arm(bool sticky = false, int failing = 0) {
    sticky_ = sticky;
    failing_ = failing;
    calls_ = 0;
    armed_ = true;
  }
  void disarm() { armed_ = false; }
  int calls() const { return calls_; }
  bool hit(bool is_write) {  // by any thread
    if (!armed_) return false;
    const int call = ++calls_;
    return failing_ > 0 && (call == failing_ || (sticky_ && is_write && call > failing_));
  }

 private:
  std::atomic<bool> armed_ = false;
  bool sticky_ = false;
  int failing_ = 0;
  std::atomic<int> calls_ = 0;
};
Faults faults;

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}
int fail(int error) {
  errno = error;
  return -1;
}

}  // namespace

extern "C" {
ssize_t write(int descriptor, const void* data, std::size_t size) {
  if (descriptor > 2 && faults.hit(true)) return fail(ENOSPC);
  return next<ssize_t(int, const void*, std::size_t)>("write")(descriptor, data, size);
}
ssize_t pwrite(int descriptor, const void* data, std::size_t size, off_t position) {
  if (faults.hit(true)) return fail(ENOSPC);
  return next<ssize_t(int, const void*, std::size_t, off_t)>("pwrite")(descriptor, data, size, position);
}
int fsync(int descriptor) {
  if (faults.hit(false)) return fail(EIO);
  return next<int(int)>("fsync")(descriptor);
}
int rename(const char* from, const char* to) noexcept {
  if (faults.hit(false)) return fail(EIO);
  return next<int(const char*, const char*)>("rename")(from, to);
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  if (faults.hit(false)) return fail(EIO);
  return next<int(int, const char*, int, const char*, unsigned)>("renameat2")(from_at, from, to_at, to, flags);
}
int mkdir(const char* path, mode_t mode) noexcept {
  if (faults.hit(false)) return fail(ENOSPC);
  return next<int(const char*, mode_t)>("mkdir")(path, mode);
}
}

using namespace graft;
using namespace graft::testing;

namespace {

constexpr const char *kWorkerBase = "GRAFT_TEST_EXPORT_BASE", *kWorkerDirectory = "GRAFT_TEST_EXPORT_DIRECTORY",
                     *kWorkerDies = "GRAFT_TEST_EXPORT_DIES";

std::string hash_of(const fs::path& path) {
  if (!fs::exists(path)) return "absent";
  exports::Artifact artifact;
  artifact.path = path;
  exports::measure(path, artifact);
  return artifact.sha256;
}

// `old`: what an earlier adapter left; `now`: what today's gives.
struct Scene {
  std::vector<std::string> formats, names;
  ScratchDirectory scratch;
  fs::path base = scratch / "base", old_directory = scratch / "old", directory = scratch / "export";
  AnyFormat any{base};
  std::map<std::string, std::string> before, after;

  explicit Scene(std::vector<std::string> of) : formats(std::move(of)) {
    for (const std::string& format : formats) names.push_back(exports::artifact_name(exports::find_exporter(format)));
    exports::export_all(formats, any.request(), scratch / "new");
    after = hashes(scratch / "new");
    any.adapter->parameters.mul_(2);
    exports::export_all(formats, any.request(), old_directory);
    before = hashes(old_directory);
    any.adapter->parameters.mul_(0.5);
  }
  std::map<std::string, std::string> hashes(const fs::path& where) const {
    std::map<std::string, std::string> all;
    for (const std::string& name : names) all[name] = hash_of(where / name);
    return all;
  }
  void reset() {
    fs::remove_all(directory);
    fs::copy(old_directory, directory, fs::copy_options::recursive);
  }
  void check_whole() const {
    for (const std::string& name : names) {
      INFO(name);
      const std::string found = hash_of(directory / name);
      CHECK((found == before.at(name) || found == after.at(name)));
    }
  }
  void check_rerun() const {
    exports::export_all(formats, any.request(), directory);
    CHECK(hashes(directory) == after);
    std::set<std::string> found, expected = {".lock", "manifest.json"};
    for (const fs::directory_entry& entry : fs::directory_iterator(directory)) found.insert(entry.path().filename());
    expected.insert(names.begin(), names.end());
    CHECK(found == expected);
  }
};

// Every call in turn; `modes`: alone, with all writes after it as on a full disk, or one after the other in turns.
enum class Modes { both, in_turns };
void fail_each_call(Scene& scene, Modes modes, int rerun_every, int least_calls) {
  const auto request = scene.any.request();
  scene.reset();
  faults.arm();
  exports::export_all(scene.formats, request, scene.directory);
  const int calls = faults.calls();
  faults.disarm();
  CHECK(calls > least_calls);

  int refused = 0, tried = 0;
  for (const bool sticky : {false, true})
    for (int k = 1; k <= calls; ++k) {
      if (modes == Modes::in_turns && sticky != (k % 2 == 0)) continue;
      ++tried;
      INFO("call " << k << " of " << calls << (sticky ? ", all writes after it too" : ""));
      scene.reset();
      faults.arm(sticky, k);
      std::string message = "nothing was thrown";
      try {
        exports::export_all(scene.formats, request, scene.directory);
      } catch (const MachineError& error) {
        message = error.what();
      }
      faults.disarm();
      scene.check_whole();
      if (message != "nothing was thrown") {
        ++refused;
        CHECK(message.starts_with("cannot "));
        CHECK(message.find(scene.scratch.path().string()) != std::string::npos);
      }
      if (k % rerun_every == 0) scene.check_rerun();
    }
  CHECK(refused >= tried - (modes == Modes::both ? 8 : 4));  // a lock file that cannot note its process is no failure
}

// The worker below on `scene`, once it is about to export.
pid_t spawn(const Scene& scene, int& from_child) {
  ::setenv(kWorkerBase, scene.base.c_str(), 1);
  ::setenv(kWorkerDirectory, scene.directory.c_str(), 1);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  const char* const arguments[] = {"export_test", "[.worker]", nullptr};
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, const_cast<char* const*>(arguments), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  from_child = ends[0];
  char ready = 0;
  do REQUIRE(::read(from_child, &ready, 1) == 1);
  while (ready != '!');
  return child;
}

}  // namespace

TEST_CASE("each failing call of the disk leaves the old artifact or the new one", "[export][faults]") {
  Scene scene({"peft", "hf", "gguf-q8_0"});
  fail_each_call(scene, Modes::both, 5, 50);
}

TEST_CASE("and so it does in every format", "[export][faults]") {
  const ScratchDirectory scratch;
  for (const std::string& format : AnyFormat(scratch / "base").formats()) {
    INFO(format);
    Scene scene({format});
    fail_each_call(scene, Modes::in_turns, 20, 9);
  }
}

TEST_CASE("the killed worker", "[.worker]") {  // run by the next test in a process of its own
  const char *base = std::getenv(kWorkerBase), *directory = std::getenv(kWorkerDirectory);
  if (!base || !directory) return;
  const AnyFormat any{base};
  REQUIRE(::write(1, "!", 1) == 1);
  const char* const dies = std::getenv(kWorkerDies);
  int asked = 0;
  exports::export_all(any.formats(), any.request(), directory, [&](const exports::Artifact&) {
    if (dies != nullptr && ++asked == std::atoi(dies)) ::raise(SIGKILL);
    return true;
  });
}

TEST_CASE("killed while the gate is asked, what was served is still there", "[export][kill]") {
  const ScratchDirectory scratch;
  Scene scene(AnyFormat(scratch / "base").formats());
  const std::size_t all = scene.names.size(), asked = all / 2;
  scene.reset();
  ::setenv(kWorkerDies, std::to_string(asked).c_str(), 1);
  int from_child = -1, status = 0;
  const pid_t child = spawn(scene, from_child);
  ::unsetenv(kWorkerDies);
  REQUIRE(::waitpid(child, &status, 0) == child);
  ::close(from_child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  const auto found = scene.hashes(scene.directory);
  for (std::size_t i = 0; i < all; ++i) {
    INFO(scene.names[i]);
    CHECK(found.at(scene.names[i]) == (i + 1 < asked ? scene.after : scene.before).at(scene.names[i]));
  }
  const exports::Manifest manifest(scene.directory);
  CHECK(manifest.artifacts().size() == all);
  for (const exports::Artifact& artifact : manifest.artifacts()) CHECK(exports::changed_files(artifact).empty());
  scene.check_rerun();
}

TEST_CASE("killed at any instant, the export is old or new and the rerun completes it", "[export][kill]") {
  const ScratchDirectory scratch;
  Scene scene(AnyFormat(scratch / "base").formats());
  using Clock = std::chrono::steady_clock;
  const auto milliseconds = [](auto duration) { return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count(); };

  scene.reset();
  int from_child = -1;
  pid_t child = spawn(scene, from_child);
  const auto start = Clock::now();
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  const auto whole = milliseconds(Clock::now() - start);
  ::close(from_child);
  CHECK(scene.hashes(scene.directory) == scene.after);

  std::mt19937 generator(11);
  for (int i = 0; i < 30; ++i) {
    scene.reset();
    child = spawn(scene, from_child);
    std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<long>(0, whole * 1000)(generator)));
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    ::close(from_child);
    INFO("kill " << i);
    scene.check_whole();
    if (i % 3 == 0) scene.check_rerun();
  }
}
