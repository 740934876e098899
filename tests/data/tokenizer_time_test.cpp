// Text made to be slow: a million bytes without a place to cut, runs of one character, marks on marks. CPU time grows with the
// length, and a byte costs at most three times what a byte of prose costs that the tokenizer has not seen before.
#ifndef __SANITIZE_ADDRESS__  // whose time is not the program's
#include <random>

#include "data/tokenizer.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

constexpr std::size_t kBytes = 1'000'000;

std::string repeated(std::string_view part, std::size_t bytes = kBytes) {
  std::string out;
  while (out.size() < bytes) out += part;
  return out;
}

// Words of letters as frequent as in English, no two stretches alike: no cache knows them.
std::string prose() {
  std::mt19937 random(1);
  const std::string letters = "eeeeeeeeeeeetttttttttaaaaaaaaooooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddlllccuummwwffggyyppbbvk";
  std::string out;
  while (out.size() < kBytes) {
    for (unsigned n = 1 + random() % 9; n > 0; --n) out += letters[random() % letters.size()];
    out += random() % 12 ? " " : ".\n";
  }
  return out;
}

double seconds_per_byte(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  double best = 1e9;
  for (int round = 0; round < 2; ++round) {
    ids.clear();
    const double begin = cpu_seconds();
    tokenizer.encode(text, ids);
    best = std::min(best, cpu_seconds() - begin);
  }
  CHECK_FALSE(ids.empty());
  return best / static_cast<double>(text.size());
}

}  // namespace

TEST_CASE("pathological text costs its length", "[tokenizer][time]") {
  std::mt19937 random(2);
  std::string unbroken, newlines_and_spaces;
  while (unbroken.size() < kBytes) unbroken += static_cast<char>('a' + random() % 10);
  while (newlines_and_spaces.size() < kBytes) newlines_and_spaces += " \n\t"[random() % 3];
  const std::pair<const char*, std::string> texts[] = {
      {"underscores", repeated("_")},
      {"one letter", repeated("a")},
      {"spaces", repeated(" ")},
      {"newlines", repeated("\n")},
      {"white space", newlines_and_spaces},
      {"no spaces", unbroken},
      {"digits", repeated("1")},
      {"emoji", repeated("\U0001F600")},
      {"joined emoji", repeated("\U0001F469\u200D\U0001F469\u200D\U0001F467")},
      {"one letter with marks", "a" + repeated("\u0301")},
      {"marks in the wrong order", repeated("e\u0323\u0307\u0301\u0323\u0307\u0301")},
      {"Hangul parts", repeated("\u1100")},
      {"ideographs", repeated("\u65e5\u672c\u8a9e")},
      {"apostrophes", repeated("'")},
      {"markers", repeated("<|im_start|>")},
      {"cut markers", repeated("<|im_")},
      {"nul", std::string(kBytes, '\0')},
      {"escaped space", repeated("\u2581")}};
  const std::string plain = prose();
  for (const char* name : {"gpt2", "smollm", "llama3", "qwen2", "tekken", "llama2", "gemma"}) {
    const auto tokenizer = load_tokenizer(golden(cat("tokenizers/", name)));
    const double usual = seconds_per_byte(*tokenizer, plain);
    for (const auto& [kind, text] : texts) {
      INFO(name << ", " << kind);
      const double cost = seconds_per_byte(*tokenizer, text),
                   tenth = seconds_per_byte(*tokenizer, std::string_view(text).substr(0, kBytes / 10 / 12 * 12));
      INFO(cost * 1e9 << " ns per byte, " << tenth * 1e9 << " for a tenth of it, " << usual * 1e9 << " for prose");
      CHECK(cost < 3 * tenth + 5e-9);
      CHECK(cost < 3 * usual);
    }
  }
}
#endif
