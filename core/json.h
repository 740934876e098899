// JSON from disk, bounded: size, nesting and the number of values are limited, and a syntax error names the file and
// the position.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace graft {

using Json = nlohmann::ordered_json;

inline constexpr int kJsonNesting = 64;

// FormatError "<origin>: byte <n>: <reason>" on a syntax error, nesting above 64, a duplicate key, invalid UTF-8, or
// more than max_values values (each costs some 50 bytes of memory). The reason never quotes the text.
Json parse_json(std::string_view text, const std::string& origin, std::size_t max_values = std::size_t{1} << 25);
Json read_json(const std::filesystem::path& file, std::uint64_t max_bytes = 256ull << 20);

// object[key] as T: bool, a number type (integers must be whole and in range), string, Json, or a vector or
// string-keyed map of these. FormatError "<origin>: 'key' is missing" or "<origin>: 'key' is a string where an integer
// is expected".
template <class T>
T json_get(const Json& object, const char* key, const std::string& origin);
// The same, or fallback when the key is absent or null.
template <class T>
T json_get_or(const Json& object, const char* key, T fallback, const std::string& origin);

namespace json_detail {

[[noreturn]] void throw_missing(const std::string& origin, const char* key);
[[noreturn]] void throw_mismatch(const std::string& origin, const char* key, const Json& value, const char* expected);

template <class T>
struct Element {
  using Inner = void;
};
template <class T>
struct Element<std::vector<T>> {
  using Inner = T;
};
template <class T>
struct Element<std::map<std::string, T>> {
  using Inner = T;
};

template <class T>
T convert(const Json& value, const char* key, const std::string& origin) {
  using Inner = typename Element<T>::Inner;
  if constexpr (std::is_same_v<T, Json>) {
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!value.is_boolean()) throw_mismatch(origin, key, value, "true or false");
    return value.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (value.is_number_unsigned() && std::in_range<T>(value.get<std::uint64_t>())) return value.get<T>();
    if (value.is_number_integer() && !value.is_number_unsigned() && std::in_range<T>(value.get<std::int64_t>()))
      return value.get<T>();
    throw_mismatch(origin, key, value, "an integer");
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!value.is_number()) throw_mismatch(origin, key, value, "a number");
    return value.get<T>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) throw_mismatch(origin, key, value, "a string");
    return value.get<std::string>();
  } else if constexpr (std::is_same_v<T, std::vector<Inner>>) {
    if (!value.is_array()) throw_mismatch(origin, key, value, "a list");
    T out;
    out.reserve(value.size());
    for (const Json& item : value) out.push_back(convert<Inner>(item, key, origin));
    return out;
  } else {
    static_assert(std::is_same_v<T, std::map<std::string, Inner>>, "not a type that json_get reads");
    if (!value.is_object()) throw_mismatch(origin, key, value, "an object");
    T out;
    for (const auto& [name, item] : value.items()) out.emplace(name, convert<Inner>(item, key, origin));
    return out;
  }
}

// The value, or null when object is an object without it.
const Json* find(const Json& object, const char* key, const std::string& origin);

}  // namespace json_detail

template <class T>
T json_get(const Json& object, const char* key, const std::string& origin) {
  const Json* value = json_detail::find(object, key, origin);
  if (!value) json_detail::throw_missing(origin, key);
  return json_detail::convert<T>(*value, key, origin);
}

template <class T>
T json_get_or(const Json& object, const char* key, T fallback, const std::string& origin) {
  const Json* value = json_detail::find(object, key, origin);
  if (!value || value->is_null()) return fallback;
  return json_detail::convert<T>(*value, key, origin);
}

}  // namespace graft
