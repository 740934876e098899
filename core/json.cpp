#include "core/json.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"

namespace graft {
namespace {

// Builds the document without nlohmann's own linear search per inserted key, which takes minutes on a tokenizer's
// vocabulary.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(const std::string& origin, std::size_t max_values) : origin_(origin), values_left_(max_values) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not in text
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override {
    check_duplicates(*open_.back());
    open_.pop_back();
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception...] parse error at line 1, column 2: <reason>; last read: '<text>'; expected <token>": cut from the text
    // on, which may itself hold what stands behind it.
    std::string reason = error.what();
    if (const auto at = reason.find("] "); at != std::string::npos) reason.erase(0, at + 2);
    if (const auto at = reason.find(": "); reason.starts_with("parse error") && at != std::string::npos) reason.erase(0, at + 2);
    if (const auto at = reason.find("; last read"); at != std::string::npos) reason.erase(at);
    if (reason.starts_with("number overflow")) reason = "a number is out of range";
    throw FormatError(cat(origin_, ": byte ", position, ": ", reason));
  }

 private:
  // Pointers into open containers stay valid: only the innermost one grows.
  Json* place(Json&& value) {
    if (values_left_-- == 0) throw FormatError(origin_ + ": too many values");
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& items = parent.get_ref<Json::array_t&>();
      return &items.emplace_back(std::move(value));
    }
    Json::object_t::Container& members = parent.get_ref<Json::object_t&>();
    return &members.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool add(Json&& value) {
    place(std::move(value));
    return true;
  }
  bool open(Json&& container) {
    if (open_.size() >= kJsonNesting) throw FormatError(cat(origin_, ": nested deeper than ", kJsonNesting, " levels"));
    open_.push_back(place(std::move(container)));
    return true;
  }
  void check_duplicates(const Json& object) const {
    std::vector<std::string_view> names;
    names.reserve(object.size());
    for (const auto& [name, value] : object.get_ref<const Json::object_t&>()) names.push_back(name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) throw FormatError(cat(origin_, ": key ", quote(*twice), " is there twice"));
  }

  const std::string& origin_;
  std::size_t values_left_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
};

const char* kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& origin, std::size_t max_values) {
  Builder builder(origin, max_values);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json(const std::filesystem::path& file, std::uint64_t max_bytes) {
  return parse_json(read_file(file, max_bytes), file.string());
}

namespace json_detail {

void throw_missing(const std::string& origin, const char* key) { throw FormatError(cat(origin, ": '", key, "' is missing")); }

void throw_mismatch(const std::string& origin, const char* key, const Json& value, const char* expected) {
  const std::string found = value.is_number() ? "the number " + value.dump() : kind_of(value);
  throw FormatError(cat(origin, ": '", key, "' is ", found, " where ", expected, " is expected"));
}

const Json* find(const Json& object, const char* key, const std::string& origin) {
  if (!object.is_object())
    throw FormatError(cat(origin, ": found ", kind_of(object), " where an object with '", key, "' is expected"));
  const auto at = object.find(key);
  return at == object.end() ? nullptr : &*at;
}

}  // namespace json_detail
}  // namespace graft
