#include "cli/engine/session.h"

#include <ATen/Parallel.h>

#include "cli/engine/machine.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/corpus.h"
#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/tile.h"
#include "model/compute_type.h"

namespace graft::cli {
namespace {

void use_device(const train::RunConfig& config) {
  const kernels::Device device = device_of(config);
  kernels::set_device(device);
  // Where LibTorch's own products do the work they are slower in huge pages (docs/decisions/0027).
  if (device == kernels::Device::cpu && kernels::cpu::isa() == kernels::cpu::Isa::amx) kernels::cpu::use_huge_pages();
  if (device == kernels::Device::simt)
    log::warn("device", "simt: the CUDA kernels are simulated on the CPU, thousands of times slower than they are");
  if (device == kernels::Device::cuda)
    log::warn("device", "cuda: nobody has run this on a GPU yet; compare the scores with device: cpu on a short run");
}

const std::string& named_base(const train::RunConfig& config) {
  if (config.base.empty())
    throw ConfigError(
        "base is not set; name the open-weight model, a Hugging Face directory or a GGUF file, in the config or with --set "
        "base=PATH");
  return config.base;
}

std::unique_ptr<model::WeightSource> open_base(const train::RunConfig& config) {
  use_device(config);
  return model::open_weights(named_base(config));
}

}  // namespace

kernels::Device device_of(const train::RunConfig& config) {
  const kernels::Device device =
      kernels::choose_device(config.device, kernels::device_support(nvidia_driver(), config.device == "cuda"));
  if (config.train.base_precision == "int8" && device != kernels::Device::cpu)
    throw ConfigError(cat("train.base_precision: int8 is for the CPU, and device is ", kernels::device_name(device),
                          "; set device: cpu, or train.base_precision: full"));
  return device;
}

std::string base_note(const train::TrainConfig& config) {
  if (config.base_precision == "full") return "";
  return config.base_precision == "int8" ? ", frozen products of the layers in int8" : ", frozen weights of the layers in NF4";
}

Session::Session(const train::RunConfig& c) : config(c), base(open_base(c)) {
  if (config.threads > 0) at::set_num_threads(static_cast<int>(config.threads));
  tokenizer = data::load_tokenizer(config.base);
  if (tokenizer->vocab_size() > base->spec().vocab)
    throw DataError(cat(config.base, ": the tokenizer has ", tokenizer->vocab_size(), " ids, the model's embedding ",
                        base->spec().vocab, " rows; they are not of the same model"));
}

std::unique_ptr<lora::AdapterSet> Session::adapter(const std::string& path) const {
  const fs::path directory = path.empty() ? run_dir() / "adapter" : fs::path(path);
  if (!fs::exists(directory))
    throw DataError(path.empty() ? cat("there is no adapter in ", run_dir().string(), "; run `graft train` first")
                                 : cat("there is no adapter at ", path));
  auto set = lora::load_peft(directory);
  lora::check_base(*set, *base);
  return set;
}

bool Session::trained_on_conversations() const {
  if (!conversations_) conversations_ = data::has_conversations(config.corpus.dir, tokenizer->hash());
  return *conversations_;
}

model::Decoder& LazyDecoder::get() {
  if (!decoder_) {
    log::info("model", "loading ", weights_.path().string(), " in ", model::name_of(dtypes_.compute));
    decoder_ = model::Decoder::load(weights_, dtypes_.storage, dtypes_.compute);
  }
  return *decoder_;
}

model::Decoder& LazyDecoder::with(lora::AdapterSet* adapter) {
  model::Decoder& decoder = get();
  lora::detach(decoder);
  if (adapter != nullptr) lora::attach(*adapter, decoder);
  return decoder;
}

}  // namespace graft::cli
