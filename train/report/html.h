// Building blocks of the report: escaped text, tables and drawings as strings. Every string that came from a file, a config or a
// model passes through escape() on its way in; `Html` marks what has.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft::train {

struct Html {
  std::string source;  // markup, safe to put into a page
};

Html escape(std::string_view text);  // also replaces control bytes and invalid UTF-8 by U+FFFD

using Rows = std::vector<std::vector<Html>>;
Html table(const std::vector<std::string>& head, const Rows& rows, const std::string& css_class = {});
Html facts(const std::vector<std::pair<std::string, std::string>>& pairs);  // two columns: name, value

// One line or one set of points of a chart, in data coordinates, ascending in x.
struct Series {
  std::string name, css_class;  // the class decides the colour
  std::vector<std::pair<double, double>> points;
  bool dots = false;  // points with their values on hover instead of a line
};
struct Chart {
  std::string x_label, y_label;
  std::vector<Series> series;
  int height = 280;
};
Html draw(const Chart& chart);  // inline SVG with a legend; values that are not finite are left out

// Named values on one horizontal scale, a row each, between vertical rules that run through all rows.
struct Scale {
  std::string label;
  std::vector<std::pair<std::string, double>> rules = {};
  struct Row {
    std::string name;
    double value;                // a dot
    std::optional<double> from;  // a ring, joined to it by a line
  };
  std::vector<Row> rows = {};
};
Html draw(const Scale& scale);  // likewise

}  // namespace graft::train
