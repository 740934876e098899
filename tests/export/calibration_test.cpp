// Files whose rounding looked at documents: they are nearer to the model on those documents than the plain ones, the same each
// time, and verified like the others.
#include "export/calibration.h"

#include <cstring>
#include <limits>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "model/decoder.h"
#include "tests/data/support.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"
#include "tests/support/plain_inputs.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_base.h"

using namespace graft;
using exports::Quantizer;
using graft::testing::message_of;
using graft::testing::Noted;
using graft::testing::PlainInputs;
using graft::testing::relative_error;
using graft::testing::ScratchDirectory;

namespace {

constexpr const char* kExpert = "model.layers.0.block_sparse_moe.experts.1.w2";

// A tiny base with its adapter, and documents whose bytes are tokens.
struct Bench {
  data::Corpora corpora;
  ScratchDirectory directory;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<lora::AdapterSet> adapter;
  std::optional<exports::Calibration> calibration;

  explicit Bench(const graft::testing::TinyBase& shape = {}) {
    std::string text;
    for (int i = 0; i < 300; ++i) text += cat("line ", i * 7919 % 1000, " of the manual\n");
    corpora.source(corpora.document("a.txt", text));
    corpora.prepare();
    graft::testing::write_tiny_base(directory / "base", shape);
    base = model::open_weights(directory / "base");
    adapter = lora::allocate({}, {{shape.experts == 0 ? "model.layers.0.mlp.down_proj" : kExpert, 64, 32}}, false);
    adapter->parameters.fill_(0.01);
    calibrate(30);
  }
  exports::CalibrationRows rows(std::int64_t count) const {
    return {corpora.config.dir, corpora.tokenizer.hash(), {}, count, 128};
  }
  void calibrate(std::int64_t count) {
    calibration.emplace(exports::MergedModel(*base, adapter.get(), at::kFloat), rows(count), at::kFloat);
  }
  exports::ExportRequest request() { return {*base, *adapter, at::kFloat, "Tiny", "", &*calibration}; }

  // The first layer's inputs by hand, f64: normalised embeddings of the tokens that were seen.
  at::Tensor first_inputs() const {
    const auto corpus = data::Corpus::open(corpora.config.dir, "train", corpora.tokenizer.hash());
    const auto packed = data::pack(*corpus, 128, data::LongDocuments::split);
    data::Cursor cursor;
    const data::Batch batch = packed->read(cursor, 30);
    const at::Tensor x = base->load("model.embed_tokens.weight", at::kFloat)
                             .index_select(0, at::tensor(batch.tokens, at::kInt).to(at::kLong))
                             .to(at::kDouble);
    return x * at::rsqrt(x.square().mean(1, true) + 1e-5);
  }

  at::Tensor logits(const model::WeightSource& weights) const {
    std::vector<std::int32_t> ids(1000);
    data::Corpus::open(corpora.config.dir, "train", corpora.tokenizer.hash())->read(0, 0, ids, {});
    const at::Tensor tokens = at::tensor(ids, at::kInt).to(at::kLong);
    return model::Decoder::load(weights, at::kFloat, at::kFloat)->logits({tokens, at::arange(1000, at::kInt), {0, 1000}});
  }
  double error(const exports::Artifact& artifact, const at::Tensor& whole) const {
    return (logits(*model::open_weights(artifact.path)) - whole).norm().item<double>();
  }
};

}  // namespace

