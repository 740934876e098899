// `graft bench` on a tiny base: what it prints, not how fast it is.
#include "core/json.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

Json bench(const Workshop& workshop, std::vector<std::string> words, const std::string& precision = "full") {
  words.insert(words.end(), {"--json", "--repeat", "1"});
  const Outcome done =
      workshop.graft("bench", {"train.rows=3", "train.micro_rows=2", "train.base_precision=" + precision}, words);
  INFO(done.err);
  REQUIRE(done.code == 0);
  return parse_json(done.out, "stdout");
}

}  // namespace

TEST_CASE("bench step times the rows of one optimizer step, from the corpus or made up", "[bench]") {
  const Workshop workshop;
  const Json made_up = bench(workshop, {"step", "--document", "8", "--profile"});  // there is no corpus yet
  const Json config = parse_json(workshop.graft("inspect", {}, {"--json"}).out, "stdout")["config"];
  const auto length = config["train"]["length"].get<std::int64_t>();
  CHECK(made_up["tokens"] == 3 * length);
  CHECK(made_up["documents"] == 3 * length / 8);
  CHECK(made_up["trained_tokens"] == 3 * length - 3 * length / 8);
  CHECK(made_up["tokens_per_second"] > 0);
  CHECK(made_up["operators"].size() > 3);
  const double step = made_up["step"]["wall_seconds"], share = made_up["share_of_floor"];
  double floor = 0;
  for (const auto& [name, cost] : made_up["floor"].items()) floor += cost["wall_seconds"].get<double>();
  CHECK(share == Approx(floor / step));
  CHECK(made_up["memory"]["peak"] > made_up["memory"]["weights"]);
  CHECK(made_up["base_precision"] == "full");
  for (const std::string precision : {"int8", "nf4"}) {
    const Json coded = bench(workshop, {"step", "--document", "8"}, precision);
    CHECK(coded["base_precision"] == precision);
    CHECK(coded["memory"]["weights"] < made_up["memory"]["weights"]);
  }

  REQUIRE(workshop.graft("prepare", {}, {}).code == 0);
  const Json real = bench(workshop, {"step"});
  CHECK(real["documents"] > 0);
  CHECK(real["tokens"] <= 3 * length);
  CHECK_FALSE(fs::exists(workshop / "run"));
}

TEST_CASE("bench step of a device has no floor, which would be the processor's", "[bench][device]") {
  const Workshop workshop({.head_dim = 64, .bf16_values = true});
  const Outcome done =
      workshop.graft("bench", {"device=simt", "train.length=16"}, {"step", "--json", "--repeat", "1", "--document", "8"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  const Json step = parse_json(done.out, "stdout");
  CHECK((step["floor"].is_null() && step["share_of_floor"].is_null()));
  CHECK(step["tokens_per_second"].get<double>() > 0);
}

TEST_CASE("bench ops lists every kernel with its bound", "[bench]") {
  const Workshop workshop;
  const Json out = bench(workshop, {"ops"});
  CHECK(out["copy_bytes_per_second"] > 0);
  CHECK(out["ops"].size() == 17);
  for (const Json& op : out["ops"]) {
    INFO(op.dump());
    CHECK(op["seconds"] > 0);
    CHECK(op["bound_seconds"] > 0);
    CHECK((op["bytes"] > 0) != (op["flops"] > 0));
  }
}
