#include "cli/engine/survival.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cli/engine/output.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

// Of files for the same servers, from small to large.
constexpr std::array kGguf = {
    "gguf-q4_0", "gguf-q4_0-imatrix", "gguf-q4_k_s", "gguf-q4_k_s-imatrix", "gguf-q4_k_m", "gguf-q4_k_m-imatrix",
    "gguf-q4_1", "gguf-q4_1-imatrix", "gguf-q5_0",   "gguf-q5_0-imatrix",   "gguf-q5_k_m", "gguf-q5_k_m-imatrix",
    "gguf-q5_1", "gguf-q5_1-imatrix", "gguf-q6_k",   "gguf-q6_k-imatrix",   "gguf-q8_0",   "gguf-bf16"};
constexpr std::array kCompressed = {"ct-w4a16-g128",
                                    "ct-w4a16-g128-gptq",
                                    "ct-w4a16-g64",
                                    "ct-w4a16-g64-gptq",
                                    "ct-w4a16-g32",
                                    "ct-w4a16-g32-gptq",
                                    "ct-w4a16-asym-g128",
                                    "ct-w4a16-asym-g128-awq",
                                    "ct-w4a16-asym-g64",
                                    "ct-w4a16-asym-g64-awq",
                                    "ct-w4a16-asym-g32",
                                    "ct-w4a16-asym-g32-awq",
                                    "ct-w8a8",
                                    "ct-w8a8-smooth",
                                    "ct-fp8",
                                    "ct-w8a16-g128",
                                    "ct-w8a16-g64",
                                    "ct-w8a16-g32",
                                    "hf"};

bool same_servers(const std::string& a, const std::string& b) { return a.starts_with("gguf") == b.starts_with("gguf"); }

template <std::size_t n>
std::string larger_in(const std::array<const char*, n>& ladder, const std::string& format) {
  const auto at = std::find(ladder.begin(), ladder.end(), format);
  return at == ladder.end() || at + 1 == ladder.end() ? ladder.back() : *(at + 1);
}

std::string alternative(const exports::Artifact& poor, const std::vector<exports::Artifact>& artifacts,
                        const std::vector<Score>& scores, double least) {
  const exports::Artifact* best = nullptr;
  for (const exports::Artifact& other : artifacts) {
    const exports::Exporter& exporter = exports::find_exporter(other.format);
    if (!exporter.merges || !same_servers(other.format, poor.format)) continue;
    if (const auto share = survival(scores, other.format); !share || *share < least) continue;
    if (best == nullptr || other.bytes < best->bytes) best = &other;
  }
  if (best != nullptr) return cat(best->format, " keeps ", percent(survival(scores, best->format)));
  return cat("try ", poor.format.starts_with("gguf") ? larger_in(kGguf, poor.format) : larger_in(kCompressed, poor.format));
}

}  // namespace

std::optional<double> survival(const std::vector<Score>& scores, const std::string& model) {
  const auto bits = [&](const std::string& name) {
    double sum = 0;
    for (const Score& score : scores)
      if (score.model == name) sum += score.bits_per_byte * static_cast<double>(score.bytes);
    return sum;
  };
  const double base = bits("base"), adapted = bits("adapted"), own = bits(model);
  if (adapted == 0 || own == 0 || !(adapted < base)) return std::nullopt;
  return (base - own) / (base - adapted);
}

std::string percent(const std::optional<double>& share) { return share ? cat(fixed(100 * *share, 1), " %") : ""; }

std::string withdraw_poor(std::vector<exports::Artifact>& artifacts, const std::vector<Score>& scores, double least,
                          const fs::path& directory) {
  std::string problems;
  std::vector<exports::Artifact> kept;
  for (const exports::Artifact& artifact : artifacts) {
    const auto share = survival(scores, artifact.format);
    if (!exports::find_exporter(artifact.format).quantizes || !share || *share >= least) {
      kept.push_back(artifact);
      continue;
    }
    exports::withdraw(artifact, directory);
    problems += cat(problems.empty() ? "" : "\n", artifact.format, " keeps ", percent(share),
                    " of what the adapter gained, export.min_survival asks for ", percent(least),
                    "; it was not kept: ", alternative(artifact, artifacts, scores, least));
  }
  artifacts = std::move(kept);
  return problems;
}

}  // namespace graft::cli
