#include "model/module_targets.h"

#include <string_view>

#include "core/error.h"

namespace graft::model {
namespace {

constexpr std::size_t kMostPatterns = 64, kLongestPattern = 256;  // each is compared with every linear
constexpr char kAny = '*', kOne = '?';                            // no module's name has them

bool plain(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

// The pattern with kAny and kOne; empty when it is not of the kind that is read.
std::string wildcards(std::string_view pattern) {
  if (pattern.empty()) return "";
  const bool ends = pattern.ends_with('$');
  if (ends) pattern.remove_suffix(1);
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (plain(pattern[i])) {
      text += pattern[i];
    } else if (pattern.substr(i, 2) == "\\.") {
      text += '.';
      ++i;
    } else if (pattern.substr(i, 2) == ".*") {
      text += kAny;
      ++i;
    } else if (pattern[i] == '.') {
      text += kOne;
    } else {
      return "";
    }
  }
  return ends ? text : text + kAny;
}

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = pattern.size(), from = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == kAny) {
      star = p++;
      from = n;
    } else if (p < pattern.size() && (pattern[p] == kOne || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star < pattern.size()) {  // the last kAny takes one more
      p = star + 1;
      n = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of(kAny, p) == std::string_view::npos;
}

}  // namespace

ModuleTargets::ModuleTargets(const Json& targets, const std::string& origin) {
  constexpr std::string_view regex = "re:";
  if (!targets.is_array()) throw FormatError(cat(origin, ": the targets of a group are not a list"));
  for (const Json& each : targets) {
    if (!each.is_string()) throw FormatError(cat(origin, ": a target of a group is not a string"));
    const std::string target = each.get<std::string>();
    if (target == "Linear") {
      linears_ = true;
    } else if (target.starts_with(regex)) {
      std::string pattern = target.size() <= kLongestPattern ? wildcards(target.substr(regex.size())) : "";
      if (pattern.empty())
        throw UnsupportedError(
            cat(origin, ": target ", quote(target), " is a pattern of more than letters, '.', '.*', '\\.' and '$' at its end"));
      patterns_.push_back(std::move(pattern));
    } else if (target.find('.') != std::string::npos) {
      modules_.insert(target);
    } else {
      throw UnsupportedError(
          cat(origin, ": target ", quote(target), "; graft reads Linear, names of modules and patterns re:..."));
    }
  }
  if (patterns_.size() > kMostPatterns)
    throw UnsupportedError(
        cat(origin, ": a group has ", patterns_.size(), " patterns, and at most ", kMostPatterns, " are read"));
}

bool ModuleTargets::names(const std::string& module) const {
  if (modules_.contains(module)) return true;
  for (const std::string& pattern : patterns_)
    if (matches(pattern, module)) return true;
  return false;
}

}  // namespace graft::model
