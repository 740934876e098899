// The weight of a frozen linear that is held in codes instead of in numbers:
//
//   Int8Weight   of 8 bits, which are multiplied as they are: for speed; 2 bytes an element, for there are two copies
//   Nf4Weight    of 4 bits, which become numbers again panel by panel while a product is packed: for memory; 0.52 bytes
#pragma once

#include <variant>

#include "kernels/lora_linear/int8_weight.h"
#include "kernels/nf4/nf4_weight.h"

namespace graft::kernels {

struct CodedWeight {
  std::variant<Int8Weight, Nf4Weight> codes;

  std::int64_t out() const {
    return std::visit([](const auto& weight) { return weight.out(); }, codes);
  }
  std::int64_t in() const {
    return std::visit([](const auto& weight) { return weight.in(); }, codes);
  }
  std::int64_t bytes() const {
    return std::visit([](const auto& weight) { return weight.bytes(); }, codes);
  }
  const Int8Weight* int8() const { return std::get_if<Int8Weight>(&codes); }  // null when it is not
  const Nf4Weight* nf4() const { return std::get_if<Nf4Weight>(&codes); }
};

}  // namespace graft::kernels
