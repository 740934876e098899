// The append-only logs and TensorBoard's events, byte by byte.
#include <cstdlib>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/fault.h"
#include "tests/support/files.h"
#include "train/append_log.h"
#include "train/events.h"
#include "train/metrics.h"

namespace graft::train {

using testing::TempDir;

TEST_CASE("crc32c gives the check values of RFC 3720, appendix B.4", "[train]") {
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending += c;
  CHECK(crc32c(ascending) == 0x46dd794eu);
  CHECK(crc32c("123456789") == 0xe3069283u);
}

TEST_CASE("event records are the bytes that TensorBoard writes", "[train]") {
  const double t = 1760000000.25;
  const std::int64_t far = std::int64_t{1} << 40;
  const std::string ours = version_record(t) + scalars_record(t, 0, {{"heldout/bits_per_byte", 1.25f}}) +
                           scalars_record(t + 1, 1, {{"train/loss", 2.5f}, {"train/learning_rate", 1e-4f}}) +
                           scalars_record(t + 300, 300, {{"train/loss", std::numeric_limits<float>::quiet_NaN()}}) +
                           scalars_record(t + static_cast<double>(far), far, {{std::string(200, 'a'), -0.0f}});
  CHECK(ours == read_file(std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/golden/train/events.bin"));
}

TEST_CASE("a log is cut back to the position of a checkpoint and goes on from there", "[train]") {
  TempDir dir;
  std::uint64_t kept = 0;
  {
    AppendLog log(dir / "log", 0);
    log.append("one\n");
    kept = log.position();
    log.append("two\nthr");
    log.sync();
  }
  {
    AppendLog log(dir / "log", kept);
    log.append("2\n");
    CHECK(log.position() == 6);
  }
  CHECK(read_file(dir / "log") == "one\n2\n");
  AppendLog shorter(dir / "log", 100);  // warns; keeps what there is
  CHECK(shorter.position() == 6);
  CHECK_THROWS_AS(AppendLog(dir / "none/log", 0), MachineError);
}

TEST_CASE("log child", "[.log-child]") {  // run by the test below
  if (const char* dir = std::getenv("GRAFT_FAULT_DIR")) AppendLog(fs::path(dir) / "log", 0);
}

TEST_CASE("a new log's name is durable, an old one's was", "[train]") {
  const TempDir dir;
  const std::string command = cat("'", fs::read_symlink("/proc/self/exe").string(), "' '[.log-child]'");
  const FaultResult made = run_with_fault(command, dir.path, 0, "EIO");
  INFO(made.output);
  CHECK(made.exit_code == 0);
  CHECK(made.calls == 3);  // opened, the directory synced, cut
  write_file(dir / "log", "one\n");
  CHECK(run_with_fault(command, dir.path, 0, "EIO").calls == 2);
  fs::remove(dir / "log");
  const FaultResult failed = run_with_fault(command, dir.path, 2, "EIO");
  CHECK(failed.exit_code != 0);
  CHECK(failed.output.find("cannot write") != std::string::npos);
}

TEST_CASE("the loss log holds no wall-clock time and its numbers read back exactly", "[train]") {
  TempDir a, b;
  const StepRecord record{.step = 3,
                          .loss = 1.0 / 3,
                          .learning_rate = 2e-4,
                          .gradient_norm = 0.1,
                          .tokens = 64,
                          .skipped = "",
                          .tokens_per_second = 12,
                          .seconds = 1};
  StepRecord slower = record;
  slower.tokens_per_second = 7;
  slower.seconds = 99;
  for (auto [dir, r] : {std::pair{&a, record}, {&b, slower}}) {
    Metrics metrics(dir->path, {});
    metrics.step(r);
    StepRecord bad = r;
    bad.loss = std::numeric_limits<double>::quiet_NaN();
    bad.skipped = "the loss is not finite";
    metrics.step(bad);
    const auto end = metrics.sync();
    CHECK(end.loss == fs::file_size(*dir / "loss.jsonl"));
    CHECK(end.events == fs::file_size(*dir / "tensorboard/events.out.tfevents.graft"));
  }
  const std::string log = read_file(a / "loss.jsonl");
  CHECK(log == read_file(b / "loss.jsonl"));
  CHECK(log ==
        "{\"step\":3,\"loss\":0.3333333333333333,\"learning_rate\":0.0002,\"gradient_norm\":0.1,\"tokens\":64}\n"
        "{\"step\":3,\"loss\":null,\"learning_rate\":0.0002,\"gradient_norm\":0.1,\"tokens\":64,\"skipped\":\"the loss is not "
        "finite\"}\n");
  CHECK(read_lines(a / "metrics.jsonl").size() == 2);
  const Json line = parse_json(read_lines(a / "metrics.jsonl")[0], "metrics.jsonl");
  CHECK(line["loss"].get<double>() == 1.0 / 3);
  CHECK(line["tokens_per_second"] == 12);
  CHECK(line.contains("time"));
}

}  // namespace graft::train
