// Errors, element types, half precision, numbers for people, log lines, signals.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "core/dtype.h"
#include "core/error.h"
#include "core/file.h"
#include "core/half.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "core/stop.h"
#include "core/utf8.h"
#include "core/wrap.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace graft;

namespace {

struct Ended {
  int status;
  std::string errors;  // what it wrote to stderr
};
template <class F>
Ended in_child(F act) {
  int ends[2];
  if (pipe(ends) != 0) return {-1, ""};
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    _exit(act());
  }
  close(ends[1]);
  Ended out{0, ""};
  char buffer[4096];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) out.errors.append(buffer, static_cast<std::size_t>(got));
  close(ends[0]);
  waitpid(child, &out.status, 0);
  return out;
}

}  // namespace

TEST_CASE("errors carry their exit code", "[basics]") {
  CHECK(ConfigError("x").exit_code() == 2);
  CHECK(DataError("x").exit_code() == 2);
  CHECK(FormatError("x").exit_code() == 2);
  CHECK(UnsupportedError("x").exit_code() == 2);
  CHECK(MachineError("x").exit_code() == 4);
  CHECK(Interrupted(SIGTERM).exit_code() == 143);
  CHECK(cat("rank ", 16, " of ", 1.5) == "rank 16 of 1.5");
}

TEST_CASE("a mapped file that was cut short ends the program with its name", "[basics]") {
  const testing::TempDir directory;
  const fs::path file = directory.path / "weights";
  write_file(file, std::string(3 << 12, 'x'));
  const Ended ended = in_child([&] {
    install_signal_handlers();
    const MappedFile whole(file), other(file);
    CHECK(std::string_view(mapped_file_at(&whole.bytes()[5000])) == file.string());
    fs::resize_file(file, 1 << 12);
    return static_cast<int>(other.bytes()[2 << 12]);
  });
  CHECK(WEXITSTATUS(ended.status) == 4);
  CHECK(ended.errors == "\ngraft: cannot read " + file.string() +
                            ": the disk failed, or the file was cut short while it was in use; checkpoints and sealed documents "
                            "are as they were\n");
  int nowhere = 0;
  CHECK(mapped_file_at(&nowhere) == nullptr);
}

TEST_CASE("names from files are shown without harm", "[basics]") {
  CHECK(quote("a.b") == "'a.b'");
  CHECK(quote("é✓𝄞") == "'é✓𝄞'");
  CHECK(quote("\x1b[2J\n\x7f") == "'\\x1b[2J\\x0a\\x7f'");
  CHECK(quote("a\xff\xc3") == "'a\\xff\\xc3'");
  CHECK(quote("\xc2\x9b") == "'\\xc2\\x9b'");  // a control character of eight bits
  CHECK(quote(std::string(200, 'x')) == "'" + std::string(80, 'x') + "...'");
}

TEST_CASE("UTF-8 is what the standard says", "[basics]") {
  for (const char* good : {"", "a", "é", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(is_utf8(good));
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9d\x84", "\xc3("})
    CHECK_FALSE(is_utf8(bad));
}

TEST_CASE("element types", "[basics]") {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto type = static_cast<DType>(i);
    CHECK(dtype_from_name(name_of(type)) == type);
  }
  CHECK(size_of(DType::bf16) == 2);
  CHECK(size_of(DType::f8_e4m3) == 1);
  CHECK(size_of(DType::i64) == 8);
  CHECK_THROWS_WITH(dtype_from_name("f32"), "unknown element type 'f32'");
}

TEST_CASE("every half is itself after the way to f32 and back", "[basics]") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f32_from_f16(half);
    if (std::isnan(value)) {
      CHECK((f16_from_f32(value) & 0x7FFF) == 0x7E00);
      CHECK(std::isnan(f32_from_bf16(bf16_from_f32(value))));
      continue;
    }
    REQUIRE(f16_from_f32(value) == half);
    // The definition, in double: (-1)^s 2^(e-15) (1 + m/1024), subnormals without the 1.
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    double expected = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) expected = std::numeric_limits<double>::infinity();
    REQUIRE(value == (half >> 15 ? -expected : expected));
    const float wide = f32_from_bf16(half);
    if (!std::isnan(wide)) REQUIRE(bf16_from_f32(wide) == half);
  }
}

TEST_CASE("every byte of e4m3 has the value of its definition", "[basics]") {
  for (int byte = 0; byte < 256; ++byte) {
    const float value = f32_from_e4m3(static_cast<std::uint8_t>(byte));
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    if (exponent == 15 && mantissa == 7) {
      CHECK(std::isnan(value));
      continue;
    }
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    CHECK(value == (byte >> 7 ? -size : size));
    CHECK(std::signbit(value) == (byte >> 7 == 1));
  }
}

