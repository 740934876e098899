// Key-value pairs of a GGUF model. From a GGUF base they are carried over; from a Hugging Face directory they are built as
// llama.cpp's conversion/base.py (set_gguf_parameters, prepare_metadata) does.
#pragma once

#include <cstdint>

#include "core/gguf.h"
#include "export/exporter.h"
#include "export/gguf_mix.h"

namespace graft::exports {

// "general.architecture" for a spec: "llama", "qwen2", ...; empty when GGUF has none.
std::string gguf_architecture(const model::ModelSpec& spec);

// parameters: elements of all tensors in the file, for general.size_label.
void write_model_metadata(GgufWriter& writer, const ExportRequest& request, GgufFileType file, std::int64_t parameters);

}  // namespace graft::exports
