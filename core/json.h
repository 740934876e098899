// JSON from disk, bounded: size and nesting are limited before parsing, and a syntax error names the file and the position.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace graft {

using Json = nlohmann::ordered_json;

// Throws FormatError "<origin>: byte <n>: <reason>" on a syntax error, nesting above 64, or invalid UTF-8.
Json parse_json(std::string_view text, const std::string& origin);
Json read_json(const std::filesystem::path& file, std::uint64_t max_bytes = 256ull << 20);

// Typed access with a FormatError that names origin, key and both types.
template <class T>
T json_get(const Json& object, const char* key, const std::string& origin);
template <class T>
T json_get_or(const Json& object, const char* key, T fallback, const std::string& origin);

}  // namespace graft
