#include "core/error.h"
#include "data/tokenizer.h"
namespace graft::data {
std::unique_ptr<Tokenizer> load_spm_model(const std::filesystem::path& p) { throw UnsupportedError(p.string()); }
std::unique_ptr<Tokenizer> load_spm_gguf(const std::filesystem::path& p) { throw UnsupportedError(p.string()); }
}
