// Training that goes on from an adapter (lora.start_from) instead of new factors: the same modules, rank and scale, so that its
// A and B mean here what they meant there. The optimizer begins anew.
#pragma once

#include <memory>
#include <string>

#include "lora/adapter.h"

namespace graft::lora {

// The adapter in that PEFT directory; null where config.start_from is empty. DataError when there is none, when it was trained on
// another base, or naming each of rank, scale and modules that is not what this config makes of the base.
std::unique_ptr<AdapterSet> open_start(const LoraConfig& config, const model::WeightSource& base);
// sha256 of its adapter_model.safetensors, as in the manifest of the run that exported it; empty where there is none.
std::string start_identity(const LoraConfig& config);

void copy_factors(const AdapterSet& from, AdapterSet& to);  // what open_start() let through, into what create() made

}  // namespace graft::lora
