#include "train/identity.h"

#include "core/error.h"
#include "model/compute_type.h"
#include "tests/support/catch.h"
#include "train/dtypes.h"

namespace graft::train {
namespace {

const IdentityParts kParts = {.base = "b", .tokenizer = "t", .corpus = "c", .threads = 2, .storage = "bf16", .compute = "f32"};

}  // namespace

TEST_CASE("what decides the bits is in the identity, where things lie and how often they are saved is not", "[train]") {
  const RunConfig config;
  const Json identity = run_identity(config, kParts);
  RunConfig same = config;
  same.run_dir = "elsewhere";
  same.train.checkpoint_every = 7;
  same.train.checkpoint_minutes = 1;
  same.train.keep_checkpoints = 9;
  same.train.eval_every = 3;
  same.eval.max_tokens = 10;
  same.export_.formats = {"hf"};
  CHECK(differences(identity, run_identity(same, kParts)).empty());

  CHECK_FALSE(identity.contains("train.z_loss"));  // runs begun before it existed go on
  RunConfig other = config;
  other.lora.rank = 8;
  other.train.label_smoothing = 0.1;
  other.lora.target_modules = {"q_proj"};
  other.train.learning_rate = 0.5;
  other.train.seed = 1;
  IdentityParts parts = kParts;
  parts.threads = 1;
  parts.device = "simt";
  CHECK(differences(identity, run_identity(other, parts)) ==
        std::vector<std::string>{"device: cpu then, simt now", "lora.rank: 16 then, 8 now",
                                 "lora.target_modules: [\"all-linear\"] then, [\"q_proj\"] now", "threads: 2 then, 1 now",
                                 "train.label_smoothing: nothing then, 0.1 now", "train.learning_rate: 0.0002 then, 0.5 now",
                                 "train.seed: 0 then, 1 now"});
}

TEST_CASE("an adapter to start from is part of the identity by what it is, not by where it lies", "[train]") {
  RunConfig config;
  const Json without = run_identity(config, kParts);
  CHECK(!without.contains("lora.start_from"));
  config.lora.start_from = "a/adapter";
  IdentityParts parts = kParts;
  parts.started_from = "0123";
  const Json with = run_identity(config, parts);
  config.lora.start_from = "b/adapter";
  CHECK(differences(with, run_identity(config, parts)).empty());
  CHECK(differences(without, with) == std::vector<std::string>{"lora.start_from: nothing then, 0123 now"});
}

TEST_CASE("merge-aware training is part of the identity where there is any", "[train][merge_aware]") {
  RunConfig config;
  const Json without = run_identity(config, kParts);
  for (const auto& [key, value] : without.items()) CHECK(!key.starts_with("train.merge_aware"));
  config.train.merge_aware.share = 0.7;
  CHECK(differences(without, run_identity(config, kParts)).empty());
  config.train.merge_aware.format = "gguf-q4_0";
  CHECK(differences(without, run_identity(config, kParts)) ==
        std::vector<std::string>{"train.merge_aware.format: nothing then, gguf-q4_0 now",
                                 "train.merge_aware.share: nothing then, 0.7 now"});
  IdentityParts parts = kParts, others = kParts;
  parts.calibration_rows = 8;
  others.calibration_rows = 16;
  CHECK(differences(run_identity(config, parts), run_identity(config, others)) ==
        std::vector<std::string>{"export.calibration.rows: 8 then, 16 now"});
}

TEST_CASE("a run goes on in the types that it began in", "[train]") {
  TrainConfig config;
  const auto computes = [&](const std::optional<Pins>& began) { return dtypes_of(config, began).compute; };
  CHECK(computes(std::nullopt) == model::fastest_compute_type());
  for (const char* type : {"bf16", "f32"})
    CHECK(model::name_of(computes(Pins{{{"compute_dtype", type}}, {}})) == std::string(type));
  CHECK_THROWS_AS(computes(Pins{Json::object(), {}}), FormatError);
  CHECK(dtypes_of(config, Pins{{{"compute_dtype", "f32"}}, {}}).storage == at::kBFloat16);
  config.dtype = "fp32";
  CHECK(dtypes_of(config, std::nullopt).storage == at::kFloat);
  CHECK(computes(Pins{{{"compute_dtype", "bf16"}}, {}}) == at::kFloat);
  config.dtype = "bf16";
  CHECK(computes(Pins{{{"compute_dtype", "f32"}}, {}}) == at::kBFloat16);
}

TEST_CASE("an identity survives its file", "[train]") {
  RunConfig config;
  config.train.learning_rate = 1.0 / 3;
  const Json identity = run_identity(config, kParts);
  CHECK(parse_json(identity.dump(2), "run.json") == identity);
  CHECK(differences(Json{{"old", 1}}, Json{{"new", "x"}}) ==
        std::vector<std::string>{"new: nothing then, x now", "old: 1 then, nothing now"});
}

}  // namespace graft::train
