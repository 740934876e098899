// Quantizers that look at documents: packed rows of the training documents stream through the merged model, layer by layer, and
// what arrives at each linear decides how it is rounded. Memory: the hidden states of the rows, one layer, and the sums over its
// inputs. The same corpus, model and number of threads: the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "export/merge.h"
#include "export/quantize/channel_scales.h"
#include "export/quantize/rounding.h"
#include "model/decoder.h"

namespace graft::exports {

enum class Quantizer {
  nearest,     // looks at no documents
  gptq,        // export/quantize/gptq.h and refine.h; the inputs of a layer come from the layers below as they are rounded
  awq,         // scales of export/quantize/channel_scales.h folded in (export/fold.h), then to nearest
  smooth,      // the same
  importance,  // for GGUF: export/quantize/ggml.h
  awq_gptq,    // the scales of awq, then gptq
};
constexpr bool by_gptq(Quantizer quantizer) { return quantizer == Quantizer::gptq || quantizer == Quantizer::awq_gptq; }

struct CalibrationRows {
  std::filesystem::path corpus;
  std::string tokenizer_hash, snapshot;  // of the training split (data/corpus.h)
  std::int64_t rows = 0, length = 0;     // the first rows of epoch 0 with seed 0, packed to `length` tokens
};

using LayerInputs = std::map<std::string, std::shared_ptr<InputSums>>;  // by linear; of those that read the same x the same one

void check_enough(const CalibrationRows& rows);  // DataError when the training documents have fewer than rows * length tokens

class Calibration {
 public:
  // What `source` refers to must outlive it. compute: of the forward; sums are f32 and f64. Documents are read when first needed;
  // check_enough() at once.
  Calibration(MergedModel source, CalibrationRows rows, at::ScalarType compute);
  ~Calibration();

  std::string text() const;  // for the manifest: what may change the result

  // Mean of x^2 by input channel of the linear `tensor`, f32 (in); undefined when no token came (an expert), or for another
  // tensor.
  at::Tensor importance(const std::string& tensor);
  // For a server that rounds the inputs of the linear `tensor` to fp8 with one scale: the largest |x| that came, over 448.
  // Experts of a layer share the largest, as servers have them.
  float input_scale(const std::string& tensor);
  // Of Quantizer::awq, on the base as it is without the adapter, so that training can round to the same grids
  // (train/merge_aware.h); of smooth, on `source`. Found once for each scheme, which all linears are taken to have.
  const Folds& folds(Quantizer quantizer, const model::CompressedScheme& scheme);
  // GPTQ of a model, which may have folds. Tensors must be asked for in the order of the model. grids: empty where GPTQ chooses.
  RoundLinear gptq(MergedModel model, const LinearSchemes& schemes, FindGrid grids = {});

 private:
  const std::vector<model::Packed>& rows();
  const LayerInputs& inputs();  // of all layers, without Gram matrices
  Folds find_awq(const model::CompressedScheme& scheme);
  Folds find_smooth();

  MergedModel source_;
  CalibrationRows documents_;
  at::ScalarType compute_;
  std::vector<model::Packed> rows_;
  LayerInputs inputs_;
  std::map<std::string, double> largest_;  // |x| of inputs_, by linear of any expert
  std::map<std::string, Folds> folds_;     // by quantizer and scheme
};

// How the linears of a request are rounded: the model that stands in for the merged one, and its codes.
struct ExportRequest;
MergedModel source_for(const ExportRequest& request, Quantizer quantizer, const LinearSchemes& schemes);
// grids: of GPTQ; empty where it chooses.
RoundLinear rounding_for(const ExportRequest& request, Quantizer quantizer, const LinearSchemes& schemes,
                         const FindGrid& grids = {});

}  // namespace graft::exports