TEST_CASE("what looked at documents is nearer to the model on them, and the same each time", "[export][calibration]") {
  struct Pair {
    const char *calibrated, *plain;
    bool nearer = true;
  };
  Bench bench;
  const at::Tensor whole = bench.logits(*model::open_weights(
      exports::export_one(exports::find_exporter("gguf-f32"), bench.request(), bench.directory.path())->path));
  for (const auto& [calibrated, plain, nearer] : {Pair{"ct-w4a16-g32-gptq", "ct-w4a16-g32"},
                                                  {"gptq-g32-gptq", "gptq-g32"},
                                                  {"awq-g32-awq", "awq-g32", false},
                                                  {"ct-w4a16-asym-g32-awq", "ct-w4a16-asym-g32", false},
                                                  {"ct-w4a16-asym-g32-awq-gptq", "ct-w4a16-asym-g32"},
                                                  {"ct-w4w8a16-asym-g32-awq-gptq", "ct-w4w8a16-asym-g32"},
                                                  {"gptq-g32-awq-gptq", "gptq-g32"},
                                                  {"awq-g32-awq-gptq", "awq-g32"},
                                                  {"ct-fp8-gptq", "ct-fp8"},
                                                  {"fp8-gptq", "fp8"},
                                                  {"gguf-q4_0-imatrix", "gguf-q4_0"},
                                                  {"gguf-q4_0-awq-gptq", "gguf-q4_0"},
                                                  {"gguf-q4_k_m-imatrix", "gguf-q4_k_m"}}) {
    INFO(calibrated);
    const auto made = exports::export_all({calibrated, plain}, bench.request(), bench.directory / "a");
    CHECK(made[0].source.calibration == "30 rows of 128 tokens, f32, corpus ");
    CHECK(made[1].source.calibration.empty());
    // Channels of random weights are alike: AWQ has nothing to move there (channel_scales_test.cpp has some that are not).
    if (nearer) CHECK(bench.error(made[0], whole) < bench.error(made[1], whole));
    CHECK(exports::export_all({calibrated}, bench.request(), bench.directory / "a")[0].reused);
    bench.calibrate(30);
    CHECK(exports::export_all({calibrated}, bench.request(), bench.directory / cat("b-", calibrated))[0].sha256 ==
          made[0].sha256);
    bench.calibrate(20);
    CHECK(!exports::export_all({calibrated}, bench.request(), bench.directory / "a")[0].reused);
    bench.calibrate(30);
  }
  const Json manifest = read_json(bench.directory / "a/manifest.json");
  CHECK(manifest["artifacts"][0]["calibration"] == "20 rows of 128 tokens, f32, corpus ");
  CHECK(!manifest["artifacts"][1].contains("calibration"));
}

TEST_CASE("importance is the mean square of a linear's inputs", "[export][calibration]") {
  Bench bench;
  const at::Tensor normed = bench.first_inputs();
  const at::Tensor found = bench.calibration->importance("model.layers.0.self_attn.v_proj.weight");
  CHECK(at::allclose(found.to(at::kDouble), normed.square().mean(0), 1e-5));
  CHECK(at::equal(found, bench.calibration->importance("model.layers.0.self_attn.q_proj.weight")));
  CHECK(bench.calibration->importance("model.layers.1.mlp.down_proj.weight").size(0) == 64);
  CHECK(!bench.calibration->importance("model.embed_tokens.weight").defined());
  CHECK(!bench.calibration->importance("model.layers.0.input_layernorm.weight").defined());
}

TEST_CASE("SmoothQuant moves scales into the norms, and the file is compared with what that gives", "[export][calibration]") {
  Bench bench;
  const auto made = exports::export_all({"ct-w8a8-smooth", "hf"}, bench.request(), bench.directory / "a");
  const auto smooth = model::open_weights(made[0].path), plain = model::open_weights(made[1].path);
  const std::string norm = "model.layers.1.post_attention_layernorm.weight", linear = "model.layers.1.mlp.up_proj.weight";
  const at::Tensor ratio = smooth->load(norm, at::kFloat) / plain->load(norm, at::kFloat);
  CHECK((ratio - 1).abs().max().item<double>() > 0.01);
  const at::Tensor weight = plain->load(linear, at::kFloat) / ratio, step = weight.abs().amax(1, true) / 127;
  // Half a step, and what rounding the scale and the plain file to bf16 may change.
  CHECK(((smooth->load(linear, at::kFloat) - weight).abs() <= step * (0.5 + 1.5)).all().item<bool>());
  // Nothing before o and down is touched: there is no norm.
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  const at::Tensor other = plain->load(down, at::kFloat);
  CHECK(((smooth->load(down, at::kFloat) - other).abs() <= other.abs().amax(1, true) / 127 * 2).all().item<bool>());
}

