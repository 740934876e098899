// SentencePiece models read without the library; hostile ones refused.
#include "core/file.h"
#include "export/spm_pieces.h"
#include "tests/export/support.h"
#include "tests/support/catch.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("pieces of a real model", "[export][spm]") {
  const auto pieces = exports::read_spm_pieces(golden("mistral") / "base/tokenizer.model");
  REQUIRE(pieces.size() == 340);
  CHECK(pieces[0].text == "<unk>");
  CHECK(pieces[0].type == 2);
  CHECK(pieces[3].text == "<ctl>");
  CHECK(pieces[3].type == 3);
  CHECK(pieces[4].type == 4);
  CHECK(pieces[5].text == "<0x00>");
  CHECK(pieces[5].type == 6);
}

TEST_CASE("every truncation and every flipped byte is read or refused, never worse", "[export][spm]") {
  const std::string good = read_file(golden("mistral") / "base/tokenizer.model");
  const ScratchDirectory directory;
  const auto survives = [&](const std::string& bytes) {
    write_file(directory / "m.model", bytes);
    try {
      exports::read_spm_pieces(directory / "m.model");
    } catch (const FormatError& error) {
      CHECK(std::string(error.what()).find("m.model") != std::string::npos);
    }
  };
  for (std::size_t size = 0; size < good.size(); size += 97) survives(good.substr(0, size));
  for (std::size_t at = 0; at < good.size(); at += 89) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0xFF);
    survives(bad);
  }
  write_file(directory / "m.model", std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11));
  CHECK(message_of<FormatError>([&] { exports::read_spm_pieces(directory / "m.model"); }).find("a field is longer than what holds it") !=
        std::string::npos);
}
