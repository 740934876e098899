// What most commands open first: the config's base model (headers only; weights come later) and its tokenizer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/file.h"
#include "data/tokenizer.h"
#include "kernels/device.h"
#include "lora/adapter.h"
#include "model/decoder.h"
#include "model/weights.h"
#include "train/config.h"
#include "train/dtypes.h"

namespace graft::cli {

using train::Dtypes;

std::string base_note(const train::TrainConfig& config);  // ", frozen products of the layers in int8"; empty: in full

// The errors of kernels/device.h; ConfigError when training is not made for it.
kernels::Device device_of(const train::RunConfig& config);

struct Session {
  // Sets the device and the number of threads. ConfigError when no base is named, DataError when the tokenizer does not fit it;
  // the errors of kernels/device.h, before anything is opened.
  explicit Session(const train::RunConfig& config);

  const train::RunConfig& config;
  std::unique_ptr<model::WeightSource> base;
  std::unique_ptr<data::Tokenizer> tokenizer;

  Dtypes dtypes() const { return train::dtypes_of(config.train, train::read_pins(run_dir())); }
  fs::path run_dir() const { return config.run_dir; }
  fs::path export_dir() const { return run_dir() / config.export_.dir; }
  // The adapter at `path`, or the run's own when it is empty; checked against the base. DataError when there is none.
  std::unique_ptr<lora::AdapterSet> adapter(const std::string& path = {}) const;
  bool has_adapter() const { return fs::exists(run_dir() / "adapter"); }
  // Looked up once, in the corpus; false when that is gone. The errors of data::has_conversations.
  bool trained_on_conversations() const;

 private:
  mutable std::optional<bool> conversations_;
};

// A decoder that is loaded when first asked for, so that work found in a cache loads nothing.
class LazyDecoder {
 public:
  LazyDecoder(const model::WeightSource& weights, Dtypes dtypes) : weights_(weights), dtypes_(dtypes) {}
  model::Decoder& get();
  // With `adapter` attached, or bare for null; it must live until the next call.
  model::Decoder& with(lora::AdapterSet* adapter);
  void release() { decoder_.reset(); }  // gives its memory back

 private:
  const model::WeightSource& weights_;
  Dtypes dtypes_;
  std::unique_ptr<model::Decoder> decoder_;
};

}  // namespace graft::cli
