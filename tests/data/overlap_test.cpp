// Overlap of held-out with trained documents, against the plainest search.
#include "data/overlap.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/documents.h"

namespace graft::data {
namespace {

using testing::Documents;
using testing::made_up;
using Tokens = std::vector<std::int32_t>;

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Documents texts(const std::vector<Tokens>& all) {
  std::vector<Documents::Text> out;
  for (const Tokens& tokens : all) out.push_back({tokens, {}, tokens.size()});
  return Documents(std::move(out));
}

// Each different run of 13 tokens with loss, or shorter stretch of such, of the text.
std::set<Tokens> runs_of(const Documents::Text& text) {
  std::set<Tokens> runs;
  Tokens stretch;
  for (std::size_t i = 0; i <= text.tokens.size(); ++i) {
    if (i < text.tokens.size() && (text.loss.empty() || text.loss[i] != 0)) {
      stretch.push_back(text.tokens[i]);
      continue;
    }
    if (!stretch.empty() && stretch.size() < 13) runs.insert(stretch);
    for (std::size_t begin = 0; begin + 13 <= stretch.size(); ++begin)
      runs.insert(Tokens(stretch.begin() + static_cast<std::ptrdiff_t>(begin),
                         stretch.begin() + static_cast<std::ptrdiff_t>(begin + 13)));
    stretch.clear();
  }
  return runs;
}

std::vector<double> reference(const Documents& heldout, const Documents& training) {
  std::set<Tokens> trained;
  for (const auto& text : training.texts()) trained.merge(runs_of(text));
  std::vector<double> shares;
  for (const auto& text : heldout.texts()) {
    const std::set<Tokens> runs = runs_of(text);
    const auto known = std::ranges::count_if(runs, [&](const Tokens& run) { return trained.contains(run); });
    shares.push_back(runs.empty() ? 0 : static_cast<double>(known) / static_cast<double>(runs.size()));
  }
  return shares;
}

std::vector<double> overlap_of_all(const Documents& heldout, const Documents& training) {
  std::vector<std::int64_t> documents(static_cast<std::size_t>(heldout.documents()));
  std::iota(documents.begin(), documents.end(), std::int64_t{0});
  return overlap(heldout, documents, training);
}

}  // namespace

TEST_CASE("overlap is the share of a document's runs of 13 tokens that are trained on", "[overlap]") {
  const Tokens page = made_up(70, 1), other = made_up(60, 2), news = made_up(40, 3), note = made_up(5, 4);
  Tokens edited = page;
  edited[40] = 7777;  // another date: the 13 runs over it are new
  const auto part = [](const Tokens& from, std::ptrdiff_t begin, std::ptrdiff_t end) {
    return Tokens(from.begin() + begin, from.begin() + end);
  };
  const Documents training = texts({page, {}, other, note});
  const Documents heldout = texts({page,
                                   edited,
                                   news,
                                   news + part(other, 10, 40),
                                   part(other, 0, 13),
                                   part(other, 0, 12),
                                   note,
                                   {},
                                   part(page, 60, 70) + part(other, 0, 10),  // two documents of training side by side
                                   Tokens(60, 9) + part(page, 0, 20)});      // one run again and again counts once
  const std::vector<double> shares = overlap_of_all(heldout, training);
  CHECK(shares == reference(heldout, training));
  CHECK(shares[0] == 1);
  CHECK(shares[1] == 45.0 / 58);
  CHECK(shares[2] == 0);
  CHECK(shares[4] == 1);  // one run
  CHECK(shares[5] == 0);  // a stretch that is no document's
  CHECK(shares[6] == 1);
  CHECK(shares[8] == 0);
  CHECK(shares[9] == 8.0 / 21);
  const std::vector<std::int64_t> some = {9, 1};
  CHECK(overlap(heldout, some, training) == std::vector<double>{shares[9], shares[1]});
}

TEST_CASE("overlap leaves out what carries no loss", "[overlap]") {
  const Tokens system = made_up(60, 1), question = made_up(40, 2), answer = made_up(50, 3), reply = made_up(50, 4), yes = {5, 6};
  const auto mask = [](std::size_t answered) {
    std::vector<std::uint8_t> loss(100, 0);
    loss.resize(100 + answered, 1);
    return loss;
  };
  const Documents training({{system + question + answer, mask(50), 50}, {system + question + yes, mask(2), 2}});
  const Documents heldout({{system + question + reply, mask(50), 50},         // the same question, another answer
                           {system + made_up(40, 5) + answer, mask(50), 50},  // another question, the same answer
                           {system + made_up(40, 6) + yes, mask(2), 2},
                           {system + question + reply, {}, 150}});  // as text: what training read without loss is not learned
  CHECK(overlap_of_all(heldout, training) == std::vector<double>{0, 1, 1, 0});
  CHECK(overlap_of_all(heldout, training) == reference(heldout, training));
}

TEST_CASE("overlap of long documents is that of a sample of their runs, whatever the others are", "[overlap]") {
  std::vector<Tokens> trained, asked;
  for (std::uint64_t d = 0; d < 20; ++d) {
    trained.push_back(made_up(4000, 100 + d));
    const Tokens half(trained.back().begin(), trained.back().begin() + 2000);
    asked.push_back(d % 2 == 0 ? made_up(4000, 300 + d) : half + made_up(2000, 500 + d));
  }
  asked.push_back(made_up(30, 900));
  trained.push_back(asked.back());
  const auto shares = overlap_of_all(texts(asked), texts(trained));
  for (std::size_t d = 0; d < 20; ++d) {
    // A sample of 64 with p = 1/2: four standard deviations are 0.25.
    if (d % 2 == 0) CHECK(shares[d] == 0);
    if (d % 2 == 1) CHECK(shares[d] == Approx(0.5).margin(0.25));
  }
  CHECK(shares[20] == 1);
  CHECK(shares == overlap_of_all(texts(asked), texts(trained)));
}

}  // namespace graft::data
