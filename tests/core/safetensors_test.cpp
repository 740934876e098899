#include "core/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <ctime>
#include <random>
#include <stdexcept>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

const fs::path kSample = fs::path(GRAFT_SOURCE_DIR) / "tests/golden/core/sample.safetensors";

fs::path scratch() { return fs::temp_directory_path() / cat("graft-safetensors-", getpid()); }

std::string with_header(const std::string& json, std::size_t data) {
  std::string bytes(8, '\0');
  const std::uint64_t size = json.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + json + std::string(data, '\x11');
}

// The refusal without the file's name; "" when the file was accepted.
std::string refusal(const std::string& bytes) {
  fs::remove(scratch());  // truncating instead makes some file systems flush
  FILE* out = std::fopen(scratch().c_str(), "wb");
  std::fwrite(bytes.data(), 1, bytes.size(), out);
  std::fclose(out);
  const std::clock_t start = std::clock();
  std::string message;
  try {
    const SafetensorsFile file(scratch());
    for (const auto& [name, tensor] : file.tensors()) CHECK(file.data(tensor).size() == tensor.end - tensor.begin);
  } catch (const FormatError& error) {
    message = error.what();
    CHECK(message.starts_with(scratch().string() + ": "));
    message.erase(0, scratch().string().size() + 2);
    CHECK(message.size() < 500);
  }
  CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 0.1);
  return message;
}
std::string refusal(const std::string& json, std::size_t data) { return refusal(with_header(json, data)); }

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a safetensors file of the reference's writer is read", "[safetensors]") {
  const SafetensorsFile file(kSample);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(file.tensors().size() == 4);
  const SafeTensor& b = file.tensors().at("b");
  CHECK(b.dtype == DType::f32);
  CHECK(b.shape == std::vector<std::int64_t>{2, 3});
  float values[6];
  std::memcpy(values, file.data(b).data(), sizeof values);
  for (int i = 0; i < 6; ++i) CHECK(values[i] == static_cast<float>(i));
  CHECK(file.tensors().at("c").shape.empty());
  CHECK(file.data(file.tensors().at("c"))[0] == std::byte{7});
  CHECK(file.data(file.tensors().at("empty")).empty());
  CHECK(file.tensors().at("empty").shape == std::vector<std::int64_t>{0, 5});
}

TEST_CASE("our writer makes the same safetensors file, byte for byte", "[safetensors]") {
  const SafetensorsFile golden(kSample);
  SafetensorsWriter writer(scratch());
  for (const char* name : {"empty", "b", "a", "c"})
    writer.tensor(name, golden.tensors().at(name).dtype, golden.tensors().at(name).shape);
  for (const char* name : {"empty", "b", "a", "c"}) {
    const auto bytes = golden.data(golden.tensors().at(name));
    for (std::size_t i = 0; i < bytes.size(); ++i) writer.data(name, &bytes[i], 1);
  }
  const std::string hash = writer.commit();
  CHECK(read_file(scratch()) == read_file(kSample));
  CHECK(hash == sha256_file(scratch()));
}

TEST_CASE("tensors of a safetensors file may come in any order and in pieces", "[safetensors]") {
  const SafetensorsFile golden(kSample);
  const std::vector<std::string> names = {"empty", "b", "a", "c"};
  SafetensorsWriter writer(scratch());
  for (const std::string& name : names) writer.tensor(name, golden.tensors().at(name).dtype, golden.tensors().at(name).shape);
  writer.start();
  for (std::size_t k = names.size(); k-- > 0;) {
    const auto bytes = golden.data(golden.tensors().at(names[k]));
    for (std::size_t i = bytes.size(); i-- > 0;) writer.place(k, i, &bytes[i], 1);
  }
  const std::string hash = writer.commit();
  CHECK(hash == sha256_file(scratch()));
  CHECK(read_file(scratch()) == read_file(kSample));

  fs::remove(scratch());
  {
    SafetensorsWriter wrong(scratch());
    wrong.tensor("a", DType::f32, {2});
    wrong.start();
    const float data[4] = {};
    CHECK_THROWS_AS(wrong.place(0, 4, data, 8), std::logic_error);
    CHECK_THROWS_AS(wrong.place(0, 12, data, 0), std::logic_error);
    wrong.place(0, 4, data, 4);
    CHECK_THROWS_AS(wrong.commit(), std::logic_error);
  }
  CHECK_FALSE(fs::exists(scratch()));
}

TEST_CASE("a safetensors writer used wrongly stops", "[safetensors]") {
  fs::remove(scratch());
  {
    SafetensorsWriter writer(scratch());
    writer.tensor("a", DType::f32, {2});
    writer.tensor("b", DType::f32, {2});
    const float data[4] = {};
    CHECK_THROWS_AS(writer.data("b", data, 8), std::logic_error);
    CHECK_THROWS_AS(writer.data("a", data, 12), std::logic_error);
    writer.data("a", data, 8);
    CHECK_THROWS_AS(writer.tensor("c", DType::f32, {2}), std::logic_error);
    CHECK_THROWS_AS(writer.commit(), std::logic_error);
  }
  CHECK_FALSE(fs::exists(scratch()));
}

