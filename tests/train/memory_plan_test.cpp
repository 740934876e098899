#include "train/memory_plan.h"

#include <fstream>

#include "core/error.h"
#include "kernels/lora_linear/lora_linear.h"
#include "tests/support/catch.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/files.h"

namespace graft::train {

using testing::message_of;
using testing::TempDir;

TEST_CASE("available memory is the smaller of the machine's and the control group's", "[train]") {
  TempDir dir;
  const auto available = [&] { return available_memory(dir / "proc", dir / "cgroup"); };
  graft::create_directories(dir / "proc");
  graft::create_directories(dir / "cgroup");
  CHECK(available() == 0);
  write_file(dir / "proc/meminfo", "MemTotal:  900 kB\nMemFree:  1 kB\nMemAvailable:     800 kB\nBuffers: 2 kB\n");
  CHECK(available() == 800 << 10);
  write_file(dir / "cgroup/memory.max", "max\n");
  CHECK(available() == 800 << 10);
  write_file(dir / "cgroup/memory.max", "500000\n");
  write_file(dir / "cgroup/memory.current", "300000\n");
  write_file(dir / "cgroup/memory.stat", "anon 100\nactive_file 5\ninactive_file 50000\n");
  CHECK(available() == 250000);
  write_file(dir / "cgroup/memory.current", "900000\n");
  CHECK(available() == 0);
  CHECK(available_memory() > 1 << 20);  // of this machine
}

TEST_CASE("a limit of the process's own control group, or of one above it, counts", "[train]") {
  TempDir dir;
  const auto available = [&] { return available_memory(dir / "proc", dir / "cgroup"); };
  graft::create_directories(dir / "proc/self");
  graft::create_directories(dir / "cgroup/system.slice/graft.service");
  write_file(dir / "proc/meminfo", "MemAvailable: 800 kB\n");
  write_file(dir / "proc/self/cgroup", "1:name=systemd:/elsewhere\n0::/system.slice/graft.service\n");
  CHECK(available() == 800 << 10);
  write_file(dir / "cgroup/system.slice/memory.max", "600000\n");
  CHECK(available() == 600000);
  write_file(dir / "cgroup/system.slice/graft.service/memory.max", "500000\n");
  write_file(dir / "cgroup/system.slice/graft.service/memory.current", "100000\n");
  CHECK(available() == 400000);
  write_file(dir / "proc/self/cgroup", "0::/../../system.slice\n");  // of another namespace: nothing to look up
  CHECK(available() == 800 << 10);
  write_file(dir / "proc/self/cgroup", "0::/\n");
  CHECK(available() == 800 << 10);
}

TEST_CASE("a run that cannot fit is refused with its largest part and the key to change", "[train]") {
  testing::FakeDecoder decoder;
  RunConfig config;
  config.train.micro_rows = 4;
  config.train.rows = 8;
  config.train.length = 1000;
  MemoryPlan plan = plan_run(config, decoder.spec(), at::kBFloat16, 1 << 20, 100, std::uint64_t{8} << 30);
  CHECK_NOTHROW(plan.check());
  CHECK(plan.text().find("optimizer") != std::string::npos);
  CHECK(plan.json()["total"] == plan.total());
  for (const auto& item : plan.items)
    if (item.name == "optimizer") CHECK(item.bytes == 8 << 20);

  plan.items[2].bytes = std::uint64_t{9} << 30;
  REQUIRE(plan.items[2].name == "activations");
  const auto text = message_of<MachineError>([&] { plan.check(); });
  CHECK(text.find("8.00 GiB are available; the largest part is activations with 9.00 GiB: lower train.micro_rows") !=
        std::string::npos);
  plan.available = 0;  // unknown
  CHECK_NOTHROW(plan.check());
}

TEST_CASE("windows of an evaluation that are longer than a step are planned, rows that a step has not are not", "[train]") {
  testing::FakeDecoder decoder;
  RunConfig config;
  const auto plan = [&] { return plan_run(config, decoder.spec(), at::kFloat, 1, 1, 1 << 20); };
  const std::uint64_t step = plan().items[2].bytes;
  config.train.micro_rows = 8;
  config.train.rows = 1;
  CHECK(plan().items[2].bytes == step);
  config.eval.length = 1 << 20;
  const MemoryPlan longer = plan();
  CHECK(longer.items[2].bytes ==
        static_cast<std::uint64_t>(model::evaluation_bytes(decoder.spec(), at::kFloat, model::BasePrecision::full, 1 << 20)));
  CHECK(longer.items[2].advice == "lower eval.length");
  // Of one layer, whatever their number.
  model::ModelSpec deep = decoder.spec();
  deep.layers.resize(100 * deep.layers.size(), deep.layers[0]);
  CHECK(plan_run(config, deep, at::kFloat, 1, 1, 0).items[2].bytes == longer.items[2].bytes);
  CHECK(plan_scores(config, deep, at::kFloat, 0).items[2].bytes == longer.items[2].bytes);
}

TEST_CASE("adapters' S are planned for every linear of the layers that are alive", "[train]") {
  testing::FakeDecoder decoder;
  RunConfig config;
  const auto layers = static_cast<std::uint64_t>(decoder.spec().layers.size());
  const auto bytes = [&](std::int64_t rank) {
    config.lora.rank = rank;
    return plan_run(config, decoder.spec(), at::kBFloat16, 1, 1, 0).items[2].bytes;
  };
  const auto tokens = static_cast<std::uint64_t>(config.train.micro_rows * config.train.length);
  CHECK(bytes(64) - bytes(32) == tokens * layers * 7 * 32 * 2);
  const auto stride = [](std::int64_t rank) {  // with AMX rows of S are whole tiles
    return static_cast<std::uint64_t>(kernels::low_rank_stride(rank, at::kBFloat16));
  };
  CHECK(bytes(24) - bytes(16) == tokens * layers * 7 * (stride(24) - stride(16)) * 2);
  config.train.recompute = "layers";
  CHECK(bytes(64) - bytes(32) == tokens * 7 * 32 * 2);
}

TEST_CASE("what merge-aware training needs to round is planned", "[train][merge_aware]") {
  testing::FakeDecoder decoder;
  RunConfig config;
  const std::uint64_t without = plan_run(config, decoder.spec(), at::kBFloat16, 1, 1, 0).total();
  config.train.merge_aware.format = "gguf-q4_0";
  const MemoryPlan plan = plan_run(config, decoder.spec(), at::kBFloat16, 1, 1, 0);
  CHECK(plan.items.back().name == "rounding");
  CHECK(plan.items.back().bytes >= 61 * 8 * 10);  // the embedding as stored, in f32 and merged
  CHECK(plan.total() == without + plan.items.back().bytes);
}

TEST_CASE("a disk without room for the checkpoints is refused before training", "[train]") {
  CHECK_NOTHROW(check_disk(fs::temp_directory_path(), 1000, 3));
  const auto text = message_of<MachineError>([] { check_disk(fs::temp_directory_path(), std::int64_t{1} << 50, 2); });
  CHECK(text.find("for 2 checkpoints and the adapter") != std::string::npos);
  CHECK(text.find("train.keep_checkpoints") != std::string::npos);

  CHECK(existing_part(fs::temp_directory_path() / "graft-not/yet") == fs::temp_directory_path());
  CHECK_THROWS_AS(check_disk(fs::temp_directory_path() / "graft-not/yet", std::int64_t{1} << 50, 2), MachineError);

  // What lies there already is no room that is missing: a run that was killed near the end of the disk goes on.
  TempDir run;
  graft::create_directories(run / "checkpoints/step-00000001");
  const std::uint64_t free = fs::space(run.path).available;
  const auto parameters = static_cast<std::int64_t>(free / (4 * 7) + (1u << 24));  // with one kept: a little more than is free
  CHECK_THROWS_AS(check_disk(run.path, parameters, 1), MachineError);
  std::ofstream(run / "checkpoints/step-00000001/parameters").close();
  fs::resize_file(run / "checkpoints/step-00000001/parameters", free);  // sparse: takes no room
  CHECK_NOTHROW(check_disk(run.path, parameters, 1));
}

}  // namespace graft::train
