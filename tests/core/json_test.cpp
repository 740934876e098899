#include "core/json.h"

#include <unistd.h>

#include <ctime>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"

using namespace graft;

namespace {

std::string refusal(const std::string& text) {
  try {
    parse_json(text, "f");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("JSON keeps order and values", "[json]") {
  const std::string text = R"({"z":1,"a":[true,null,-2,1.5,"é\u00e9\n"],"m":{"k":{}},"big":18446744073709551615})";
  CHECK(parse_json(text, "f") == Json::parse(text));
  CHECK(parse_json(text, "f").dump() == Json::parse(text).dump());
  CHECK(parse_json(" 3 ", "f") == 3);
  CHECK(parse_json("\xef\xbb\xbf[]", "f") == Json::array());
}

TEST_CASE("JSON errors name the place and the reason, never the text", "[json]") {
  CHECK(refusal("{\"a\": secret}") == "f: byte 7: syntax error while parsing value - invalid literal");
  CHECK(refusal("[1, 2").starts_with("f: byte 6: syntax error while parsing array - unexpected end of input"));
  CHECK(refusal("").starts_with("f: byte 1: syntax error"));
  CHECK(refusal("{\"a\":1 \"secret\":2}").find("secret") == std::string::npos);
  CHECK(refusal("[\"secret; expected x\xff\"]").find("secret") == std::string::npos);
  CHECK(refusal("[\"x; expected secret\x01\"]").find("secret") == std::string::npos);
  CHECK(refusal("[\"\xff\"]").find("ill-formed UTF-8") != std::string::npos);
  CHECK(refusal("[1e999]") == "f: byte 6: a number is out of range");
  CHECK(refusal("[1] 2").starts_with("f: byte 5: "));
  CHECK(refusal("{\"a\":1,\"b\":2,\"a\":3}") == "f: key 'a' is there twice");
  CHECK(refusal(std::string(64, '[') + std::string(64, ']')).empty());
  CHECK(refusal(std::string(65, '[') + std::string(65, ']')) == "f: nested deeper than 64 levels");
  CHECK(refusal(std::string(1 << 20, '[')) == "f: nested deeper than 64 levels");
  CHECK_THROWS_WITH(parse_json("[1,2,3]", "f", 3), "f: too many values");
  CHECK_NOTHROW(parse_json("[1,2,3]", "f", 4));
}

TEST_CASE("a large vocabulary is read in linear time", "[json]") {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += cat(i ? "," : "", "\"token", i, "\":", i);
  text += "}";
  const std::clock_t start = std::clock();
  CHECK(parse_json(text, "f").size() == 200000);
  CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 2);
}

TEST_CASE("damaged JSON is refused or read, never worse", "[json]") {
  const std::string whole = R"({"a":[1,-2.5e3,"x\u00e9\"",{"b":null}],"c":true})";
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text = whole;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    const std::string message = refusal(text);
    if (message.empty()) CHECK(Json::accept(text));
  }
}

TEST_CASE("typed access to JSON", "[json]") {
  const Json json = parse_json(
      R"({"i":-3,"u":18446744073709551615,"d":2.5,"b":true,"s":"x","n":null,"v":[1,2],"m":{"k":"v"},"whole":2.0})", "f");
  CHECK(json_get<int>(json, "i", "f") == -3);
  CHECK(json_get<std::uint64_t>(json, "u", "f") == 18446744073709551615u);
  CHECK(json_get<double>(json, "d", "f") == 2.5);
  CHECK(json_get<double>(json, "i", "f") == -3);
  CHECK(json_get<bool>(json, "b", "f"));
  CHECK(json_get<std::string>(json, "s", "f") == "x");
  CHECK(json_get<std::vector<int>>(json, "v", "f") == std::vector<int>{1, 2});
  CHECK(json_get<std::map<std::string, std::string>>(json, "m", "f").at("k") == "v");
  CHECK(json_get<Json>(json, "m", "f").dump() == R"({"k":"v"})");
  CHECK(json_get_or<int>(json, "absent", 7, "f") == 7);
  CHECK(json_get_or<int>(json, "n", 7, "f") == 7);
  CHECK(json_get_or<int>(json, "i", 7, "f") == -3);

  CHECK_THROWS_WITH(json_get<int>(json, "absent", "f"), "f: 'absent' is missing");
  CHECK_THROWS_WITH(json_get<int>(json, "s", "f"), "f: 's' is a string where an integer is expected");
  CHECK_THROWS_WITH(json_get<int>(json, "whole", "f"), "f: 'whole' is the number 2.0 where an integer is expected");
  CHECK_THROWS_WITH(json_get<int>(json, "b", "f"), "f: 'b' is true or false where an integer is expected");
  CHECK_THROWS_WITH(json_get<std::int64_t>(json, "u", "f"),
                    "f: 'u' is the number 18446744073709551615 where an integer is expected");
  CHECK_THROWS_WITH(json_get<unsigned>(json, "i", "f"), "f: 'i' is the number -3 where an integer is expected");
  CHECK_THROWS_WITH(json_get<bool>(json, "i", "f"), "f: 'i' is the number -3 where true or false is expected");
  CHECK_THROWS_WITH(json_get<double>(json, "s", "f"), "f: 's' is a string where a number is expected");
  CHECK_THROWS_WITH(json_get<std::string>(json, "n", "f"), "f: 'n' is null where a string is expected");
  CHECK_THROWS_WITH(json_get<std::vector<int>>(json, "m", "f"), "f: 'm' is an object where a list is expected");
  CHECK_THROWS_WITH(json_get<std::vector<std::string>>(json, "v", "f"), "f: 'v' is the number 1 where a string is expected");
  CHECK_THROWS_WITH(json_get<int>(Json(3), "k", "f"), "f: found a number where an object with 'k' is expected");
}

TEST_CASE("JSON files are bounded", "[json]") {
  const fs::path path = fs::temp_directory_path() / cat("graft-json-", getpid());
  write_file(path, "{\"a\": 1}");
  CHECK(read_json(path).at("a") == 1);
  CHECK_THROWS_AS(read_json(path, 4), FormatError);
  write_file(path, "{\"a\"");
  CHECK_THROWS_WITH(read_json(path), Catch::StartsWith(path.string() + ": byte 5: "));
  fs::remove(path);
}
