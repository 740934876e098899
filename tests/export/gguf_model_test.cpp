// Merged GGUF files against those of llama.cpp's own converter on the same model, merged by PEFT (tests/golden/export/make.py).
#include <cstring>
#include <set>

#include "core/gguf.h"
#include "export/gguf_model.h"
#include "export/merge.h"
#include "model/rotary_rows.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using namespace graft::testing;

namespace {

// Keys that name the model: ours is the run's name, theirs is guessed from the directory.
bool names_model(const std::string& key) {
  static const std::set<std::string> keys = {"general.name", "general.basename", "general.version", "general.finetune"};
  return keys.count(key) != 0;
}

void same_pairs(const GgufFile& ours, const GgufFile& theirs) {
  for (const auto& [key, expected] : theirs.pairs()) {
    if (names_model(key)) continue;
    INFO(key);
    REQUIRE(ours.has(key));
    const GgufPair& found = ours.pairs().at(key);
    CHECK(found.type == expected.type);
    CHECK(found.is_array == expected.is_array);
    CHECK(found.value == expected.value);
  }
  for (const auto& [key, pair] : ours.pairs()) {
    INFO(key);
    CHECK((names_model(key) || theirs.has(key)));
  }
}

void same_tensors(const GgufFile& ours, const GgufFile& theirs) {
  CHECK(ours.tensors().size() == theirs.tensors().size());
  for (const GgufTensor& expected : theirs.tensors()) {
    INFO(expected.name);
    const GgufTensor* found = ours.find(expected.name);
    REQUIRE(found);
    CHECK(found->type == expected.type);
    CHECK(found->shape == expected.shape);
    REQUIRE(found->bytes == expected.bytes);
    CHECK(std::memcmp(ours.data(*found).data(), theirs.data(expected).data(), expected.bytes) == 0);
  }
}

}  // namespace

TEST_CASE("gguf-base-bf16 is the base without the adapter, beside what gguf-bf16 writes of both", "[export][gguf]") {
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const auto artifact = write("gguf-base-bf16", golden_case.request(), directory.path());
  CHECK(artifact.path == directory / "gguf-base-bf16.gguf");
  const auto written = model::open_weights(artifact.path);
  for (const model::WeightInfo& tensor : golden_case.base->weights())
    CHECK(at::equal(written->load(tensor.name, at::kFloat), golden_case.base->load(tensor.name, at::kFloat)));
  const GgufFile alone(artifact.path), merged(write("gguf-bf16", golden_case.request(), directory.path()).path);
  same_pairs(alone, merged);
  CHECK(alone.string("general.name") == "Tiny base");
}

TEST_CASE("merged GGUF equals the reference converter's, keys and bytes", "[export][gguf]") {
  const std::string family = GENERATE("llama", "mistral", "qwen2", "qwen3");
  const std::string type = GENERATE("f16", "q8_0");
  INFO(family << " " << type);
  const GoldenCase golden_case(family);
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("gguf-" + type, golden_case.request(), directory.path());
  CHECK(artifact.path == directory / ("gguf-" + type + ".gguf"));
  const GgufFile ours(artifact.path), theirs(golden(family) / (type + ".gguf"));
  same_pairs(ours, theirs);
  same_tensors(ours, theirs);
  CHECK(ours.string("general.name") == "Tiny");
  CHECK(artifact.max_error > 0);
  CHECK(artifact.max_error < (type == "f16" ? 0x1p-11 : 0.006));
}

TEST_CASE("quantized GGUF equals what llama-quantize makes of the merged model", "[export][gguf]") {
  const std::string type = GENERATE("q4_0", "q5_1", "q4_k_m");  // rows of 32 and 48 here: the mixes take their fallbacks
  INFO(type);
  const GoldenCase golden_case("llama");
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("gguf-" + type, golden_case.request(), directory.path());
  const GgufFile ours(artifact.path), theirs(golden("llama") / (type + ".gguf"));
  same_pairs(ours, theirs);
  same_tensors(ours, theirs);
}

TEST_CASE("every kind of GGUF file is written, read and verified", "[export][gguf]") {
  struct Kind {
    const char* name;
    int file_type;
    double largest_error;  // of a step, and what is clipped, over the largest weight of a block
  };
  const std::string family = GENERATE("mistral", "qwen3");
  const Kind kind =
      GENERATE(Kind{"f32", 0, 0}, Kind{"q4_0", 2, 0.13}, Kind{"q4_1", 3, 0.07}, Kind{"q5_0", 8, 0.07}, Kind{"q5_1", 9, 0.04},
               Kind{"q4_k_s", 14, 0.13}, Kind{"q4_k_m", 15, 0.13}, Kind{"q5_k_m", 17, 0.07}, Kind{"q6_k", 18, 0.02});
  INFO(family << " " << kind.name);
  const GoldenCase golden_case(family);
  const ScratchDirectory directory;
  const exports::Artifact artifact = write(cat("gguf-", kind.name), golden_case.request(), directory.path());
  CHECK(GgufFile(artifact.path).integer("general.file_type") == kind.file_type);
  CHECK(artifact.max_error <= kind.largest_error);
  CHECK((artifact.max_error > 0) == (kind.file_type != 0));
}

