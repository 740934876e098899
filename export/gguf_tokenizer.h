// tokenizer.* pairs of a GGUF file from the tokenizer files of a Hugging Face directory, as llama.cpp's converter writes them
// (conversion/base.py: get_vocab_base, _create_vocab_sentencepiece; gguf-py/gguf/vocab.py: SpecialVocab).
#pragma once

#include <filesystem>

#include "core/gguf.h"
#include "model/spec.h"

namespace graft::exports {

// FormatError for malformed files, UnsupportedError for a tokenizer that llama.cpp has no name for.
void write_tokenizer(GgufWriter& writer, const std::filesystem::path& directory, const model::ModelSpec& spec);

}  // namespace graft::exports