TEST_CASE("halves are rounded to nearest, ties to even", "[basics]") {
  for (std::uint32_t bits = 0; bits < 0x7BFF; bits += 7) {  // between neighbours, up to the largest finite one
    const float low = f32_from_f16(static_cast<std::uint16_t>(bits)), high = f32_from_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    CHECK(f16_from_f32(middle) == (bits % 2 == 0 ? bits : bits + 1));
    CHECK(f16_from_f32(std::nextafter(middle, 0.f)) == bits);
    CHECK(f16_from_f32(std::nextafter(middle, 1e9f)) == bits + 1);
  }
  CHECK(f16_from_f32(65519.f) == 0x7BFF);
  CHECK(f16_from_f32(65520.f) == 0x7C00);
  CHECK(f16_from_f32(-1e-30f) == 0x8000);
  CHECK(bf16_from_f32(1.00390625f) == 0x3F80);  // a tie, to even
  CHECK(bf16_from_f32(1.01171875f) == 0x3F82);
}

TEST_CASE("numbers for people", "[basics]") {
  CHECK(human_count(0) == "0");
  CHECK(human_count(512) == "512");
  CHECK(human_count(999.6) == "1.00 k");
  CHECK(human_count(6900) == "6.90 k");
  CHECK(human_count(1.77e6) == "1.77 M");
  CHECK(human_count(123456) == "123 k");
  CHECK(human_count(2.345) == "2.35");
  CHECK(human_bytes(812.0 * 1024 * 1024) == "812 MiB");
  CHECK(human_bytes(1.2 * 1024 * 1024 * 1024) == "1.20 GiB");
  CHECK(human_bytes(10) == "10 B");
  CHECK(human_time(7) == "0:07");
  CHECK(human_time(3723) == "1:02:03");
  CHECK(human_time(-1) == "?");
}

TEST_CASE("log lines go to stderr with level and module", "[basics]") {
  const Ended ended = in_child([] {
    log::info("prepare", "read ", 3, " documents");
    log::set_level(log::Level::warn);
    log::info("prepare", "hidden");
    log::warn("x", "name \x1b[2J");
    return 0;
  });
  CHECK(ended.errors == "[prepare] read 3 documents\n[x] warning: name ?[2J\n");
}

TEST_CASE("progress elsewhere than on a terminal is a plain line", "[basics]") {
  const Ended ended = in_child([] {
    Progress progress("train", 100, "steps");
    for (std::uint64_t i = 0; i <= 100; ++i) progress.update(i, "loss 2.31");
    progress.finish();
    progress.finish();
    { Progress unused("nothing", 5, "files"); }
    return 0;
  });
  CHECK(ended.errors.starts_with("train: 100 of 100 steps, "));
  CHECK(ended.errors.find(", took 0:00, loss 2.31\n") == ended.errors.size() - 23);
}

TEST_CASE("the first signal asks, the second ends", "[basics]") {
  const Ended once = in_child([] {
    install_signal_handlers();
    if (stop_requested() != 0) return 1;
    throw_if_stopped();
    raise(SIGTERM);
    if (stop_requested() != SIGTERM) return 2;
    try {
      throw_if_stopped();
    } catch (const Interrupted& stopped) {
      return stopped.exit_code();
    }
    return 3;
  });
  CHECK(WEXITSTATUS(once.status) == 143);
  const Ended twice = in_child([] {
    install_signal_handlers();
    raise(SIGTERM);
    raise(SIGINT);
    return 1;
  });
  CHECK(WEXITSTATUS(twice.status) == 130);
}

TEST_CASE("peak memory is of what was touched, freed or not", "[basics]") {
  constexpr std::uint64_t kBytes = 256 << 20;
  const Ended child = in_child([] {  // which begins with little
    const std::uint64_t before = peak_memory();
    {
      std::vector<char> touched(kBytes, 1);
      asm volatile("" : : "r"(touched.data()) : "memory");  // which an optimizer could leave out
    }
    const std::uint64_t after = peak_memory();
    return before > 0 && after >= before + kBytes * 9 / 10 && after < before + 2 * kBytes && peak_memory() >= after ? 0 : 1;
  });
  CHECK(child.status == 0);
}

TEST_CASE("help in two columns", "[basics]") {
  CHECK(in_column("ab", 4, "one two", 20) == "ab  one two\n");
  CHECK(in_column("ab", 4, "one two three", 11) == "ab  one two\n    three\n");
  CHECK(in_column("abcd", 4, "one", 11) == "abcd\n    one\n");
  CHECK(in_column("ab", 4, "longer-than-that x", 11) == "ab  longer-than-that\n    x\n");
  CHECK(in_column("ab", 4, "") == "ab  \n");
}