TEST_CASE("training rounds to the values of AWQ's file, in the channels of the model as it was",
          "[export][calibration][merge_aware]") {
  Bench bench({.bf16_values = true});  // so that nothing but the linears is rounded
  bench.adapter->parameters.copy_(testing::random(bench.adapter->parameters.sizes(), 1, at::kFloat, 0.05));
  const exports::Exporter& exporter = exports::find_exporter("ct-w4a16-asym-g32-awq");
  const auto written = model::open_weights(exports::export_one(exporter, bench.request(), bench.directory.path())->path);
  // Training finds the scales before there is an adapter.
  exports::Calibration before({*bench.base, nullptr, at::kFloat}, bench.rows(30), at::kFloat);
  const exports::Folds folds = exporter.folds(before);
  const exports::MergedModel merged(*bench.base, bench.adapter.get(), at::kFloat);
  const auto decoder = model::Decoder::load(*bench.base, at::kFloat, at::kFloat);
  std::map<std::string, at::Tensor> weights;
  for (const model::Linear* linear : decoder->linears()) weights[linear->name + ".weight"] = linear->weight;
  std::int64_t moved = 0;
  for (const model::TensorSpec& tensor : merged.tensors()) {
    if (tensor.shape.size() != 2) continue;
    INFO(tensor.name);
    const at::Tensor rows = merged.load(tensor.name), folded = folds.apply(tensor.name, rows),
                     read = written->load(tensor.name, at::kFloat);
    CHECK(at::equal(exporter.served(bench.base->spec(), tensor, folded), read));
    const std::int64_t half = tensor.shape[0] / 2, rest = tensor.shape[0] - half;  // groups do not reach beyond a row
    const at::Tensor last = folds.apply(tensor.name, rows.narrow(0, half, rest), half);
    CHECK(at::equal(exporter.served(bench.base->spec(), tensor, last), read.narrow(0, half, rest)));
    CHECK(at::equal(folds.undo(tensor.name, read).narrow(0, half, rest),
                    folds.undo(tensor.name, read.narrow(0, half, rest), half)));
    CHECK(at::allclose(folds.undo(tensor.name, folded), rows, 3e-7, 0));  // two products and two quotients, of 2^-24 each
    moved += !at::equal(folded, rows);
    if (weights.count(tensor.name)) weights.at(tensor.name).copy_(folds.undo(tensor.name, read));
  }
  CHECK(moved > 0);
  std::vector<std::int32_t> ids(200);
  data::Corpus::open(bench.corpora.config.dir, "train", bench.corpora.tokenizer.hash())->read(0, 0, ids, {});
  const at::Tensor tokens = at::tensor(ids, at::kInt).to(at::kLong), positions = at::arange(200, at::kInt);
  const at::Tensor served = model::Decoder::load(*written, at::kFloat, at::kFloat)->logits({tokens, positions, {0, 200}});
  CHECK(testing::relative_error(decoder->logits({tokens, positions, {0, 200}}), served) < 2e-5);
}

TEST_CASE("a changed code of a GPTQ file is found", "[export][calibration]") {
  Bench bench;
  const Noted made("ct-w4a16-g32-gptq", bench.request(), bench.directory.path());
  CHECK(made.verify(bench.request()) > 0);
  const std::string tensor = "model.layers.1.mlp.down_proj.weight";
  const SafeTensor codes = SafetensorsFile(made.path / "model.safetensors").tensors().at(tensor + "_packed");
  std::string bytes = read_file(made.path / "model.safetensors");
  bytes[codes.begin] = static_cast<char>(bytes[codes.begin] ^ 1);
  write_file(made.path / "model.safetensors", bytes);
  CHECK(message_of<FormatError>([&] { made.verify(bench.request()); }) ==
        cat(made.path.string(), ": tensor ", tensor, " (INT4 by 32) does not read back as it was written"));
}

TEST_CASE("GPTQ in ModelOpt's layout stands for the numbers of compressed-tensors'", "[export][calibration]") {
  Bench bench;
  std::vector<std::unique_ptr<model::WeightSource>> read;
  for (const char* format : {"ct-fp8-gptq", "modelopt-fp8-gptq", "ct-fp8"})
    read.push_back(
        model::open_weights(exports::export_one(exports::find_exporter(format), bench.request(), bench.directory.path())->path));
  std::int64_t linears = 0, moved = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(bench.base->spec())) {
    INFO(tensor.name);
    const at::Tensor values = read[1]->load(tensor.name, at::kFloat);
    CHECK(at::equal(values, read[0]->load(tensor.name, at::kFloat)));
    moved += !at::equal(values, read[2]->load(tensor.name, at::kFloat));
    linears += tensor.role == model::TensorRole::linear;
  }
  CHECK(linears > 0);
  CHECK(moved == linears);  // not to the nearest
  CHECK(read[1]->inputs() == kernels::RowRounding::fp8);
  const Json config = read_json(bench.directory / "modelopt-fp8-gptq/hf_quant_config.json")["quantization"];
  CHECK(config["quant_algo"] == "FP8_PER_CHANNEL_PER_TOKEN");
}

