// Reading a ModelSpec from GGUF metadata, for the files in families/ (keys: docs/formats.md). FormatError names the file and key.
#pragma once

#include <string>
#include <vector>

#include "core/gguf.h"
#include "model/spec.h"

namespace graft::model {

// Sizes, norm, rotary embedding (with the tensors rope_freqs and rope_factors_*), special tokens. Numbers that were rounded to
// f32 come back as the shortest decimal, so that 1e-5 is 1e-5 again.
ModelSpec read_gguf_base(const GgufFile& file, const char* family, const char* architecture);
// "<architecture>.<key>", the prefix that all keys of a model carry.
std::string gguf_key(const GgufFile& file, const char* key);
double gguf_number_or(const GgufFile& file, const char* key, double fallback);
// expert_count and its companions into spec.moe; names of the modules are left to the family.
void read_gguf_experts(const GgufFile& file, ModelSpec& spec);

}  // namespace graft::model
