#include "cli/engine/output.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

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

std::string score_table(const std::vector<Score>& scores) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "held-out set", "bits per byte", "against base", "gain kept", "perplexity", "tokens"}};
  for (const Score& score : scores) {
    const auto base =
        std::find_if(scores.begin(), scores.end(), [&](auto& s) { return s.model == "base" && s.set == score.set; });
    const double change = base == scores.end() ? 0 : 100 * (score.bits_per_byte / base->bits_per_byte - 1);
    const bool compared = base != scores.end() && score.model != "base";
    rows.push_back({score.model, score.set, fixed(score.bits_per_byte, 4),
                    compared ? cat(change < 0 ? "" : "+", fixed(change, 1), " %") : "",
                    score.model == "base" || score.model == "adapted" ? "" : percent(survival(scores, score.model)),
                    fixed(score.perplexity, 3), std::to_string(score.tokens)});
  }
  // A column that would be empty is left out.
  if (std::all_of(rows.begin() + 1, rows.end(), [](const auto& row) { return row[4].empty(); }))
    for (auto& row : rows) row.erase(row.begin() + 4);
  return columns(rows);
}

void print_json(const Json& json) { std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n"; }

}  // namespace graft::cli
