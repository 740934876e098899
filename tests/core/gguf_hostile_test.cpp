// Damaged and malicious GGUF files: refused with a reason, in little time and memory. The published attacks on other
// readers (notes/reliability.md 1.4) are rebuilt here.
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <functional>
#include <random>

#include "core/error.h"
#include "core/gguf.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

// Writes the format by hand, so that every field can lie.
struct Bytes {
  std::string data;
  template <class T>
  Bytes& put(T value) {
    data.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    put(std::uint64_t{value.size()});
    data += value;
    return *this;
  }
  Bytes& header(std::uint64_t tensors, std::uint64_t pairs, std::uint32_t version = 3) {
    data += "GGUF";
    return put(version).put(tensors).put(pairs);
  }
  Bytes& tensor(const std::string& name, std::vector<std::int64_t> sizes, std::int32_t type, std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(sizes.size()));
    for (std::int64_t size : sizes) put(size);
    return put(type).put(offset);
  }
  Bytes& body(std::size_t bytes) {
    data.resize((data.size() + 31) / 32 * 32 + bytes, '\x11');
    return *this;
  }
};

long peak_kib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// The refusal, without the file's name; "" when the file was accepted. Reads whatever an accepted file declares.
std::string refusal(const std::string& bytes) {
  const fs::path path = fs::temp_directory_path() / cat("graft-hostile-gguf-", getpid());
  fs::remove(path);  // truncating instead makes some file systems flush
  FILE* out = std::fopen(path.c_str(), "wb");
  std::fwrite(bytes.data(), 1, bytes.size(), out);
  std::fclose(out);
  const std::clock_t start = std::clock();
  const long before = peak_kib();
  std::string message;
  try {
    const GgufFile file(path);
    unsigned sum = 0;
    for (const GgufTensor& tensor : file.tensors())
      for (std::byte byte : file.data(tensor)) sum += static_cast<unsigned>(byte);
    volatile unsigned sink = sum;
    (void)sink;
  } catch (const FormatError& error) {
    message = error.what();
    CHECK(message.starts_with(path.string() + ": "));
    message.erase(0, path.string().size() + 2);
    CHECK(message.size() < 400);
  }
  CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 0.1);
  CHECK(peak_kib() - before < 64 << 10);
  return message;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string sample() { return read_file(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/core/sample.gguf"); }

}  // namespace

TEST_CASE("GGUF cut off at every byte", "[gguf][hostile]") {
  const std::string whole = sample();
  REQUIRE(refusal(whole).empty());
  const GgufFile file(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/core/sample.gguf");
  const std::size_t needed = file.tensors().back().offset + file.tensors().back().bytes;  // padding behind it may go
  for (std::size_t size = 0; size < needed; ++size) {
    INFO(size);
    CHECK_FALSE(refusal(whole.substr(0, size)).empty());
  }
}

TEST_CASE("GGUF with every bit flipped", "[gguf][hostile]") {
  const std::string whole = sample();
  const GgufFile file(fs::path(GRAFT_SOURCE_DIR) / "tests/golden/core/sample.gguf");
  const std::size_t header = file.tensors().front().offset;
  int refused = 0;
  for (std::size_t bit = 0; bit < header * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    refused += !refusal(damaged).empty();
  }
  CHECK(refused > 1000);  // the rest changes a name or a value within what the format allows
}

TEST_CASE("GGUF with random damage", "[gguf][hostile]") {
  const std::string whole = sample();
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random() % 5 ? random() : 0xFF);
    if (round % 3 == 0) damaged.erase(random() % damaged.size(), random() % 9);
    refusal(damaged);
  }
}

