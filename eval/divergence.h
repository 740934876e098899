// How far a model's predictions are from those of another, for the same tokens:
//
//   KL(p || q) = sum over the vocabulary of p(v) (ln p(v) - ln q(v))      nats, mean over the tokens
//
// 0 only when both say the same. (Kullback and Leibler 1951; llama.cpp's perplexity tool prints the same figure as "Mean KLD".)
#pragma once

#include <ATen/core/Tensor.h>

#include "model/decoder.h"

namespace graft::eval {

// Next-token distributions, as the rows that the head turns into logits: H numbers a token instead of V.
struct Predictions {
  at::Tensor hidden;                    // (n, H) f32 or bf16
  at::Tensor head;                      // (V, H) of the same type; shares memory with the decoder
  kernels::LowRank* adapter = nullptr;  // of the head; not owned
  double softcap = 0;                   // 0: none
};

// `hidden`: rows of TokenLoss::hidden.
Predictions predictions_of(model::Decoder& decoder, at::Tensor hidden);

// Mean of KL(p || q). Logits are products in f32, everything after them is f64; NaN when a logit is NaN. std::logic_error when
// rows or vocabularies differ in number. Temporary memory: two (n, 2048) f32.
double divergence(const Predictions& p, const Predictions& q);

}  // namespace graft::eval
