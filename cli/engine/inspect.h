// `graft inspect`: each function says what one kind of thing holds, as JSON; text for people is made from it (inspect.cpp).
// Names that come out of files are data here and are escaped when shown.
#pragma once

#include <cstdint>

#include "cli/engine.h"
#include "core/file.h"
#include "core/json.h"

namespace graft::cli {

Json inspect_corpus(const fs::path& corpus);         // opens every shard and checks its hash
Json inspect_model(const fs::path& path);            // Hugging Face directory or GGUF: spec, tensors, types, tokenizer
Json inspect_safetensors(const fs::path& file);      // one file on its own
Json inspect_gguf(const fs::path& file);             // metadata and tensors of any GGUF, also of models graft does not know
Json inspect_adapter(const fs::path& directory);     // PEFT
Json inspect_run(const fs::path& directory);         // train/run_dir.h
Json inspect_checkpoint(const fs::path& directory);  // train/checkpoint.h
Json inspect_exports(const fs::path& directory);     // export/manifest.h

// Whether the corpus holds the document of that id, in which shards, and what they are to options.run. DataError when the run was
// started with another corpus.
Json inspect_document(const InspectOptions& options);
// Packed rows of the corpus' training split in training order, one JSON object per batch and line on stdout.
void print_batches(const InspectOptions& options);

}  // namespace graft::cli
