// Held-out loss against the plain computation: every window of every document alone, softmax in f64.
#include "eval/heldout.h"

#include <cmath>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/documents.h"
#include "tests/support/fake_decoder.h"
#include "tests/support/golden_model.h"
#include "tests/support/temp_dir.h"

namespace graft::eval {
namespace {

using namespace graft::testing;

// Ids 0 to 2 are control tokens, those of made_up() a byte each.
const data::Tokenizer& tokenizer() {
  static const auto loaded = data::load_tokenizer(std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/golden/tokenizers/smollm");
  return *loaded;
}

Documents corpus() {
  std::vector<std::uint8_t> answers(20, 0);  // loss on the last five only
  std::fill(answers.begin() + 15, answers.end(), std::uint8_t{1});
  return Documents({{made_up(13, 1), {}, 40},
                    {made_up(1, 2), {}, 3},     // nothing to predict
                    {made_up(37, 3), {}, 160},  // more than two windows of 16
                    {{}, {}, 0},
                    {made_up(20, 4), answers, 70},
                    {made_up(6, 5), std::vector<std::uint8_t>(6, 0), 9},  // carries no loss at all
                    {made_up(17, 6), {}, 71}});                           // inputs fill one window exactly
}

struct Reference {
  double nll = 0;
  std::int64_t tokens = 0, bytes = 0, documents = 0;
};

// Token i + 1 is predicted from the tokens of its window before it; windows begin at multiples of `length`.
Reference reference(model::Decoder& decoder, const Documents& corpus, std::int64_t length, std::size_t first = 0,
                    std::size_t last = 99) {
  Reference result;
  for (std::size_t d = first; d < std::min(last, corpus.texts().size()); ++d) {
    const Documents::Text& text = corpus.texts()[d];
    const auto size = static_cast<std::int64_t>(text.tokens.size());
    std::int64_t predicted = 0;
    for (std::int64_t begin = 0; begin + 1 < size; begin += length) {
      const std::int64_t inputs = std::min(length, size - 1 - begin);
      const at::Tensor tokens = at::empty({inputs}, at::kLong);
      for (std::int64_t i = 0; i < inputs; ++i) tokens[i] = text.tokens[static_cast<std::size_t>(begin + i)];
      const at::Tensor logp =
          at::log_softmax(decoder.logits(packed(tokens, {0, static_cast<std::int32_t>(inputs)})).to(at::kDouble), -1);
      for (std::int64_t i = 0; i < inputs; ++i) {
        const auto next = static_cast<std::size_t>(begin + i + 1);
        if (!text.loss.empty() && text.loss[next] == 0) continue;
        result.nll -= logp[i][text.tokens[next]].item<double>();
        ++predicted;
      }
    }
    if (predicted == 0) continue;
    result.tokens += predicted;
    const bool begins_with_text = text.loss.empty() || text.loss[0];  // a byte that nothing predicts
    result.bytes += static_cast<std::int64_t>(text.bytes) - (begins_with_text ? 1 : 0);
    ++result.documents;
  }
  return result;
}

void check_same(const HeldoutScore& score, const Reference& want) {
  CHECK(score.tokens == want.tokens);
  CHECK(score.documents == want.documents);
  CHECK(score.bytes == want.bytes);
  CHECK(score.nll == Approx(want.nll).epsilon(1e-5));
  CHECK(score.bits_per_byte() == Approx(want.nll / std::log(2.0) / static_cast<double>(want.bytes)).epsilon(1e-5));
  CHECK(score.perplexity() == Approx(std::exp(want.nll / static_cast<double>(want.tokens))).epsilon(1e-4));
}

}  // namespace

TEST_CASE("held-out loss is that of every window of every document alone", "[heldout]") {
  const Documents documents = corpus();
  for (const std::string& name : golden_models()) {
    const Golden golden(name);
    const auto decoder = golden.load();
    for (const std::int64_t length : {8, 16, 64}) {
      INFO(name << ", windows of " << length);
      const Reference want = reference(*decoder, documents, length);
      CHECK((want.tokens == 12 + 36 + 5 + 16 && want.bytes == 39 + 159 + 70 + 70));
      check_same(heldout(*decoder, documents, tokenizer(), "heldout", length, 0), want);
    }
  }
}

TEST_CASE("scores are per document too, with and without the adapter", "[heldout]") {
  const Documents documents = corpus();
  const Golden golden("llama");
  const auto decoder = golden.load();
  const HeldoutScore base = heldout(*decoder, documents, tokenizer(), "a", 16, 0);
  REQUIRE(base.document_nll.size() == 4);
  CHECK(base.document_bytes == std::vector<std::int64_t>{39, 159, 70, 70});
  const std::size_t scored[] = {0, 2, 4, 6};
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(base.document_nll[i] == Approx(reference(*decoder, documents, 16, scored[i], scored[i] + 1).nll).epsilon(1e-5));

  const auto adapters = golden.attach(*decoder);
  const HeldoutScore adapted = heldout(*decoder, documents, tokenizer(), "a", 16, 0);
  check_same(adapted, reference(*decoder, documents, 16));
  CHECK(std::abs(adapted.nll - base.nll) > 1);
  decoder->set_adapters_enabled(false);
  CHECK(heldout(*decoder, documents, tokenizer(), "a", 16, 0).nll == base.nll);

  const Json json = base.json();
  CHECK(json["set"] == "a");
  CHECK(json["tokens"] == 69);
  CHECK(json["bytes"] == 338);
  CHECK(json["documents"] == 4);
  CHECK(json["bits_per_byte"].get<double>() == base.bits_per_byte());
  CHECK(json["perplexity"].get<double>() == base.perplexity());
}

TEST_CASE("a limit on tokens ends at a document's end", "[heldout]") {
  const Documents documents = corpus();
  const auto decoder = Golden("llama").load();
  for (const auto& [limit, last] : {std::pair{1, 1}, {12, 1}, {13, 3}, {48, 3}, {49, 5}, {1000, 7}}) {
    INFO("limit " << limit);
    check_same(heldout(*decoder, documents, tokenizer(), "heldout", 16, limit),
               reference(*decoder, documents, 16, 0, static_cast<std::size_t>(last)));
  }
}

TEST_CASE("bits per byte are those of the bytes that are predicted", "[heldout]") {
  const auto id = [](const char* literal) { return tokenizer().find_token(literal).value(); };
  const std::int32_t bos = id("<|endoftext|>"), the = id(" the"), e = id("e"), t = id("t");
  FakeDecoder decoder(tokenizer().vocab_size());
  const auto bytes = [&](const Documents& documents) {
    const HeldoutScore score = heldout(decoder, documents, tokenizer(), "heldout", 16, 0);
    CHECK(score.bits_per_byte() == score.nll / std::log(2.0) / static_cast<double>(score.bytes));
    return score.document_bytes;
  };
  CHECK(bytes(Documents({{{e, t, e}, {}, 3}, {{bos, e, t, e}, {}, 3}, {{e, t, e}, {0, 0, 1}, 7}, {{the, e, t}, {}, 6}})) ==
        std::vector<std::int64_t>{2, 3, 7, 2});
  CHECK(bytes(Documents({{{t, e}, {}, 0}, {{t, e}, {}, 2}})) == std::vector<std::int64_t>{0, 1});  // a damaged count
}

TEST_CASE("a set without anything to predict is refused by name", "[heldout]") {
  const auto decoder = Golden("llama").load();
  const auto refusal = [&](const Documents& documents, std::int64_t length) {
    return message_of<UserError>([&] { heldout(*decoder, documents, tokenizer(), "wiki", length, 0); });
  };
  CHECK(refusal(Documents({}), 16) ==
        "the evaluation set 'wiki' has no token to predict in 0 documents; add documents to it or choose another set");
  CHECK(refusal(Documents({{made_up(1, 2), {}, 3}, {made_up(4, 2), {0, 0, 0, 0}, 3}}), 16) ==
        "the evaluation set 'wiki' has no token to predict in 2 documents; add documents to it or choose another set");
  CHECK(refusal(corpus(), 0) == "the evaluation window is 0 tokens; it must be at least 1");
}

}  // namespace graft::eval
