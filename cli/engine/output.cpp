#include "cli/engine/output.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>

#include "cli/engine/survival.h"
#include "core/error.h"

namespace graft::cli {
namespace {

std::size_t width_of(const std::string& text) {  // code points
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool numeric(const std::string& cell) { return cell.empty() || std::string("0123456789+-").find(cell[0]) != std::string::npos; }

}  // namespace

std::string columns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      if (c == widths.size()) widths.push_back(0), right.push_back(c > 0);
      widths[c] = std::max(widths[c], width_of(rows[r][c]));
      if (r > 0 && !numeric(rows[r][c])) right[c] = false;
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - width_of(row[c]), ' ');
      line += (c ? "  " : "") + (right[c] ? space + row[c] : row[c] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string fixed(double value, int decimals) {
  char out[64];
  std::snprintf(out, sizeof out, "%.*f", decimals, value);
  return out;
}

constexpr std::int64_t kFewTokens = 2000;  // of a held-out set whose scores get a warning

std::string score_table(const std::vector<Score>& scores) {
  std::vector<std::vector<std::string>> rows = {{"model", "held-out set", "bits per byte", "against base", "gain kept",
                                                 "quantized base", "update kept", "KL to merged", "perplexity"}};
  std::map<std::string, std::string> sets;  // what is said of each below the table
  for (const Score& score : scores) {
    if (is_base_in(score)) continue;
    const Score *const base = find_score(scores, "base", score.set), *const rounded =
                                                                         find_score(scores, base_in(score.model), score.set);
    const double change = base == nullptr ? 0 : 100 * (score.bits_per_byte / base->bits_per_byte - 1);
    rows.push_back({score.model, score.set, fixed(score.bits_per_byte, 4),
                    base == nullptr || score.model == "base" ? "" : cat(change < 0 ? "" : "+", fixed(change, 1), " %"),
                    kept(scores, score.model), rounded == nullptr ? "" : fixed(rounded->bits_per_byte, 4),
                    percent(update_kept(scores, score.model)), score.kl ? fixed(*score.kl, 4) : "", fixed(score.perplexity, 3)});
    std::string& said = sets[score.set];
    if (said.empty())
      said = cat(score.set, ": ", score.tokens, " tokens of ", score.documents, " documents",
                 score.tokens < kFewTokens ? ", too few to tell small differences from chance" : "");
    if (score.kl && said.find("KL") == std::string::npos) said += cat(", KL over ", score.kl_tokens, " of them");
  }
  for (std::size_t column = rows[0].size(); column-- > 0;) {  // one that would be empty, or name the only set, is left out
    const bool empty = std::all_of(rows.begin() + 1, rows.end(), [&](const auto& row) { return row[column].empty(); });
    if (!empty && !(column == 1 && sets.size() == 1)) continue;
    for (auto& row : rows) row.erase(row.begin() + static_cast<std::ptrdiff_t>(column));
  }
  std::string out = columns(rows);
  for (const auto& [set, said] : sets) out += said + "\n";
  if (const auto gain = gain_interval(scores); gain && std::isfinite(gain->low))
    out += cat("the adapter saves ", fixed(100 * gain->low, 1), " % to ", fixed(100 * gain->high, 1),
               " % of the base's bits (95 % interval over documents)\n");
  return out + "`graft help scores` explains the columns\n";
}

void print_json(const Json& json) { std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n"; }

}  // namespace graft::cli
