#include <utility>

#include "core/error.h"
#include "core/gguf.h"

namespace graft {
namespace {

const GgufPair& require(const GgufFile& file, const std::string& key) {
  const auto at = file.pairs().find(key);
  if (at == file.pairs().end()) throw FormatError(cat(file.path().string(), ": the key ", quote(key), " is missing"));
  return at->second;
}

[[noreturn]] void mismatch(const GgufFile& file, const std::string& key, const char* expected) {
  throw FormatError(cat(file.path().string(), ": the key ", quote(key), " is not ", expected));
}

template <class T>
const T& require_kind(const GgufFile& file, const std::string& key, const char* expected) {
  const T* value = std::get_if<T>(&require(file, key).value);
  if (!value) mismatch(file, key, expected);
  return *value;
}

}  // namespace

std::int64_t GgufFile::integer(const std::string& key) const {
  const GgufValue& value = require(*this, key).value;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  const auto* number = std::get_if<std::uint64_t>(&value);
  if (!number || !std::in_range<std::int64_t>(*number)) mismatch(*this, key, "an integer below 2^63");
  return static_cast<std::int64_t>(*number);
}

double GgufFile::number(const std::string& key) const {
  const GgufValue& value = require(*this, key).value;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::uint64_t>(&value)) return static_cast<double>(*number);
  mismatch(*this, key, "a number");
}

const std::string& GgufFile::string(const std::string& key) const { return require_kind<std::string>(*this, key, "a string"); }

const std::vector<std::string>& GgufFile::strings(const std::string& key) const {
  return require_kind<std::vector<std::string>>(*this, key, "an array of strings");
}

const std::vector<double>& GgufFile::numbers(const std::string& key) const {
  return require_kind<std::vector<double>>(*this, key, "an array of floating-point numbers");
}

const std::vector<std::int64_t>& GgufFile::integers(const std::string& key) const {
  return require_kind<std::vector<std::int64_t>>(*this, key, "an array of integers");
}

std::int64_t GgufFile::integer_or(const std::string& key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double GgufFile::number_or(const std::string& key, double fallback) const { return has(key) ? number(key) : fallback; }

std::string GgufFile::string_or(const std::string& key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

bool GgufFile::boolean_or(const std::string& key, bool fallback) const {
  return has(key) ? require_kind<bool>(*this, key, "true or false") : fallback;
}

}  // namespace graft
