// The one description of an adapter. Meaning of the names as in PEFT's LoraConfig.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace graft::lora {

struct LoraConfig {
  std::int64_t rank = 16;
  double alpha = 32;
  bool rslora = false;
  double dropout = 0;
  std::vector<std::string> target_modules = {"all-linear"};
  std::string start_from = {};

  double scale() const;  // alpha / rank, or alpha / sqrt(rank) with rslora

  template <class V>
  void visit(V& v) {
    v.field(rank, "rank", 1, 1024, "rank r of the update B*A; memory and capacity grow with it");
    v.field(alpha, "alpha", 1e-6, 1e6, "the update is scaled by alpha / rank; usually 2 * rank");
    v.field(rslora, "rslora", "scale by alpha / sqrt(rank) instead (rank-stabilised LoRA)");
    v.field(dropout, "dropout", 0.0, 0.95, "probability of dropping an input of A, in training only");
    v.field(target_modules, "target_modules",
            "linear layers that get an adapter: last name, path suffix, or pattern with *; 'all-linear' for all but the head");
    v.field(start_from, "start_from",
            "a PEFT directory, such as another run's adapter/, from whose factors training goes on; empty: from new ones");
  }
};

}  // namespace graft::lora
