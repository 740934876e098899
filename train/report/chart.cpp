#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "train/report/html.h"

namespace graft::train {
namespace {

constexpr double kWidth = 880, kLeft = 58, kRight = 14, kTop = 10, kBottom = 42;
constexpr std::size_t kLinePoints = 800;  // about one per pixel

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void include(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

std::string number(double v) {
  char out[32];
  std::snprintf(out, sizeof out, "%.6g", v == 0 ? 0.0 : v);
  return out;
}

std::string point(double x, double y) {
  char out[48];
  std::snprintf(out, sizeof out, "%.1f,%.1f", x, y);
  return out;
}

// A step of 1, 2 or 5 times a power of ten that cuts the range into at most `most` parts.
double tick_step(const Range& range, int most) {
  const double raw = (range.high - range.low) / most;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

// Means of equal runs of points, so that a long line stays light to draw.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points) {
  const std::size_t run = (points.size() + kLinePoints - 1) / kLinePoints;
  if (run <= 1) return points;
  std::vector<std::pair<double, double>> out;
  for (std::size_t i = 0; i < points.size(); i += run) {
    const std::size_t end = std::min(points.size(), i + run);
    double x = 0, y = 0;
    for (std::size_t j = i; j < end; ++j) x += points[j].first, y += points[j].second;
    out.emplace_back(x / static_cast<double>(end - i), y / static_cast<double>(end - i));
  }
  return out;
}

struct Plane {
  Range x, y;
  double height;
  double px(double v) const { return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double py(double v) const { return height - kBottom - (v - y.low) / (y.high - y.low) * (height - kTop - kBottom); }
};

std::string axes(const Plane& plane, const Chart& chart) {
  std::string out;
  char line[256];
  const double step_y = tick_step(plane.y, 5), step_x = tick_step(plane.x, 8);
  for (double v = std::ceil(plane.y.low / step_y - 1e-9) * step_y; v <= plane.y.high + step_y * 1e-6; v += step_y) {
    const double shown = std::abs(v) < step_y * 1e-6 ? 0 : v, y = plane.py(shown);
    std::snprintf(line, sizeof line, "<path class=grid d=\"M%.1f %.1fH%.1f\"/><text class=end x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                  kLeft, y, kWidth - kRight, kLeft - 8, y + 4, number(shown).c_str());
    out += line;
  }
  for (double v = std::ceil(plane.x.low / step_x - 1e-9) * step_x; v <= plane.x.high + step_x * 1e-6; v += step_x) {
    std::snprintf(line, sizeof line, "<text class=mid x=\"%.1f\" y=\"%.1f\">%s</text>\n", plane.px(v),
                  plane.height - kBottom + 18, number(v).c_str());
    out += line;
  }
  std::snprintf(line, sizeof line, "<path class=axis d=\"M%.1f %.1fH%.1f\"/>", kLeft, plane.height - kBottom, kWidth - kRight);
  out += line;
  std::snprintf(line, sizeof line, "<text class=\"mid label\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", (kLeft + kWidth - kRight) / 2,
                plane.height - 6, escape(chart.x_label).source.c_str());
  return out + line;
}

std::string marks(const Plane& plane, const Series& series, const Chart& chart) {
  std::string out;
  if (series.dots) {
    for (const auto& [x, y] : series.points)
      out += "<circle class=\"" + series.css_class + "\" r=4.5 cx=" + number(plane.px(x)) + " cy=" + number(plane.py(y)) +
             "><title>" + escape(series.name + " at " + chart.x_label + " " + number(x) + ": " + number(y)).source +
             "</title></circle>\n";
    return out;
  }
  out = "<polyline class=\"" + series.css_class + "\" points=\"";
  for (const auto& [x, y] : thinned(series.points)) out += point(plane.px(x), plane.py(y)) + " ";
  return out + "\"/>\n";
}

}  // namespace

Html draw(const Chart& asked) {
  Chart chart = asked;
  Plane plane;
  plane.height = chart.height;
  for (Series& series : chart.series) {
    std::erase_if(series.points, [](auto& p) { return !std::isfinite(p.first) || !std::isfinite(p.second); });
    for (const auto& [x, y] : series.points) plane.x.include(x), plane.y.include(y);
  }
  std::erase_if(chart.series, [](const Series& series) { return series.points.empty(); });
  if (chart.series.empty()) return {"<p class=quiet>Nothing was recorded.</p>\n"};
  if (plane.x.low == plane.x.high) plane.x = {plane.x.low - 1, plane.x.high + 1};
  const double margin =
      plane.y.high > plane.y.low ? 0.06 * (plane.y.high - plane.y.low) : std::max(1e-12, std::abs(plane.y.high) / 2);
  const bool from_zero = plane.y.low >= 0 && plane.y.low < 0.3 * plane.y.high;
  plane.y = {from_zero ? 0 : plane.y.low - margin, plane.y.high + margin};

  std::string legend = "<p class=legend>" + escape(chart.y_label).source;
  std::string body;
  for (const Series& series : chart.series) {
    legend += " <span class=\"key " + series.css_class + "\"></span>" + escape(series.name).source;
    body += marks(plane, series, chart);
  }
  return {legend + "</p>\n<svg class=chart viewBox=\"0 0 880 " + std::to_string(chart.height) + "\" role=img aria-label=\"" +
          escape(chart.y_label).source + "\">\n" + axes(plane, chart) + body + "</svg>\n"};
}

Html draw(const Scale& scale) {
  constexpr double names = 190, row_height = 24, top = 26;
  Range range;
  const auto include = [&](double v) {
    if (std::isfinite(v)) range.include(v);
  };
  for (const auto& [name, value] : scale.rules) include(value);
  for (const Scale::Row& row : scale.rows) include(row.value), include(row.from.value_or(row.value));
  if (!std::isfinite(range.low)) return {};
  const double margin = range.high > range.low ? 0.06 * (range.high - range.low) : std::max(1e-12, std::abs(range.high) / 2);
  range = {range.low - margin, range.high + margin};
  const double bottom = top + row_height * static_cast<double>(scale.rows.size()), height = bottom + kBottom;
  const auto px = [&](double v) { return names + (v - range.low) / (range.high - range.low) * (kWidth - names - kRight); };

  std::string out =
      "<svg class=chart viewBox=\"0 0 880 " + number(height) + "\" role=img aria-label=\"" + escape(scale.label).source + "\">\n";
  char line[256];
  const double step = tick_step(range, 8);
  for (double v = std::ceil(range.low / step - 1e-9) * step; v <= range.high; v += step) {
    std::snprintf(line, sizeof line, "<path class=grid d=\"M%.1f %.1fV%.1f\"/><text class=mid x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                  px(v), top, bottom, px(v), bottom + 18, number(std::abs(v) < step * 1e-6 ? 0 : v).c_str());
    out += line;
  }
  for (const auto& [name, value] : scale.rules) {
    if (!std::isfinite(value)) continue;
    const bool leftmost =
        std::all_of(scale.rules.begin(), scale.rules.end(), [&](auto& other) { return !(other.second < value); });
    std::snprintf(line, sizeof line, "<path class=rule d=\"M%.1f %.1fV%.1f\"/><text class=%s x=\"%.1f\" y=\"%.1f\">", px(value),
                  top, bottom, leftmost ? "end" : "start", px(value), top - 8);
    out += line + escape(name).source + "</text>\n";
  }
  double y = top + row_height / 2;
  for (const Scale::Row& row : scale.rows) {
    out +=
        "<text class=\"name end\" x=" + number(names - 12) + " y=" + number(y + 4) + ">" + escape(row.name).source + "</text>\n";
    if (std::isfinite(row.value)) {
      const std::string at = " cy=" + number(y) + "><title>" + escape(row.name).source;
      if (row.from && std::isfinite(*row.from)) {
        std::snprintf(line, sizeof line, "<path class=join d=\"M%.1f %.1fH%.1f\"/>", px(*row.from), y, px(row.value));
        out += line + ("<circle class=ring r=4.5 cx=" + number(px(*row.from)) + at + ", the base alone: " + number(*row.from)) +
               "</title></circle>";
      }
      out += "<circle class=main r=5 cx=" + number(px(row.value)) + at + ": " + number(row.value) + "</title></circle>\n";
    }
    y += row_height;
  }
  std::snprintf(line, sizeof line, "<text class=\"mid label\" x=\"%.1f\" y=\"%.1f\">", (names + kWidth - kRight) / 2, height - 6);
  return {out + line + escape(scale.label).source + "</text>\n</svg>\n"};
}

}  // namespace graft::train
