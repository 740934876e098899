#include "train/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/files.h"

namespace graft::train {
namespace {

using testing::message_of;
using testing::TempDir;

// Adapters of the fake decoder with parameters, m and v that tell the step they belong to.
struct Fixture {
  testing::FakeDecoder decoder;
  std::unique_ptr<lora::AdapterSet> set = lora::create({.rank = 2, .alpha = 4, .target_modules = {"*"}}, decoder, 1);
  Parameters parameters{*set, at::zeros_like(set->parameters), at::zeros_like(set->parameters)};
  Json identity = {{"train.rows", 4}, {"base", "abc"}};
  TempDir dir;
  Checkpoints checkpoints{dir / "checkpoints", identity};

  TrainState at_step(std::int64_t step) {
    fill(step);
    TrainState state;
    state.step = step;
    state.updates = step - 1;
    state.tokens = 1000 * step;
    state.last_loss = 1.0 / 3;
    state.cursor = {~std::uint64_t{0}, 2, 7};
    state.logs = {10, 20, 30};
    return state;
  }
  void fill(std::int64_t step) {
    const at::Tensor base = at::arange(set->count(), at::kFloat).add(static_cast<double>(step)).div(3);
    set->parameters.copy_(base);
    parameters.m.copy_(base * 2);
    parameters.v.copy_(base * 3);
  }
  void spoil() {
    for (auto& t : {set->parameters, parameters.m, parameters.v}) t.fill_(-1);
  }
  bool holds(std::int64_t step) {
    const at::Tensor p = set->parameters.clone(), m = parameters.m.clone(), v = parameters.v.clone();
    fill(step);
    return p.equal(set->parameters) && m.equal(parameters.m) && v.equal(parameters.v);
  }
  std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(dir / "checkpoints")) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  }
};

void flip(const fs::path& file, std::size_t bit) {
  std::string bytes = read_file(file);
  bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("a checkpoint gives back every counter and every bit", "[train]") {
  Fixture f;
  CHECK(f.checkpoints.empty());
  CHECK_FALSE(f.checkpoints.load_newest(f.parameters));
  CHECK(f.checkpoints.save(f.at_step(40), f.parameters) == f.dir / "checkpoints/step-00000040");
  f.spoil();
  const auto state = f.checkpoints.load_newest(f.parameters);
  REQUIRE(state);
  CHECK(f.holds(40));
  CHECK(state->step == 40);
  CHECK(state->updates == 39);
  CHECK(state->tokens == 40000);
  CHECK(state->evaluated == -1);
  CHECK(state->last_loss == 1.0 / 3);
  CHECK(state->cursor == data::Cursor{~std::uint64_t{0}, 2, 7});
  CHECK(state->logs.events == 30);
}

TEST_CASE("a checkpoint's sums are in the format of sha256sum", "[train]") {
  Fixture f;
  const auto path = f.checkpoints.save(f.at_step(1), f.parameters);
  CHECK(std::system(("cd '" + path.string() + "' && sha256sum --check --quiet SHA256SUMS").c_str()) == 0);
}

TEST_CASE("a damaged newest checkpoint is set aside and the one before is used", "[train]") {
  for (const char* file : {"adapter.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"}) {
    for (int way = 0; way < 4; ++way) {
      CAPTURE(file, way);
      Fixture f;
      f.checkpoints.save(f.at_step(10), f.parameters);
      f.checkpoints.save(f.at_step(20), f.parameters);
      const fs::path victim = f.dir / "checkpoints/step-00000020" / file;
      const auto size = fs::file_size(victim);
      if (way == 0) fs::resize_file(victim, size / 2);
      if (way == 1) fs::resize_file(victim, 0);
      if (way == 2) fs::remove(victim);
      if (way == 3) flip(victim, size * 4);
      f.spoil();
      const auto state = f.checkpoints.load_newest(f.parameters);
      REQUIRE(state);
      CHECK(state->step == 10);
      CHECK(f.holds(10));
      CHECK(f.names() == std::vector<std::string>{"damaged-step-00000020", "step-00000010"});
    }
  }
}

TEST_CASE("no flipped bit of a checkpoint goes unnoticed", "[train]") {
  Fixture f;
  const auto path = f.checkpoints.save(f.at_step(10), f.parameters);
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string good = read_file(entry.path());
    for (std::size_t bit = 3; bit < good.size() * 8; bit += 97) {
      flip(entry.path(), bit);
      f.spoil();
      CHECK_THROWS_AS(f.checkpoints.load_newest(f.parameters), DataError);
      CHECK(f.parameters.m.eq(-1).all().item<bool>());  // nothing was half loaded
      std::ofstream(entry.path(), std::ios::binary) << good;
    }
  }
  CHECK(f.checkpoints.load_newest(f.parameters));
}

