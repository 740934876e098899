#include "lora/start.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace graft::lora {
namespace {

std::string modules_text(const std::vector<std::string>& modules) {
  return cat(modules.front(), modules.size() > 1 ? cat(" and ", modules.size() - 1, " more") : "");
}

// Those of `all` that are not in `some`.
std::vector<std::string> without(std::vector<std::string> all, const std::vector<std::string>& some) {
  std::erase_if(all, [&](const std::string& name) { return std::find(some.begin(), some.end(), name) != some.end(); });
  return all;
}

}  // namespace

std::unique_ptr<AdapterSet> open_start(const LoraConfig& config, const model::WeightSource& base) {
  if (config.start_from.empty()) return nullptr;
  if (!fs::exists(config.start_from))
    throw DataError(cat("lora.start_from: there is no adapter at ", config.start_from,
                        "; name a PEFT directory, such as the "
                        "`adapter` of another run_dir"));
  auto start = load_peft(config.start_from);
  check_base(*start, base);
  std::string different;
  if (start->config.rank != config.rank)
    different += cat("\n  lora.rank: ", start->config.rank, " there, ", config.rank, " here");
  if (start->config.scale() != config.scale())
    different += cat("\n  scale (lora.alpha, lora.rslora): ", start->config.scale(), " there, ", config.scale(), " here");
  std::vector<std::string> there;
  for (const auto& adapter : start->adapters) there.push_back(adapter->module);
  const std::vector<std::string> here = match_targets(config, linear_names(base));
  if (const auto missing = without(here, there); !missing.empty())
    different += cat("\n  lora.target_modules: no factors there for ", modules_text(missing));
  if (const auto more = without(there, here); !more.empty())
    different += cat("\n  lora.target_modules: no place here for ", modules_text(more));
  if (!different.empty())
    throw DataError(cat("lora.start_from: ", config.start_from, " is no adapter of this config:", different,
                        "\nGive the config what that adapter has, or start without it"));
  return start;
}

std::string start_identity(const LoraConfig& config) {
  return config.start_from.empty() ? "" : sha256_file(fs::path(config.start_from) / "adapter_model.safetensors");
}

void copy_factors(const AdapterSet& from, AdapterSet& to) {
  for (const auto& adapter : to.adapters) {
    const kernels::LowRank& source = from.find(adapter->module)->low_rank;
    adapter->low_rank.a.copy_(source.a);
    adapter->low_rank.b.copy_(source.b);
  }
}

}  // namespace graft::lora