TEST_CASE("GGUF that is not one", "[gguf][hostile]") {
  CHECK(contains(refusal(""), "not a GGUF file"));
  CHECK(contains(refusal("GGU"), "not a GGUF file"));
  CHECK(contains(refusal("PK\x03\x04 a zip file"), "not a GGUF file"));
  CHECK(contains(refusal(Bytes().header(0, 0, 1).data), "GGUF version 1; this program reads 2 and 3"));
  CHECK(contains(refusal(Bytes().header(0, 0, 0x03000000).data), "(a big-endian file)"));
  CHECK(refusal(Bytes().header(0, 0).data).empty());
  CHECK(refusal(Bytes().header(0, 0, 2).data).empty());
}

TEST_CASE("GGUF with impossible counts", "[gguf][hostile]") {
  for (std::uint64_t count : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{1} << 32, std::uint64_t{2}}) {
    CHECK(contains(refusal(Bytes().header(count, 0).put(std::uint64_t{0}).data), cat(count, " tensors cannot fit")));
    CHECK(contains(refusal(Bytes().header(0, count).put(std::uint64_t{0}).data), cat(count, " metadata pairs cannot fit")));
    Bytes array = Bytes().header(0, 1).text("k").put(std::int32_t{9}).put(std::int32_t{8}).put(count);
    CHECK(contains(refusal(array.put(std::uint32_t{0}).data), cat(count, " array values cannot fit")));
    Bytes text = Bytes().header(0, 1).text("k").put(std::int32_t{8}).put(count);
    CHECK(contains(refusal(text.put(char{0}).data), cat("has ", count, " bytes, the file only 1 more")));
  }
  // The 43 bytes that hang gguf-py 0.19.0 (llama.cpp#27188): an array of 2^60 empty things.
  Bytes hang = Bytes().header(0, 1).text("abc").put(std::int32_t{9}).put(std::int32_t{9}).put(std::uint64_t{1} << 60);
  CHECK(contains(refusal(hang.data), "arrays of arrays are not accepted"));
  // Strings of length zero cost 8 bytes each, so their number is bounded by the file; a file that is long enough is
  // bounded too.
  Bytes many = Bytes().header(0, 1).text("k").put(std::int32_t{9}).put(std::int32_t{0}).put(std::uint64_t{(1 << 24) + 1});
  many.data.resize(many.data.size() + (1 << 24) + 1);
  CHECK(contains(refusal(many.data), "at most 16777216 are accepted"));
}

TEST_CASE("GGUF with impossible metadata", "[gguf][hostile]") {
  auto pair = [](std::int32_t type) { return Bytes().header(0, 1).text("k").put(type); };
  CHECK(contains(refusal(pair(13).put(std::uint64_t{0}).data), "metadata type 13 does not exist"));
  CHECK(contains(refusal(pair(-1).put(std::uint64_t{0}).data), "metadata type -1 does not exist"));
  CHECK(contains(refusal(pair(7).put(std::uint64_t{2}).data), "a truth value is 2, not 0 or 1"));
  auto array = [&](std::int32_t type) { return pair(9).put(type).put(std::uint64_t{1}); };
  CHECK(contains(refusal(array(9).put(std::uint64_t{0}).data), "arrays of arrays"));
  CHECK(contains(refusal(array(13).put(std::uint64_t{0}).data), "array element type 13 does not exist"));
  CHECK(contains(refusal(array(-5).put(std::uint64_t{0}).data), "array element type -5 does not exist"));
  CHECK(contains(refusal(array(10).put(~std::uint64_t{0}).data), "is above 2^63"));
  CHECK(contains(refusal(array(7).put(std::uint64_t{3}).data), "a truth value is 3"));
  CHECK(contains(refusal(Bytes().header(0, 1).text("").put(std::int32_t{0}).put(std::uint64_t{0}).data),
                 "a metadata key is empty"));
  CHECK(contains(refusal(Bytes().header(0, 1).text("\xff").put(std::int32_t{0}).put(std::uint64_t{0}).data),
                 "'\\xff' is not UTF-8"));
  CHECK(contains(refusal(Bytes().header(0, 1).text(std::string("a\0", 2)).put(std::int32_t{0}).put(std::uint64_t{0}).data),
                 "is not UTF-8"));
  CHECK(contains(refusal(Bytes().header(0, 1).text(std::string(2000, 'k')).put(std::int32_t{0}).put(std::uint64_t{0}).data),
                 "has 2000 bytes; at most 1024"));
  Bytes twice = Bytes().header(0, 2);
  for (int i = 0; i < 2; ++i) twice.text("same").put(std::int32_t{4}).put(std::uint32_t{1});
  CHECK(contains(refusal(twice.data), "the key 'same' is there twice"));
  for (std::uint32_t alignment : {0u, 3u, 1u << 17, 1u << 31}) {
    Bytes bytes = Bytes().header(0, 1).text("general.alignment").put(std::int32_t{4}).put(alignment);
    CHECK(contains(refusal(bytes.data), cat("general.alignment is ", alignment, "; a power of two up to 65536")));
  }
  Bytes bytes = Bytes().header(0, 1).text("general.alignment").put(std::int32_t{8}).text("32");
  CHECK(contains(refusal(bytes.data), "general.alignment is not an unsigned integer"));
}

