// Training that goes on from another run's adapter, or is refused because that is another kind of adapter.
#include "core/file.h"
#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

Json trained(const Workshop& workshop, std::vector<std::string> set) {
  const Outcome done = workshop.graft("run", set, {"--json"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  return parse_json(done.out, "stdout")["train"];
}

}  // namespace

TEST_CASE("training goes on from another adapter, and what comes of it says from which", "[run][start]") {
  const Workshop workshop;
  const Json first = trained(workshop, {"train.steps=30"});
  const std::string adapter = (workshop / "run/adapter").string();
  const std::vector<std::string> from = {"train.steps=4", "lora.start_from=" + adapter,
                                         cat("run_dir=", (workshop / "next").string()), "export.formats=[peft]"};
  // No step at a rate of zero changes anything: the result is where it began.
  std::vector<std::string> still = from;
  still.insert(still.end(), {"train.learning_rate=0", "export.min_survival=0"});
  trained(workshop, still);
  const auto factors = [](const fs::path& of) { return read_file(of / "adapter_model.safetensors"); };
  CHECK(factors(adapter) == factors(workshop / "next/adapter"));
  fs::remove_all(workshop / "next");

  const Json next = trained(workshop, from);
  CHECK(next["first_loss"] < first["first_loss"].get<double>() - 0.1);
  const std::string sum = sha256_file(adapter + "/adapter_model.safetensors");
  CHECK(read_json(workshop / "next/run.json")["identity"]["lora.start_from"] == sum);
  CHECK(read_json(workshop / "next/export/manifest.json")["artifacts"][0]["started_from"] == sum);
  CHECK(run_program({"verify", (workshop / "next/export").string()}).code == 0);

  // The adapter may be moved, and not be another.
  fs::rename(adapter, workshop / "moved");
  std::vector<std::string> moved = from;
  moved[1] = "lora.start_from=" + (workshop / "moved").string();
  CHECK(trained(workshop, moved)["already_done"] == true);
  fs::copy(workshop / "next/adapter", workshop / "another");
  moved[1] = "lora.start_from=" + (workshop / "another").string();
  const Outcome other = workshop.graft("run", moved);
  CHECK(other.code == 2);
  CHECK(other.err.find("lora.start_from: " + sum.substr(0, 20)) != std::string::npos);
}

TEST_CASE("an adapter of another kind is no beginning, and that is said before anything is done", "[run][start]") {
  const Workshop workshop;
  trained(workshop, {"train.steps=2", "export.formats=[]"});
  const std::string adapter = (workshop / "run/adapter").string();
  const auto refused = [&](std::vector<std::string> set) {
    set.push_back(cat("run_dir=", (workshop / "next").string()));
    const Outcome outcome = workshop.graft("run", set);
    CHECK(outcome.code == 2);
    CHECK(!fs::exists(workshop / "next"));
    return outcome.err;
  };
  const std::string there = "lora.start_from=" + adapter;
  const std::string rank = refused({there, "lora.rank=2", "lora.alpha=1", "lora.target_modules=[q_proj]"});
  INFO(rank);
  CHECK(rank.find("lora.rank: ") != std::string::npos);
  CHECK(rank.find(" there, 2 here") != std::string::npos);
  CHECK(rank.find("scale (lora.alpha, lora.rslora): ") != std::string::npos);
  CHECK(rank.find("lora.target_modules: no place here for ") != std::string::npos);
  CHECK(refused({"lora.start_from=/nowhere"}).find("there is no adapter at /nowhere; name a PEFT directory") !=
        std::string::npos);
}