TEST_CASE("GPTQ on one scale for all that servers join has the scales of the plain format", "[export][calibration]") {
  Bench bench;
  for (const auto& [calibrated, plain] : {std::pair{"fp8-gptq", "fp8"}, {"modelopt-fp8-static-gptq", "modelopt-fp8-static"}}) {
    INFO(calibrated);
    const auto made = exports::export_all({calibrated, plain}, bench.request(), bench.directory / "a");
    const SafetensorsFile ours(made[0].path / "model.safetensors"), nearest(made[1].path / "model.safetensors");
    REQUIRE(ours.tensors().size() == nearest.tensors().size());
    std::int64_t scales = 0, codes = 0, moved = 0;
    const auto bytes = [](const exports::Artifact& artifact, const SafeTensor& part) {
      return read_file(artifact.path / "model.safetensors").substr(part.begin, part.end - part.begin);
    };
    for (const auto& [name, part] : ours.tensors()) {
      INFO(name);
      const SafeTensor& other = nearest.tensors().at(name);
      REQUIRE(part.shape == other.shape);
      const bool code = part.dtype == DType::f8_e4m3;
      scales += name.ends_with("_scale");
      codes += code;
      moved += code && bytes(made[0], part) != bytes(made[1], other);
      if (!code) CHECK(bytes(made[0], part) == bytes(made[1], other));
    }
    CHECK(codes > 0);
    CHECK(scales == codes * (std::string(plain) == "fp8" ? 1 : 2));
    CHECK(moved == codes);
  }
}

