// Whether the patterns of LoraConfig::target_modules choose a linear; what they choose of a model is match_targets
// (lora/adapter.h).
#pragma once

#include <string>

#include "lora/config.h"

namespace graft::lora {

bool is_target(const LoraConfig& config, const std::string& module);

}  // namespace graft::lora
