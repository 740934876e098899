// Which linears a group of a compressed-tensors config is about.
#include "model/module_targets.h"

#include <regex>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace graft;
using model::ModuleTargets;

namespace {

std::string refused(const Json& targets) {
  try {
    ModuleTargets(targets, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("patterns name the modules that a regular expression matches from their beginning", "[model][targets]") {
  const std::string modules[] = {"model.layers.0.mlp.down_proj",
                                 "model.layers.10.mlp.down_proj",
                                 "model.layers.1.mlp.up_proj",
                                 "model.layers.1.mlp.updown_proj",
                                 "lm_head",
                                 "model.layers.1.self_attn.o_proj",
                                 "down_proj",
                                 "a.down_proj.b",
                                 "model_layers_1_self_attn_o_proj",
                                 "aXaaXb.down_proj"};
  std::size_t matched = 0;
  for (const std::string pattern :
       {".*\\.down_proj$", ".*down_proj", ".*down_proj$", "model.layers.1.*", "model\\.layers\\.1\\..*proj$", ".*aX.*b.*", ".*",
        "model", ".*layers\\.1.*_proj$", "lm_head$", "lm_head.$", ".*.*proj.*o.*$", "......d.*", ".*self_attn\\.o_proj"}) {
    const ModuleTargets targets(Json::array({"re:" + pattern}), "config.json");
    CHECK(!targets.linears());
    for (const std::string& module : modules) {
      INFO(pattern << " " << module);
      const bool expected = std::regex_search(module, std::regex(pattern), std::regex_constants::match_continuous);
      CHECK(targets.names(module) == expected);
      matched += expected;
    }
  }
  CHECK(matched > 30);
}

TEST_CASE("names and Linear are targets too", "[model][targets]") {
  const ModuleTargets targets({"Linear", "model.layers.0.mlp.down_proj"}, "config.json");
  CHECK(targets.linears());
  CHECK(targets.names("model.layers.0.mlp.down_proj"));
  CHECK(!targets.names("model.layers.0.mlp.down_proj2"));
  CHECK(!targets.names("Linear"));
  CHECK(!ModuleTargets(Json::array({"model.layers.0.mlp.down_proj"}), "").linears());
}

TEST_CASE("a pattern takes no longer than its length times the name's", "[model][targets]") {
  std::string pattern = "re:", name;
  for (int i = 0; i < 80; ++i) pattern += ".*a";
  for (int i = 0; i < 100000; ++i) name += 'a';
  CHECK(!ModuleTargets(Json::array({pattern + "\\.$"}), "").names(name));
}

TEST_CASE("other targets are refused with what they are", "[model][targets]") {
  CHECK(refused({"LlamaAttention"}) ==
        "config.json: target 'LlamaAttention'; graft reads Linear, names of modules and patterns re:...");
  for (const std::string pattern : {"(a|b)", ".*[qkv]_proj", "a+", "^model", "a$b", "\\d", ".*layers\\", "a{2}", "**", ""}) {
    INFO(pattern);
    CHECK(refused({"re:" + pattern}) == cat("config.json: target ", quote("re:" + pattern),
                                            " is a pattern of more than letters, '.', '.*', '\\.' and '$' at its end"));
  }
  CHECK(refused(Json::array({"re:" + std::string(257, 'a')})).find("is a pattern of more") != std::string::npos);
  CHECK(refused(Json::array({7})) == "config.json: a target of a group is not a string");
  CHECK(refused("Linear") == "config.json: the targets of a group are not a list");
  CHECK(refused(Json()) == "config.json: the targets of a group are not a list");
  CHECK(refused(Json(std::vector<std::string>(65, "re:a"))) == "config.json: a group has 65 patterns, and at most 64 are read");
}
