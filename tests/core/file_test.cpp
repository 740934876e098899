#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "core/error.h"
#include "core/following_sum.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

// An empty directory that goes away with its test.
struct Scratch {
  fs::path path = fs::temp_directory_path() / cat("graft-file-test-", getpid());
  Scratch() {
    fs::remove_all(path);
    fs::create_directory(path);
  }
  ~Scratch() { fs::remove_all(path); }
  fs::path operator/(const char* name) const { return path / name; }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
};

// Runs `act` in another process and returns its exit code.
template <class F>
int in_child(F act) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 99;
    try {
      code = act();
    } catch (...) {
    }
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("SHA-256 of the standard's examples", "[file]") {  // FIPS 180-4
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 hash;
  for (int i = 0; i < 1000; ++i) hash.update(std::string(1000, 'a'));
  CHECK(hash.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a file appears whole at commit", "[file]") {
  const Scratch dir;
  const fs::path file = dir / "x";
  write_file(file, "old");
  {
    FileWriter writer(file);
    writer.write("ab");
    CHECK(writer.position() == 2);
    writer.pad_to(8);
    CHECK(writer.position() == 8);
    writer.pad_to(8);
    CHECK(writer.position() == 8);
    const std::string large(5 << 20, 'z');
    writer.write(large);
    writer.write("end");
    CHECK(read_file(file) == "old");
    const std::string hash = writer.commit();
    const std::string expected = std::string("ab\0\0\0\0\0\0", 8) + large + "end";
    CHECK(read_file(file) == expected);
    CHECK(hash == sha256_hex(expected));
    CHECK(hash == sha256_file(file));
  }
  CHECK(dir.entries() == 1);
  {
    FileWriter writer(file);
    writer.write("lost");
  }
  CHECK(dir.entries() == 1);
  CHECK(read_file(file).size() > 4);
}

TEST_CASE("pieces of a file are written in any order by several threads", "[file]") {
  const Scratch dir;
  constexpr std::size_t kTail = 300'000;
  std::string expected = "head";
  for (std::size_t i = 0; i < (3 << 20); ++i) expected += static_cast<char>('a' + i * 2654435761u % 23);
  const std::size_t end = expected.size();
  expected.append(kTail, '\0');  // never written
  {
    FileWriter writer(dir / "x");
    writer.write("head");
    writer.extend(expected.size());
    const auto every_second = [&](std::size_t first) {  // small pieces and such as go to the file at once
      constexpr std::size_t sizes[] = {1, 777, 300'000, 4096};
      std::vector<std::pair<std::size_t, std::size_t>> pieces;
      for (std::size_t at = 4, k = 0; at < end; at += sizes[k++ % 4]) pieces.emplace_back(at, std::min(sizes[k % 4], end - at));
      for (std::size_t k = pieces.size(); k-- > 0;)
        if (k % 2 == first) writer.write_at(pieces[k].first, expected.data() + pieces[k].first, pieces[k].second);
    };
    std::thread other(every_second, 1);
    every_second(0);
    other.join();
    CHECK(!fs::exists(dir / "x"));
    CHECK(writer.commit() == sha256_hex(expected));
  }
  CHECK(read_file(dir / "x") == expected);
  CHECK(dir.entries() == 1);
}

TEST_CASE("a sum follows a file, and says when it was cut off", "[file]") {
  const Scratch dir;
  write_file(dir / "x", "abcdef");
  {
    FollowingSum sum(dir / "x", "x");
    sum.written(4, 6);
    sum.written(2, 2);  // nothing, and not in the way of what begins there
    CHECK(sum.complete() == 0);
    sum.written(0, 2);
    CHECK(sum.complete() == 2);
    sum.written(2, 4);
    CHECK(sum.complete() == 6);
    CHECK(sum.finish(6) == sha256_hex("abcdef"));
  }
  CHECK(FollowingSum(dir / "x", "x").finish(3) == sha256_hex("abc"));
  CHECK(FollowingSum(dir / "x", "x").finish(0) == sha256_hex(""));
  FollowingSum cut(dir / "x", "the name");
  CHECK_THROWS_WITH(cut.finish(7), "cannot read the name: Input/output error; check the disk and run again");
  FollowingSum given_up(dir / "x", "x");  // its end does not wait for more
  given_up.written(0, 1);
}

TEST_CASE("what is written without a gap is summed before the file is committed", "[file]") {
  const Scratch dir;
  constexpr std::size_t kLarge = 1 << 18, kSmall = 96, kPieces = 4;  // codes go to the file at once, scales are collected
  const std::string expected(4 + kPieces * (kLarge + kSmall), 'x');
  FileWriter writer(dir / "x");
  writer.write("xxxx");
  writer.extend(expected.size());
  CHECK(writer.complete() == 4);
  const auto piece = [&](std::size_t k) {
    const std::size_t codes = 4 + k * kLarge, scales = 4 + kPieces * kLarge + k * kSmall;
    writer.write_at(codes, expected.data() + codes, kLarge);
    writer.write_at(scales, expected.data() + scales, kSmall);
  };
  piece(1);
  CHECK(writer.complete() == 4);
  piece(0);
  CHECK(writer.complete() == 4 + 2 * kLarge);
  piece(3);
  piece(2);
  CHECK(writer.complete() >= 4 + kPieces * kLarge + 2 * kSmall);  // the last scales are in the buffer
  CHECK(writer.commit() == sha256_hex(expected));
}

TEST_CASE("two writers of one file do not mix", "[file]") {
  const Scratch dir;
  FileWriter first(dir / "x"), second(dir / "x");
  first.write("first");
  second.write("second");
  first.commit();
  CHECK(read_file(dir / "x") == "first");
  second.commit();
  CHECK(read_file(dir / "x") == "second");
}

TEST_CASE("modes follow the umask", "[file]") {
  const Scratch dir;
  const mode_t before = umask(077);
  write_file(dir / "x", "secret");
  DirectoryWriter writer(dir / "d");
  write_file(writer.path() / "y", "secret");
  writer.commit();
  append_line(dir / "log", "secret");
  umask(before);
  struct stat status;
  for (const char* name : {"x", "d/y", "log"}) {
    REQUIRE(stat((dir / name).c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
  }
  REQUIRE(stat((dir / "d").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
}

TEST_CASE("reading what is missing, too large or no file", "[file]") {
  const Scratch dir;
  write_file(dir / "x", "12345");
  CHECK(read_file(dir / "x", 5) == "12345");
  CHECK_THROWS_WITH(read_file(dir / "x", 4), (dir / "x").string() + " has 5 bytes or more; at most 4 are accepted here");
  CHECK_THROWS_AS(read_file(dir / "x", 4), FormatError);
  CHECK_THROWS_AS(read_file("/dev/zero", 100), UserError);
  CHECK_THROWS_WITH(read_file(dir / "y"), "cannot open " + (dir / "y").string() + ": No such file or directory");
  CHECK_THROWS_WITH(read_file(dir.path), dir.path.string() + " is not a regular file");
  REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(read_file(dir / "pipe"), (dir / "pipe").string() + " is not a regular file");
  CHECK(read_file("/proc/self/status").starts_with("Name:"));  // a file that claims to have no bytes
  write_file(dir / "empty", "");
  CHECK(read_file(dir / "empty").empty());
  CHECK(MappedFile(dir / "empty").bytes().empty());
  const MappedFile map(dir / "x");
  CHECK(map.bytes().size() == 5);
  CHECK(map.bytes()[4] == std::byte{'5'});
}

TEST_CASE("writing where one cannot", "[file]") {
  const Scratch dir;
  CHECK(message_of([&] { write_file(dir / "no/x", ""); }) ==
        "cannot write " + (dir / "no/x").string() + ": No such file or directory; create the directory first");
  CHECK_THROWS_AS(write_file(dir / "no/x", ""), MachineError);
  fs::create_directory(dir / "d");
  CHECK(message_of([&] { write_file(dir / "d", ""); }) == "cannot write " + (dir / "d").string() + ": it is a directory");
  write_file(dir / "x", "");
  CHECK(message_of([&] { DirectoryWriter writer(dir / "x"); }) ==
        "cannot write the directory " + (dir / "x").string() + ": a file of that name exists");
  for (const char* below : {"x", "x/y"})
    CHECK(message_of([&] { graft::create_directories(dir / below); }).starts_with("cannot create "));
  for (const char* bad : {"", ".", "..", "/", "a/.."}) CHECK_THROWS_AS(DirectoryWriter(bad), UserError);
}

TEST_CASE("a directory appears whole at commit", "[file]") {
  const Scratch dir;
  {
    DirectoryWriter writer(dir / "deep/run/");
    write_file(writer.path() / "a", "1");
    CHECK_FALSE(fs::exists(dir / "deep/run"));
    writer.commit();
  }
  CHECK(read_file(dir / "deep/run/a") == "1");
  {
    DirectoryWriter writer(dir / "deep/run");
    write_file(writer.path() / "b", "2");
    CHECK(fs::exists(dir / "deep/run/a"));
    writer.commit();
  }
  CHECK_FALSE(fs::exists(dir / "deep/run/a"));
  CHECK(read_file(dir / "deep/run/b") == "2");
  { DirectoryWriter writer(dir / "deep/run"); }
  CHECK(read_file(dir / "deep/run/b") == "2");
  CHECK(std::distance(fs::directory_iterator(dir / "deep"), fs::directory_iterator()) == 1);
}

TEST_CASE("lines are appended whole", "[file]") {
  const Scratch dir;
  const fs::path log = dir / "log";
  CHECK(read_lines(log).empty());
  append_line(log, "one");
  append_line(log, "");
  append_line(log, std::string(10000, 'x'));
  CHECK(read_lines(log) == std::vector<std::string>{"one", "", std::string(10000, 'x')});
  const std::string whole = read_file(log);
  for (const std::string& torn : {std::string("t"), std::string(9000, 't')}) {
    write_file(log, whole + torn);
    CHECK(read_lines(log).size() == 3);
    append_line(log, "next");
    CHECK(read_file(log) == whole + "next\n");
  }
  write_file(log, std::string(5000, 't'));  // torn from its first byte
  append_line(log, "first");
  CHECK(read_file(log) == "first\n");
}

TEST_CASE("leftovers of killed writers are removed, nothing else is", "[file]") {
  const Scratch dir;
  for (const char* name : {".x.tmp-12-0", ".a.b.tmp-999999-3", ".keep", ".tmp-1-2", "x.tmp-12-0", ".x.tmp-12", ".x.tmp-a-0",
                           ".x.bak-1-0", ".y.old-7-0"})
    write_file(dir / name, "y");
  fs::create_directories(dir / ".d.tmp-5-1/sub");
  write_file(dir / ".d.tmp-5-1/sub/file", "");
  remove_leftovers(dir.path);
  for (const char* gone : {".x.tmp-12-0", ".a.b.tmp-999999-3", ".d.tmp-5-1", ".y.old-7-0"}) CHECK_FALSE(fs::exists(dir / gone));
  for (const char* kept : {".keep", ".tmp-1-2", "x.tmp-12-0", ".x.tmp-12", ".x.tmp-a-0", ".x.bak-1-0"})
    CHECK(fs::exists(dir / kept));
  CHECK(read_file(dir / "y") == "y");  // the old version of something that was being replaced comes back
  write_file(dir / ".y.old-8-0", "older");
  remove_leftovers(dir.path);
  CHECK(read_file(dir / "y") == "y");
  CHECK_FALSE(fs::exists(dir / ".y.old-8-0"));
  remove_leftovers(dir / "missing");
}

TEST_CASE("a killed writer's leftover is recognised", "[file]") {
  const Scratch dir;
  const int code = in_child([&]() -> int {
    FileWriter writer(dir / "x");
    DirectoryWriter directory(dir / "d");
    raise(SIGKILL);
    return 0;
  });
  CHECK(code == 128 + SIGKILL);
  CHECK(dir.entries() == 2);
  remove_leftovers(dir.path);
  CHECK(dir.entries() == 0);
}

TEST_CASE("a directory is locked once, until its process dies", "[file]") {
  const Scratch dir;
  {
    const DirectoryLock lock(dir.path);
    const std::string expected = cat(dir.path.string(), " is in use by process ", getpid(), "; wait for it to end");
    CHECK(message_of([&] { DirectoryLock again(dir.path); }) == expected);
    CHECK(in_child([&] { return message_of([&] { DirectoryLock again(dir.path); }) == expected ? 0 : 1; }) == 0);
  }
  { const DirectoryLock lock(dir.path); }
  CHECK(in_child([&]() -> int {
          const DirectoryLock lock(dir.path);
          raise(SIGKILL);
          return 0;
        }) == 128 + SIGKILL);
  const DirectoryLock lock(dir.path);
}

TEST_CASE("names out of files stay inside their directory", "[file]") {
  CHECK(inside("/m", "a.safetensors") == "/m/a.safetensors");
  CHECK(inside("/m", "sub/a") == "/m/sub/a");
  CHECK(inside("/m", "..a") == "/m/..a");
  for (const char* bad : {"", ".", "..", "../a", "a/../../b", "/etc/passwd", "a/..", "./a", "a/", "a\\..\\b", "//x"}) {
    INFO(bad);
    CHECK_THROWS_WITH(inside("/m", bad), cat("/m: the name ", quote(bad), " leads outside of this directory"));
  }
  CHECK_THROWS_AS(inside("/m", std::string_view("a\0b", 3)), FormatError);
}

TEST_CASE("links may not lead out of a directory either", "[file][hostile]") {
  const Scratch dir;
  const fs::path model = dir / "model";
  fs::create_directories(model / "sub");
  write_file(dir / "secret", "x");
  write_file(model / "sub/file", "x");
  fs::create_symlink("sub/file", model / "near");
  fs::create_symlink("../secret", model / "far");
  fs::create_symlink("/etc/passwd", model / "absolute");
  fs::create_directory_symlink("..", model / "up");
  fs::create_symlink("loop", model / "loop");
  CHECK(inside(model, "near") == model / "near");
  fs::create_directory_symlink("model", dir / "alias");  // the directory itself may be reached by a link
  CHECK(inside(dir / "alias", "near") == dir / "alias" / "near");
  const std::string target = fs::canonical(dir.path / "secret").string();
  for (const char* name : {"far", "up/secret"})
    CHECK_THROWS_WITH(inside(model, name), cat(model.string(), ": ", quote(name), " is a link to ", target,
                                               ", outside of this directory; put the file itself here"));
  CHECK_THROWS_WITH(inside(model, "absolute"), cat(model.string(), ": 'absolute' is a link to /etc/passwd, outside of this ",
                                                   "directory; put the file itself here"));
  CHECK_THROWS_AS(inside(model, "loop"), FormatError);

  // A snapshot of the Hugging Face cache: its files are links to the blobs beside it, and to nothing else.
  const fs::path cache = dir / "models--x", snapshot = cache / "snapshots/0a1b";
  fs::create_directories(snapshot);
  fs::create_directories(cache / "blobs");
  write_file(cache / "blobs/9f", "x");
  write_file(cache / "other", "x");
  fs::create_symlink("../../blobs/9f", snapshot / "config.json");
  fs::create_symlink("../../other", snapshot / "other");
  CHECK(inside(snapshot, "config.json") == snapshot / "config.json");
  CHECK_THROWS_AS(inside(snapshot, "other"), FormatError);
}