TEST_CASE("GGUF with impossible tensors", "[gguf][hostile]") {
  auto one = [](std::vector<std::int64_t> sizes, std::int32_t type = 0, std::uint64_t offset = 0) {
    return refusal(Bytes().header(1, 0).tensor("w", sizes, type, offset).body(256).data);
  };
  const std::int64_t huge = std::int64_t{1} << 62;
  CHECK(one({8, 8}).empty());
  CHECK(contains(one({}), "tensor 'w': 0 dimensions; 1 to 4 are accepted"));
  CHECK(contains(one({1, 1, 1, 1, 1}), "5 dimensions"));
  CHECK(contains(one({0}), "dimension 0 has size 0"));
  CHECK(contains(one({4, -1}), "dimension 1 has size -1"));
  CHECK(contains(one({huge, 4}), "its number of elements overflows 64 bits"));
  CHECK(contains(one({1 << 30, 1 << 30, 1 << 30}), "overflows 64 bits"));
  CHECK(contains(one({huge}), "its size in bytes overflows 64 bits"));
  CHECK(contains(one({65}), "its 260 bytes end after the file's"));
  CHECK(contains(one({64}, 0, 32), "end after the file's"));
  CHECK(contains(one({64}, 0, ~std::uint64_t{31}), "end after the file's"));
  CHECK(contains(one({1}, 0, 4), "offset 4 is no multiple of the alignment 32"));
  CHECK(contains(one({33}, 8), "rows of 33 elements are no multiple of Q8_0's block of 32"));
  CHECK(contains(one({16, 16}, 12), "no multiple of Q4_K's block of 256"));
  for (std::int32_t type : {-1, 4, 5, 9, 24, 31, 1000}) CHECK(contains(one({32}, type), cat("GGML type ", type, " is not one")));

  Bytes overlap = Bytes().header(2, 0).tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 32).body(256);
  CHECK(contains(refusal(overlap.data), "tensors 'a' and 'b' overlap"));
  Bytes same = Bytes().header(2, 0).tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32).body(256);
  CHECK(contains(refusal(same.data), "the tensor 'a' is there twice"));
  Bytes name = Bytes().header(1, 0).tensor("../\x1b[31m", {8}, 0, 4).body(64);
  CHECK(contains(refusal(name.data), "tensor '../\\x1b[31m'"));
  Bytes last = Bytes().header(1, 0).tensor("a", {8}, 0, 0).body(31);
  CHECK(contains(refusal(last.data), "end after the file's"));
}

TEST_CASE("what is no regular file is no GGUF", "[gguf][hostile]") {
  CHECK_THROWS_AS(GgufFile("/dev/null"), UserError);
  CHECK_THROWS_AS(GgufFile("/"), UserError);
  CHECK_THROWS_WITH(GgufFile("/nonexistent/x.gguf"), "cannot open /nonexistent/x.gguf: No such file or directory");
}