TEST_CASE("bf16 GGUF keeps every value of the bf16 merge", "[export][gguf]") {
  const GoldenCase golden_case("qwen2");
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("gguf-bf16", golden_case.request(), directory.path());
  const GgufFile file(artifact.path);
  CHECK(file.integer("general.file_type") == 32);
  CHECK(file.find("blk.0.attn_q.weight")->type == GgmlType::bf16);
  CHECK(file.find("blk.0.attn_q.bias")->type == GgmlType::f32);
  CHECK(artifact.max_error < 0x1p-8);
}

TEST_CASE("a GGUF base is carried over: metadata, rope divisors, tokenizer", "[export][gguf]") {
  const auto base = model::open_weights(golden("llama") / "f16.gguf");
  const auto adapter = lora::load_peft(golden("llama") / "adapter");
  const ScratchDirectory directory;
  const exports::Artifact artifact = write("gguf-q8_0", {*base, *adapter, at::kFloat, "Second", ""}, directory.path());
  const GgufFile ours(artifact.path), source(golden("llama") / "f16.gguf");
  for (const auto& [key, expected] : source.pairs()) {
    INFO(key);
    REQUIRE(ours.has(key));
    if (key == "general.file_type" || key == "general.name") continue;
    CHECK(ours.pairs().at(key).value == expected.value);
  }
  CHECK(ours.integer("general.file_type") == 7);
  CHECK(ours.string("general.name") == "Second");
  CHECK(ours.string("general.base_model.0.name") == source.string("general.name"));
  const GgufTensor *found = ours.find("rope_freqs.weight"), *expected = source.find("rope_freqs.weight");
  REQUIRE(found);
  CHECK(std::memcmp(ours.data(*found).data(), source.data(*expected).data(), expected->bytes) == 0);
}

TEST_CASE("rotary rows are interleaved head by head", "[export][gguf]") {
  const at::Tensor rows = at::arange(8, at::kFloat).reshape({8, 1});
  const at::Tensor interleaved = model::interleaved_rows(rows, 2).flatten();
  CHECK(at::equal(interleaved, at::tensor({0.f, 2.f, 1.f, 3.f, 4.f, 6.f, 5.f, 7.f})));
  CHECK(at::equal(model::interleaved_rows(rows.flatten(), 2), interleaved));
  CHECK(at::equal(model::separated_rows(interleaved, 2), rows.flatten()));
  CHECK(at::equal(model::separated_rows(model::interleaved_rows(rows, 1), 1), rows));
}

TEST_CASE("the base is rounded as the trainer rounded it, the merge only once", "[export][merge]") {
  // An f32 base: bf16 storage must give round_bf16(W) + delta, f32 storage W + delta.
  const auto base = model::open_weights(golden("llama") / "f16.gguf");
  const auto adapter = lora::load_peft(golden("llama") / "adapter");
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  const lora::Adapter& pair = *adapter->find("model.layers.1.self_attn.q_proj");
  const at::Tensor delta = at::matmul(pair.low_rank.b.to(at::kDouble), pair.low_rank.a.to(at::kDouble)) * pair.low_rank.scale;
  const at::Tensor weight = base->load(name, at::kFloat);
  REQUIRE(!at::equal(weight, weight.to(at::kBFloat16).to(at::kFloat)));
  const at::Tensor exact = exports::MergedModel(*base, adapter.get(), at::kFloat).load(name);
  const at::Tensor rounded = exports::MergedModel(*base, adapter.get(), at::kBFloat16).load(name);
  CHECK(at::equal(exact, (weight.to(at::kDouble) + delta).to(at::kFloat)));
  CHECK(at::equal(rounded, (weight.to(at::kBFloat16).to(at::kDouble) + delta).to(at::kFloat)));
  CHECK(at::equal(exports::MergedModel(*base, nullptr, at::kFloat).load(name), weight));
}

TEST_CASE("GPTQ's codes need whole blocks, and a model without them is refused by name", "[export][gguf]") {
  const ScratchDirectory directory;
  write_tiny_base(directory / "base", {.ffn = 48});
  const model::ModelSpec spec = model::open_weights(directory / "base")->spec();
  CHECK(exports::gguf_refusal(spec).empty());
  CHECK(exports::gguf_refusal(spec, exports::Quantizer::importance).empty());
  CHECK(exports::gguf_refusal(spec, exports::Quantizer::awq_gptq) ==
        "GPTQ needs whole blocks of 32, and rows of model.layers.0.mlp.down_proj.weight have 48 columns; choose gguf-q8_0 or "
        "gguf-q4_0-imatrix, which leave such tensors in f16");
}

TEST_CASE("what llama.cpp has in its code and no key changes is refused before any work", "[export][gguf]") {
  const auto refusal = [](const model::ModelSpec& spec) { return exports::gguf_refusal(spec); };
  for (const char* family : {"gemma2", "gemma3", "smollm3", "qwen3_moe", "mixtral"}) {
    INFO(family);
    model::ModelSpec spec = model::open_weights(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/models" / family)->spec();
    if (spec.moe.experts > 0) {
      spec.moe.normalize_weights = true;
      CHECK(refusal(spec).empty());
      spec.moe.normalize_weights = false;
      CHECK(refusal(spec).find("llama.cpp divides the weights of a token's experts by their sum") == 0);
      continue;
    }
    CHECK(refusal(spec).empty());
    const bool windows = spec.family != "smollm3";
    model::LayerSpec& layer = spec.layers[1];
    if (windows)
      layer.window = layer.window > 0 ? 0 : 8;
    else
      layer.rope = false;
    CHECK(refusal(spec).find("layer 1 of this " + spec.architecture + " is of another kind") == 0);
  }
}
