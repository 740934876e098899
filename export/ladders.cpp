#include "export/ladders.h"

#include <algorithm>
#include <string_view>

namespace graft::exports {
namespace {

using Ladder = std::vector<std::string_view>;

// Of files for the same servers, from small to large. A format in several goes on in each, in this order.
const std::vector<Ladder>& ladders() {
  static const std::vector<Ladder> all = {
      {"gguf-q4_0", "gguf-q4_0-imatrix", "gguf-q4_0-awq-gptq", "gguf-q4_k_s", "gguf-q4_k_s-imatrix", "gguf-q4_k_m",
       "gguf-q4_k_m-imatrix", "gguf-q4_1", "gguf-q4_1-imatrix", "gguf-q5_0", "gguf-q5_0-imatrix", "gguf-q5_k_m",
       "gguf-q5_k_m-imatrix", "gguf-q5_1", "gguf-q5_1-imatrix", "gguf-q6_k", "gguf-q6_k-imatrix", "gguf-q8_0", "gguf-bf16"},
      {"gptq-g128", "gptq-g128-gptq", "gptq-g128-awq-gptq", "gptq-g64", "gptq-g64-gptq", "gptq-g64-awq-gptq", "gptq-g32",
       "gptq-g32-gptq", "gptq-g32-awq-gptq", "ct-w8a16-g128", "hf"},
      {"awq-g128", "awq-g128-awq", "awq-g128-awq-gptq", "awq-g64", "awq-g64-awq", "awq-g64-awq-gptq", "awq-g32", "awq-g32-awq",
       "awq-g32-awq-gptq", "ct-w8a16-g128", "hf"},
      {"modelopt-fp8-static", "modelopt-fp8-static-gptq", "fp8", "fp8-gptq", "modelopt-fp8", "modelopt-fp8-gptq", "fp8-block",
       "ct-fp8-block", "ct-fp8", "ct-fp8-gptq", "hf"},
      {"ct-w4a16-g128",
       "ct-w4a16-g128-gptq",
       "ct-w4a16-g64",
       "ct-w4a16-g64-gptq",
       "ct-w4a16-g32",
       "ct-w4a16-g32-gptq",
       "ct-w4a16-asym-g128",
       "ct-w4a16-asym-g128-awq",
       "ct-w4a16-asym-g128-awq-gptq",
       "ct-w4a16-asym-g64",
       "ct-w4a16-asym-g64-awq",
       "ct-w4a16-asym-g64-awq-gptq",
       "ct-w4a16-asym-g32",
       "ct-w4a16-asym-g32-awq",
       "ct-w4a16-asym-g32-awq-gptq",
       "ct-w4w8a16-asym-g32",
       "ct-w4w8a16-asym-g32-awq",
       "ct-w4w8a16-asym-g32-awq-gptq",
       "ct-w8a8",
       "ct-w8a8-smooth",
       "ct-fp8-static",
       "ct-fp8",
       "ct-fp8-gptq",
       "ct-w8a16-g128",
       "ct-w8a16-g64",
       "ct-w8a16-g32",
       "hf"}};
  return all;
}

}  // namespace

std::vector<std::string> larger_formats(const std::string& format) {
  std::vector<std::string> larger;
  for (const Ladder& ladder : ladders()) {
    const auto at = std::find(ladder.begin(), ladder.end(), format);
    if (at != ladder.end()) larger.insert(larger.end(), at + 1, ladder.end());
  }
  return larger;
}

}  // namespace graft::exports