TEST_CASE("counters that cannot be are damage, whatever the sums say", "[train]") {
  for (const auto& [key, value] : {std::pair{"step", 1000000}, {"step", -1}, {"updates", -5}, {"updates", 1000000}}) {
    Fixture f;
    f.checkpoints.save(f.at_step(10), f.parameters);
    f.checkpoints.save(f.at_step(20), f.parameters);
    const fs::path newest = f.dir / "checkpoints/step-00000020";
    Json json = read_json(newest / "state.json");
    json["state"][key] = value;
    write_file(newest / "state.json", json.dump());
    std::string sums = read_file(newest / "SHA256SUMS");
    const std::size_t at = sums.find("  state.json") - 64;
    write_file(newest / "SHA256SUMS", sums.replace(at, 64, sha256_file(newest / "state.json")));
    INFO(key << " " << value);
    CHECK(f.checkpoints.load_newest(f.parameters)->step == 10);
  }
}

TEST_CASE("when all checkpoints are damaged nothing is used or removed", "[train]") {
  Fixture f;
  f.checkpoints.save(f.at_step(10), f.parameters);
  fs::resize_file(f.dir / "checkpoints/step-00000010/state.json", 3);
  const auto text = message_of<DataError>([&] { f.checkpoints.load_newest(f.parameters); });
  CHECK(text.find("none of the 1 checkpoints in") != std::string::npos);
  CHECK(text.find("--fresh") != std::string::npos);
  CHECK(f.names() == std::vector<std::string>{"step-00000010"});
}

TEST_CASE("a checkpoint of another run is not loaded", "[train]") {
  Fixture f;
  f.checkpoints.save(f.at_step(10), f.parameters);
  Checkpoints other(f.dir / "checkpoints", {{"train.rows", 8}, {"base", "abc"}});
  f.checkpoints.save(f.at_step(20), f.parameters);
  other.save(f.at_step(30), f.parameters);
  CHECK(message_of<DataError>([&] { f.checkpoints.load_newest(f.parameters); }) ==
        (f.dir / "checkpoints/step-00000030 belongs to another run; begin anew with --fresh, or name another run_dir").string());
  CHECK(message_of<DataError>([&] { other.load_newest(f.parameters); }).empty());
  CHECK(f.names() == std::vector<std::string>{"step-00000010", "step-00000020", "step-00000030"});  // none is set aside
}

TEST_CASE("values that are not finite are never saved", "[train]") {
  Fixture f;
  f.checkpoints.save(f.at_step(10), f.parameters);
  for (int which = 0; which < 3; ++which) {
    auto state = f.at_step(20);
    (which == 0 ? f.set->parameters : which == 1 ? f.parameters.m : f.parameters.v)[3] = which == 1 ? INFINITY : NAN;
    const auto text = message_of<MachineError>([&] { f.checkpoints.save(state, f.parameters); });
    CHECK(text.find("after step 20 the adapter or the optimizer holds values that are not finite") == 0);
    CHECK(text.find("step-00000010") != std::string::npos);
  }
  CHECK(f.names() == std::vector<std::string>{"step-00000010"});
}

TEST_CASE("pruning keeps the newest and never trusts a damaged one", "[train]") {
  Fixture f;
  for (const int step : {5, 100000000, 30, 20}) f.checkpoints.save(f.at_step(step), f.parameters);
  f.checkpoints.prune(3);
  CHECK(f.names() == std::vector<std::string>{"step-00000020", "step-00000030", "step-100000000"});
  fs::resize_file(f.dir / "checkpoints/step-100000000/adapter.safetensors", 7);
  f.checkpoints.prune(1);  // warns
  CHECK(f.names().size() == 3);
  fs::remove_all(f.dir / "checkpoints/step-100000000");
  f.checkpoints.prune(1);
  CHECK(f.names() == std::vector<std::string>{"step-00000030"});
  f.checkpoints.prune(1);
  CHECK(f.names().size() == 1);
  fs::create_directories(f.dir / "checkpoints/removed-step-00000001");  // of a pruning that was killed
  f.checkpoints.load_newest(f.parameters);
  CHECK(f.names() == std::vector<std::string>{"step-00000030"});
}

}  // namespace graft::train