TEST_CASE("inputs are rounded to fp8 on the scale that calibration found", "[export][calibration]") {
  Bench bench;
  for (const std::string format : {"ct-fp8-static", "modelopt-fp8-static"}) {
    INFO(format);
    const exports::Exporter& exporter = exports::find_exporter(format);
    const auto made = exports::export_one(exporter, bench.request(), bench.directory.path()).value();
    CHECK(made.source.calibration == "30 rows of 128 tokens, f32, corpus ");
    // Half of e4m3's widest spacing, 16 / 448, and a bf16 scale; on the scale of what a server joins 2^-4 of the largest weight.
    CHECK(made.max_error < (format == "ct-fp8-static" ? 0.04 : 0.0626));
    const auto written = model::open_weights(made.path);
    CHECK(written->inputs() == kernels::RowRounding::fp8);
    const auto scale = [&](const std::string& linear) { return written->input_scale("model.layers." + linear + ".weight"); };
    CHECK(scale("0.self_attn.q_proj") == Approx(bench.first_inputs().abs().max().item<double>() / 448).epsilon(1e-5));
    CHECK(scale("1.self_attn.q_proj") == scale("1.self_attn.v_proj"));
    CHECK(scale("1.self_attn.k_proj") == scale("1.self_attn.v_proj"));
    CHECK(scale("1.mlp.gate_proj") == scale("1.mlp.up_proj"));
    CHECK(scale("1.mlp.down_proj") != scale("1.mlp.up_proj"));
    CHECK(written->input_scale("model.embed_tokens.weight") == 0);
    const at::Tensor logits = bench.logits(*written);
    const double moved = relative_error(logits, bench.logits(PlainInputs(*written)));
    CHECK(moved > 1e-3);  // e4m3's 2^-4 of each input, some layers on
    CHECK(moved < 0.2);

    // Another scale is found by the verification, and used by the scores; one that is none is refused.
    const fs::path file = made.path / "model.safetensors";
    const std::string original = read_file(file);
    const auto patch = [&](float value) {
      std::string bytes = original;
      const SafeTensor part = SafetensorsFile(file).tensors().at("model.layers.1.self_attn.k_proj.input_scale");
      CHECK(part.shape == (format == "ct-fp8-static" ? std::vector<std::int64_t>{1} : std::vector<std::int64_t>{}));
      std::memcpy(&bytes[part.begin], &value, sizeof value);
      write_file(file, bytes);
    };
    patch(3 * scale("1.self_attn.k_proj"));  // no power of two: e4m3 would round as before
    CHECK(message_of<FormatError>([&] {
            exporter.verify(bench.request(), made.path, {});
          }).find("the input_scale of model.layers.1.self_attn.k_proj.weight reads back as") != std::string::npos);
    CHECK(!at::equal(bench.logits(*model::open_weights(made.path)), logits));
    for (const float bad : {0.0f, -0.5f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      patch(bad);
      CHECK(message_of<FormatError>([&] { model::open_weights(made.path); }).find("k_proj.weight: input_scale is") !=
            std::string::npos);
    }
  }
  const Json compressed = read_json(bench.directory / "ct-fp8-static/config.json")["quantization_config"];
  CHECK(compressed["format"] == "float-quantized");
  const Json& group = compressed["config_groups"]["group_0"];
  CHECK(group["weights"]["strategy"] == "channel");
  CHECK(group["input_activations"]["strategy"] == "tensor");
  CHECK(group["input_activations"]["dynamic"] == false);
  CHECK(group["input_activations"]["type"] == "float");
  const Json modelopt = read_json(bench.directory / "modelopt-fp8-static/config.json")["quantization_config"];
  CHECK(modelopt["quant_algo"] == "FP8");
  CHECK(read_json(bench.directory / "modelopt-fp8-static/hf_quant_config.json")["quantization"]["quant_algo"] == "FP8");
}

TEST_CASE("experts are calibrated one by one, but for the scales that servers have once", "[export][calibration]") {
  Bench bench({.experts = 4});
  for (const char* format : {"gptq-g32-gptq", "awq-g32-awq", "modelopt-fp8-static", "modelopt-fp8-static-gptq"}) {
    INFO(format);
    CHECK(exports::export_one(exports::find_exporter(format), bench.request(), bench.directory.path())->max_error > 0);
  }
  const auto written = model::open_weights(bench.directory / "modelopt-fp8-static");
  const auto scale = [&](int expert, const char* linear) {
    return written->input_scale(cat("model.layers.0.block_sparse_moe.experts.", expert, ".", linear, ".weight"));
  };
  CHECK(scale(0, "w1") == scale(3, "w3"));
  CHECK(scale(0, "w2") == scale(3, "w2"));
  CHECK(scale(0, "w1") != scale(0, "w2"));
}

TEST_CASE("an expert that no token came to is rounded to nearest on the scale that is given", "[export][calibration]") {
  Bench bench({.experts = 4});
  exports::CalibrationRows two_tokens = bench.rows(1);
  two_tokens.length = 2;
  bench.calibration.emplace(exports::MergedModel(*bench.base, bench.adapter.get(), at::kFloat), two_tokens, at::kFloat);
  const auto made = exports::export_all({"fp8-gptq", "fp8"}, bench.request(), bench.directory / "a");
  const auto ours = model::open_weights(made[0].path), nearest = model::open_weights(made[1].path);
  std::int64_t seen = 0, unseen = 0, moved = 0;
  for (const model::TensorSpec& tensor : model::tensors_of(bench.base->spec())) {
    if (tensor.name.find(".layers.0.") == std::string::npos || tensor.name.find(".experts.") == std::string::npos) continue;
    INFO(tensor.name);
    const bool came = bench.calibration->importance(tensor.name).defined();
    const bool same = at::equal(ours->load(tensor.name, at::kFloat), nearest->load(tensor.name, at::kFloat));
    (came ? seen : unseen) += 1;
    if (!came) CHECK(same);
    moved += came && !same;
  }
  CHECK(seen > 0);
  CHECK(moved > 0);
  CHECK(unseen > 0);
}

TEST_CASE("too few documents to calibrate with are an error before any work", "[export][calibration]") {
  Bench bench;
  const auto corpus = data::Corpus::open(bench.corpora.config.dir, "train", bench.corpora.tokenizer.hash());
  const std::int64_t tokens = corpus->tokens();
  CHECK(message_of<DataError>([&] { bench.calibrate(1000); }) ==
        cat(bench.corpora.config.dir, " has ", tokens,
            " training tokens, and 1000 rows of 128 to calibrate with are 128000; set ", "export.calibration.rows to ",
            tokens / 128, " or fewer, or choose formats that look at no documents"));
  CHECK_NOTHROW(bench.calibrate(tokens / 128));
  exports::ExportRequest request = bench.request();
  request.calibration = nullptr;
  CHECK(message_of<ConfigError>([&] {
          exports::export_all({"hf", "gguf-q4_0-imatrix"}, request, bench.directory / "c");
        }) == "export format gguf-q4_0-imatrix looks at documents, and there are none; name a corpus to calibrate with");
  CHECK(!fs::exists(bench.directory / "c"));
}
