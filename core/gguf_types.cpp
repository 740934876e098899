#include "core/error.h"
#include "core/gguf.h"

namespace graft {

const GgmlTypeInfo& info_of(GgmlType type) {
  struct Entry {
    GgmlType type;
    GgmlTypeInfo info;
  };
  static constexpr Entry entries[] = {
      {GgmlType::f32, {"F32", 1, 4}},       {GgmlType::f16, {"F16", 1, 2}},       {GgmlType::bf16, {"BF16", 1, 2}},
      {GgmlType::q4_0, {"Q4_0", 32, 18}},   {GgmlType::q4_1, {"Q4_1", 32, 20}},   {GgmlType::q5_0, {"Q5_0", 32, 22}},
      {GgmlType::q5_1, {"Q5_1", 32, 24}},   {GgmlType::q8_0, {"Q8_0", 32, 34}},   {GgmlType::q2_k, {"Q2_K", 256, 84}},
      {GgmlType::q3_k, {"Q3_K", 256, 110}}, {GgmlType::q4_k, {"Q4_K", 256, 144}}, {GgmlType::q5_k, {"Q5_K", 256, 176}},
      {GgmlType::q6_k, {"Q6_K", 256, 210}},
  };
  for (const Entry& entry : entries)
    if (entry.type == type) return entry.info;
  throw FormatError(cat("GGML type ", static_cast<std::int32_t>(type),
                        " is not one this program reads (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)"));
}

}  // namespace graft
