// A base in NF4 as plain numbers: the reference for products with its codes.
#pragma once

#include <ATen/ATen.h>

#include "kernels/lora_linear/coded_weight.h"
#include "model/decoder.h"

namespace graft::testing {

// `plain`: the same base in full; its linears get what the codes of `nf4` stand for.
inline void take_numbers(model::Decoder& plain, model::Decoder& nf4) {
  const auto from = nf4.linears(), to = plain.linears();
  for (std::size_t i = 0; i < to.size(); ++i)
    if (from[i]->coded) to[i]->weight.copy_(from[i]->coded->nf4()->values(plain.compute()));
}

}  // namespace graft::testing
