// Models that are written and read in pieces are those that are written and read whole.
#include "export/pieces.h"

#include <c10/core/InferenceMode.h>

#include <atomic>
#include <vector>

#include "export/merge.h"
#include "kernels/nf4/nf4_weight.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("each piece is done once, on threads that know the caller's mode, and failures come back", "[export][pieces]") {
  constexpr std::int64_t kCount = 1000;
  std::vector<std::atomic<int>> times(kCount);
  std::atomic<int> inference = 0;
  {
    const c10::InferenceMode mode;
    exports::on_all_threads(kCount, [&](std::int64_t i) {
      ++times[static_cast<std::size_t>(i)];
      inference += c10::InferenceMode::is_enabled() ? 1 : 0;
    });
  }
  for (const std::atomic<int>& count : times) CHECK(count == 1);
  CHECK(inference == kCount);
  exports::on_all_threads(0, [](std::int64_t) { FAIL("there is nothing to do"); });

  std::atomic<int> done = 0;
  const auto fail = [&] {
    exports::on_all_threads(1 << 20, [&](std::int64_t i) {
      if (i == 10) throw DataError("piece 10");
      ++done;
    });
  };
  CHECK(message_of<DataError>(fail) == "piece 10");
  CHECK(done < 1 << 20);  // the others stop
}

TEST_CASE("pieces cover a tensor and begin where blocks of rows do", "[export][pieces]") {
  for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{
           {7}, {1 << 22}, {1, 64}, {127, 64}, {129, 1 << 20}, {128'256, 4096}, {14'336, 4096}, {4096, 14'336}, {100'000, 24}}) {
    model::TensorSpec tensor;
    tensor.shape = shape;
    const auto pieces = exports::pieces_of(tensor);
    std::int64_t end = 0;
    for (const exports::RowRange& piece : pieces) {
      CHECK(piece.begin == end);
      CHECK(piece.begin % exports::kRowStep == 0);
      CHECK(piece.end > piece.begin);
      end = piece.end;
    }
    CHECK(end == shape[0]);
  }
}

TEST_CASE("linears of several pieces read the same whole and by rows, in every format", "[export][pieces]") {
  constexpr std::int64_t kFfn = 4352;  // 34 times 128; with 256 columns three pieces, with 256 rows two
  const ScratchDirectory scratch;
  write_tiny_base(scratch / "base", {.vocab = 1700, .ffn = kFfn, .head_dim = 64, .hidden = 256});
  const auto base = model::open_weights(scratch / "base");
  const auto adapter = lora::allocate({}, {{"model.layers.0.mlp.down_proj", kFfn, 256}}, false);
  at::manual_seed(5);
  adapter->parameters.uniform_(-0.05, 0.05);
  const exports::ExportRequest request = {*base, *adapter, at::kBFloat16, "Tiny", ""};
  const exports::MergedModel merged(*base, adapter.get(), at::kBFloat16);
  for (const exports::Exporter* exporter : exports::all_formats()) {
    const std::string format(exporter->name);
    if (exporter->calibrates || (!exporter->merges && format != "bnb-nf4")) continue;
    if (!exporter->refusal(base->spec(), adapter->config).empty()) continue;
    INFO(format);
    const auto artifact = write(format, request, scratch.path());
    // What was foretold, but for headers, names, the config and the tokenizer.
    const auto bytes = static_cast<double>(artifact.bytes), foretold = static_cast<double>(exporter->bytes(base->spec()));
    CHECK(foretold <= bytes);
    CHECK(bytes - foretold < 700'000);
    const auto written = model::open_weights(artifact.path);
    for (const std::string name : {"mlp.gate_proj", "mlp.down_proj", "self_attn.q_proj"}) {
      const std::string tensor = "model.layers.0." + name + ".weight";
      INFO(tensor);
      const at::Tensor whole = written->load(tensor, at::kFloat);
      std::vector<at::Tensor> parts;
      std::int64_t begin = 0;
      for (const std::int64_t end : {std::int64_t{7}, std::int64_t{128}, std::int64_t{2176}, std::int64_t{4223}, whole.size(0)}) {
        if (end > whole.size(0)) continue;
        parts.push_back(written->load_rows(tensor, begin, end, at::kFloat));
        begin = end;
      }
      CHECK(at::equal(at::cat(parts), whole));
      if (!exporter->merges) {  // codes of the base: those of the whole matrix at once
        CHECK(at::equal(whole, kernels::Nf4Weight(base->load(tensor, at::kBFloat16)).values(at::kFloat)));
        continue;
      }
      const at::Tensor source = merged.load(tensor);
      CHECK((whole - source).abs().max().item<float>() <= 0.2f * source.abs().max().item<float>());
    }
    std::filesystem::remove_all(artifact.path);
  }
}
