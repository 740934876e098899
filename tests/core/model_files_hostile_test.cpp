// Whole model files with damage anywhere: cut at a thousand points, ten thousand flipped bits. Whatever is read is inside the
// file.
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <random>

#include "core/error.h"
#include "core/gguf.h"
#include "core/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/golden_paths.h"

using namespace graft;

namespace {

struct Outcome {
  int accepted = 0, refused = 0;
};

// Opens the bytes as a file and reads all that it declares. Anything but a FormatError with a reason fails the test.
template <class Open>
void attempt(const std::string& bytes, const Open& open, Outcome& outcome) {
  const fs::path path = fs::temp_directory_path() / cat("graft-damaged-", getpid());
  fs::remove(path);  // truncating instead makes some file systems flush
  FILE* out = std::fopen(path.c_str(), "wb");
  REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size());
  std::fclose(out);
  const std::clock_t start = std::clock();
  try {
    open(path);
    ++outcome.accepted;
  } catch (const FormatError& error) {
    const std::string message = error.what();
    if (!message.starts_with(path.string() + ": ") || message.size() > 500) FAIL(message);
    ++outcome.refused;
  }
  if (static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC > 0.5) FAIL("took too long");
  fs::remove(path);
}

unsigned sum_of(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (std::byte byte : bytes) sum += static_cast<unsigned>(byte);
  return sum;
}

void open_safetensors(const fs::path& path) {
  const SafetensorsFile file(path);
  volatile unsigned sink = 0;
  for (const auto& [name, tensor] : file.tensors()) sink = sink + sum_of(file.data(tensor));
}

void open_gguf(const fs::path& path) {
  const GgufFile file(path);
  volatile unsigned sink = 0;
  for (const GgufTensor& tensor : file.tensors()) sink = sink + sum_of(file.data(tensor));
}

template <class Open>
void damage(const std::string& whole, std::size_t header, const Open& open) {
  Outcome intact;
  attempt(whole, open, intact);
  REQUIRE(intact.accepted == 1);
  std::mt19937 random(11);
  Outcome cut;
  for (int i = 0; i < 1000; ++i) attempt(whole.substr(0, random() % whole.size()), open, cut);
  CHECK(cut.refused == 1000);
  Outcome flipped;
  for (int i = 0; i < 10000; ++i) {  // two of three in the header, where they hurt
    std::string damaged = whole;
    const std::size_t at = random() % (i % 3 ? header : whole.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    attempt(damaged, open, flipped);
  }
  CHECK(flipped.refused > 3000);  // the others change a weight, a name or a number within what the format allows
}

}  // namespace

TEST_CASE("damaged safetensors models", "[safetensors][hostile]") {
  const std::string whole = read_file(testing::golden_model("llama") / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  damage(whole, 8 + header, open_safetensors);
}

TEST_CASE("damaged GGUF models", "[gguf][hostile]") {
  const fs::path path = testing::golden_model("mixtral") / "model.gguf";
  std::string whole = read_file(path);
  const GgufFile file(path);
  const GgufTensor& last = file.tensors().back();
  whole.resize(last.offset + last.bytes);  // without the padding behind the last tensor
  damage(whole, file.tensors().front().offset, open_gguf);
}

TEST_CASE("every element type decodes any bytes there are", "[gguf][hostile]") {
  std::mt19937 random(4);
  for (GgmlType type : {GgmlType::f32, GgmlType::f16, GgmlType::bf16, GgmlType::q8_0, GgmlType::q4_0, GgmlType::q4_1,
                        GgmlType::q5_0, GgmlType::q5_1, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k}) {
    const GgmlTypeInfo& info = info_of(type);
    // Exactly as many bytes and floats as it takes: a sanitizer sees one too many.
    for (int round = 0; round < 50; ++round) {
      std::vector<std::byte> block(static_cast<std::size_t>(3 * info.bytes));
      for (std::byte& byte : block) byte = static_cast<std::byte>(round == 0 ? 0xFF : random());
      std::vector<float> out(static_cast<std::size_t>(3 * info.block));
      dequantize(type, block.data(), 3 * info.block, out.data());
    }
  }
}
