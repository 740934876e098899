// Module patterns.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "lora/adapter.h"
#include "lora/targets.h"
#include "model/tensors.h"

namespace graft::lora {
namespace {

// '*' stands for any characters. Linear in text * stars: after a mismatch only the last star moves on.
bool glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// The whole path, or what follows one of its dots.
bool matches(const std::string& pattern, const std::string& module) {
  if (pattern == "all-linear") return module != "lm_head";
  std::string_view rest = module;
  for (;;) {
    if (glob(pattern, rest)) return true;
    const auto dot = rest.find('.');
    if (dot == std::string_view::npos) return false;
    rest.remove_prefix(dot + 1);
  }
}

std::string last_names(const std::vector<std::string>& modules) {
  std::vector<std::string> names;
  for (const auto& module : modules) {
    const std::string name = module.substr(module.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

}  // namespace

std::vector<std::string> linear_names(const model::WeightSource& base) {
  std::vector<std::string> names;
  for (model::LinearSpec& linear : model::linears_of(base.spec())) names.push_back(std::move(linear.module));
  return names;
}

std::int64_t parameter_count(const LoraConfig& config, const model::WeightSource& base) {
  const std::vector<std::string> chosen = match_targets(config, linear_names(base));
  const std::set<std::string> modules(chosen.begin(), chosen.end());
  std::int64_t count = 0;
  for (const model::WeightInfo& weight : base.weights())
    if (modules.contains(model::module_of(weight.name))) count += config.rank * (weight.shape[0] + weight.shape[1]);
  return count;
}

bool is_target(const LoraConfig& config, const std::string& module) {
  return std::any_of(config.target_modules.begin(), config.target_modules.end(),
                     [&](const std::string& pattern) { return matches(pattern, module); });
}

std::vector<std::string> match_targets(const LoraConfig& config, const std::vector<std::string>& modules) {
  if (config.target_modules.empty())
    throw ConfigError("lora.target_modules is empty; name some of: " + last_names(modules) + ", or all-linear");
  std::vector<bool> chosen(modules.size());
  for (const auto& pattern : config.target_modules) {
    bool any = false;
    for (std::size_t i = 0; i < modules.size(); ++i)
      if (matches(pattern, modules[i])) any = chosen[i] = true;
    if (!any)
      throw ConfigError(cat("lora.target_modules: '", pattern, "' matches none of the model's ", modules.size(),
                            " linear layers; their names are ", last_names(modules),
                            " (example of a full path: ", modules.empty() ? "none" : modules.front(), ")"));
  }
  std::vector<std::string> result;
  for (std::size_t i = 0; i < modules.size(); ++i)
    if (chosen[i]) result.push_back(modules[i]);
  return result;
}

}  // namespace graft::lora