TEST_CASE("safetensors cut off at every byte, with every bit flipped, with random damage", "[safetensors][hostile]") {
  const std::string whole = read_file(kSample);
  REQUIRE(refusal(whole).empty());
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(refusal(whole.substr(0, size)).empty());
  CHECK(contains(refusal(whole + "x"), "the header describes 33 bytes of data, the file has 34"));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    refusal(damaged);
  }
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3; ++i) damaged[8 + random() % (damaged.size() - 8)] = "0123456789[]{},:\"-\\e."[random() % 21];
    refusal(damaged);
  }
}

TEST_CASE("malicious safetensors", "[safetensors][hostile]") {
  CHECK(contains(refusal(""), "too few"));
  CHECK(contains(refusal(std::string(8, '\xff')), "the header claims 18446744073709551615 bytes; at most 100000000"));
  CHECK(contains(refusal(std::string("\x05\0\0\0\0\0\0\0{}", 10)), "the header claims 5 bytes, the file has 2 more"));
  CHECK(contains(refusal("", 0), "does not begin with '{'"));
  CHECK(contains(refusal(" {}", 0), "does not begin with '{'"));
  CHECK(refusal("{}", 0).empty());
  CHECK(refusal("{}   ", 0).empty());
  CHECK(contains(refusal("{", 0), "header: byte 2: syntax error"));
  CHECK(contains(refusal("{\"a\":\"\xff\"}", 0), "ill-formed UTF-8"));
  CHECK(contains(refusal("{\"a\":" + std::string(80000, '['), 0), "nested deeper than 64 levels"));

  auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets, std::size_t data) {
    return refusal("{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}", data);
  };
  CHECK(tensor("F32", "[2,3]", "[0,24]", 24).empty());
  CHECK(contains(tensor("F32", "[2,3]", "[0,20]", 20), "tensor 'w': shape and element type take 24 bytes, data_offsets say 20"));
  CHECK(contains(tensor("F32", "[4294967296,4294967296]", "[0,0]", 0), "its size overflows 64 bits"));
  CHECK(contains(tensor("U8", "[9223372036854775807,2]", "[0,18446744073709551614]", 8), "leave the file's 8 bytes"));
  CHECK(contains(tensor("U8", "[9223372036854775808]", "[0,8]", 8), "'shape' is the number 9223372036854775808"));
  CHECK(contains(tensor("F32", "[-1]", "[0,4]", 4), "a dimension has size -1"));
  CHECK(contains(tensor("F32", "[1.0]", "[0,4]", 4), "'shape' is the number 1.0 where an integer is expected"));
  CHECK(contains(tensor("F32", "[true]", "[0,4]", 4), "'shape' is true or false"));
  CHECK(contains(tensor("F32", "[1]", "[4,0]", 4), "data_offsets [4, 0] leave"));
  CHECK(contains(tensor("F32", "[1]", "[-4,0]", 4), "'data_offsets' is the number -4"));
  CHECK(contains(tensor("F32", "[1]", "[0,8]", 4), "data_offsets [0, 8] leave the file's 4 bytes of data"));
  CHECK(contains(tensor("F32", "[1]", "[0]", 4), "1 numbers instead of 2"));
  CHECK(contains(tensor("F32", "[1]", "[0,4]", 8), "the header describes 4 bytes of data, the file has 8"));
  CHECK(contains(tensor("F32", "[1]", "[4,8]", 8), "leaving a hole after 0"));
  CHECK(contains(tensor("F33", "[1]", "[0,4]", 4), "unknown element type 'F33'"));
  CHECK(contains(tensor("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]", 4), "17 dimensions"));
  CHECK(contains(refusal("{\"w\":3}", 0), "where an object with 'dtype' is expected"));
  CHECK(contains(refusal("{\"w\":{}}", 0), "'dtype' is missing"));
  CHECK(contains(refusal("{\"__metadata__\":{\"a\":1}}", 0), "where a string is expected"));

  const std::string entry = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
  CHECK(contains(refusal("{\"a\":" + entry + ",\"a\":" + entry + "}", 4), "key 'a' is there twice"));
  CHECK(contains(refusal("{\"a\":" + entry + ",\"b\":" + entry + "}", 4),
                 "'b' begins at byte 0 of the data, inside the one before it"));
  // An empty tensor may not hide inside another (the alias that the reference accepts).
  const std::string inner = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}";
  CHECK(contains(refusal("{\"a\":" + entry + ",\"b\":" + inner + "}", 4), "'b' begins at byte 2 of the data, inside"));
  CHECK(contains(refusal("{\"../../x\\u001b\":" + entry + "}", 5), "the header describes 4"));
}
