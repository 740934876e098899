#include "kernels/cpu/codes_body.h"

namespace graft::kernels::cpu {

template <class Element>
float CodesAvx2::of_row(const Element* x, std::int64_t n, float* rotated, std::uint8_t* codes) {
  return codes_of(x, n, rotated, codes);
}

template float CodesAvx2::of_row(const float*, std::int64_t, float*, std::uint8_t*);
template float CodesAvx2::of_row(const Bf16Bits*, std::int64_t, float*, std::uint8_t*);

}  // namespace graft::kernels::cpu
