// A source whose linears are served with their inputs as they are, whatever its directory says: the weights alone.
#pragma once

#include "model/weights.h"

namespace graft::testing {

class PlainInputs : public model::WeightSource {
 public:
  explicit PlainInputs(const model::WeightSource& source) : source_(source) {}
  const model::ModelSpec& spec() const override { return source_.spec(); }
  const std::vector<model::WeightInfo>& weights() const override { return source_.weights(); }
  bool has(const std::string& name) const override { return source_.has(name); }
  at::Tensor load(const std::string& name, at::ScalarType type) const override { return source_.load(name, type); }
  const std::filesystem::path& path() const override { return source_.path(); }
  bool is_gguf() const override { return source_.is_gguf(); }
  const Json& hf_config() const override { return source_.hf_config(); }
  const std::string& identity() const override { return source_.identity(); }

 private:
  const model::WeightSource& source_;
};

}  // namespace graft::testing
