#include "model/layer_walk.h"

#include <ATen/ATen.h>

#include "kernels/device.h"
#include "model/decoder_impl.h"

namespace graft::model {

class LayerWalkImpl final : public LayerWalk {
 public:
  LayerWalkImpl(const ModelSpec& spec, at::ScalarType compute, TensorLoader load)
      : load_(std::move(load)), decoder_(spec, compute, load_) {}

  at::Tensor embed(const at::Tensor& tokens) override {
    const at::Tensor hidden = decoder_.embed(tokens);
    kernels::wait_for_device();
    return hidden;
  }

  void enter(std::int64_t layer) override {
    decoder_.layers_.clear();
    decoder_.layers_.push_back(load_layer(decoder_.spec_, static_cast<std::size_t>(layer), load_));
  }

  std::vector<Linear*> linears() override {
    std::vector<Linear*> linears = decoder_.linears();
    if (!decoder_.spec_.tied_head) linears.pop_back();  // the head, which is never loaded
    return linears;
  }

  at::Tensor forward(const at::Tensor& hidden, const Packed& batch, const SeeInputs& see) override {
    const c10::InferenceMode no_autograd;
    Pass pass = decoder_.begin(batch, false, 0);
    if (see) pass.see = &see;
    LayerSaved dropped;
    at::Tensor out = decoder_.layer_forward(decoder_.layers_.front(), hidden, {}, pass, dropped);
    kernels::wait_for_device();
    return out.add_(dropped.middle);
  }

 private:
  TensorLoader load_;
  DecoderImpl decoder_;
};

std::unique_ptr<LayerWalk> LayerWalk::create(const ModelSpec& spec, at::ScalarType compute,
                                             std::function<at::Tensor(const std::string&)> load) {
  return std::make_unique<LayerWalkImpl>(spec, compute, std::move(load));
}

}  // namespace graft::model
