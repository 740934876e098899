#include "train/report/report.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/support/catch.h"
#include "train/report/html.h"

using namespace graft;
using namespace graft::train;

namespace {

Report sample() {
  Report report;
  report.title = "manual <b>15</b>";
  report.program = "graft 0.1.0";
  report.created = "2026-01-02 03:04 UTC";
  for (int step = 1; step <= 2000; ++step)
    report.history.loss.emplace_back(step, 3 - std::log10(step) / 3 + 0.1 * std::sin(step * 1.7));
  report.history.learning_rate = {{1, 0}, {100, 1e-3}, {2000, 1e-4}};
  report.history.gradient_norm = {{1, 0.5}, {1000, std::numeric_limits<double>::quiet_NaN()}, {2000, 0.7}};
  report.history.evaluations = {{"heldout", {{0, 2.9}, {1000, 2.2}, {2000, 2.1}}, {{0, 1.1}, {1000, 0.9}, {2000, 0.85}}}};
  report.scores = {{"base", "heldout", 0.9731, 12.53, 16384, 24},
                   {"adapted", "heldout", 0.8514, 9.13, 16384, 24},
                   {"merged", "heldout", 0.8515, 9.131, 16384, 24, "99.9 %"},
                   {"hf", "heldout", 0.8515, 9.131, 16384, 24, "99.9 %", "", {}, 0.0},
                   {"gguf-q8_0", "heldout", 0.8521, 9.14, 16384, 24, "99.4 %", "99.8 %", 0.9736, 0.0004},
                   {"gguf-q4_0", "heldout", 0.9382, 10.9, 16384, 24, "28.7 %", "81.3 %", 1.0371, 0.0712}};
  report.lineage = {{"base", "model.gguf"}, {"sources", "docs/**/*.html"}};
  report.shards = {{"train", "1192", "1738224", "docs/**/*.html", std::string(64, 'a')}};
  report.resources = {{"training", "65.5 k tokens in 9:12, 118 tokens/s"}, {"peak memory", "1.9 GiB"}};
  report.answers = {{"What is <script>alert(1)</script>?", "a & b", "\xff\x01 \"x\" '"}};
  report.artifacts = {{"hf", "export/hf", "vLLM, transformers", std::string(64, 'b'), 269000000, 0.0039}};
  report.config = "base: model.gguf\n";
  return report;
}

}  // namespace

TEST_CASE("text of others is escaped in the report", "[train][report]") {
  CHECK(escape("<a href='x'>&\"").source == "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
  CHECK(escape("\xff").source == "\xEF\xBF\xBD");
  CHECK(escape("a\x01").source == "a\xEF\xBF\xBD");
  CHECK(escape("\xED\xA0\x80").source == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(escape("größe €\n").source == "größe €\n");
  const std::string page = render(sample());
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find("<b>15") == std::string::npos);
  CHECK(page.find("manual &lt;b&gt;15&lt;/b&gt;") != std::string::npos);
}

TEST_CASE("the report is self-contained and says what changed", "[train][report]") {
  const std::string page = render(sample());
  for (const char* outside : {"http:", "https:", "src=", "url(", "@import", "<link", "<iframe"}) {
    INFO(outside);
    CHECK(page.find(outside) == std::string::npos);
  }
  CHECK(page.find("−12.5 %") != std::string::npos);  // 0.8514 / 0.9731 - 1
  CHECK(page.find("0.9731 → 0.8514") != std::string::npos);
  CHECK(page.find("nan") == std::string::npos);
}

TEST_CASE("a report of a run without scores, steps and files is still a page", "[train][report]") {
  const std::string page = render(Report{});
  CHECK(page.find("has not been scored") != std::string::npos);
  CHECK(page.find("Nothing was recorded") != std::string::npos);
}

TEST_CASE("a chart leaves non-finite values out and survives one point", "[train][report]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(draw({"step", "loss", {{"a", "main", {{1, nan}}}}}).source.find("Nothing was recorded") != std::string::npos);
  const std::string one = draw({"step", "loss", {{"a", "main", {{5, 2.0}}, true}}}).source;
  CHECK(one.find("<circle") != std::string::npos);
  CHECK(one.find("nan") == std::string::npos);
  CHECK(one.find("inf") == std::string::npos);
}

TEST_CASE("the scores say what a format costs, in numbers and in a picture", "[train][report]") {
  Report report = sample();
  std::string page = render(report);
  for (const char* part :
       {"<th>gain kept</th>", "<th>quantized base</th>", "<th>update kept</th>", "<th>KL to merged</th>",
        "<td>28.7 %</td><td>1.0371</td><td>81.3 %</td><td>0.0712</td>", "<td>99.9 %</td><td></td><td></td><td>0.0000</td>",
        "gguf-q4_0, the base alone: 1.0371", "gguf-q4_0: 0.9382", ">adapted</text>", "the ring on its line"}) {
    INFO(part);
    CHECK(page.find(part) != std::string::npos);
  }
  report.scores.resize(2);  // base and adapted: nothing to place between them
  page = render(report);
  for (const char* part :
       {"gain kept", "quantized base", "KL to merged", "the ring on its line", "bits per byte\"", "<circle class=ring"}) {
    INFO(part);
    CHECK(page.find(part) == std::string::npos);
  }
}

TEST_CASE("values are placed in their order on one scale, those that are none left out", "[train][report]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto places = [](const std::string& drawing, const std::string& mark) {
    std::vector<double> out;
    for (auto at = drawing.find(mark); at != std::string::npos; at = drawing.find(mark, at + 1))
      out.push_back(std::stod(drawing.substr(at + mark.size())));
    return out;
  };
  const std::string drawing = draw(Scale{"bits <per> byte",
                                         {{"base", 0.9}, {"adapted", 0.8}},
                                         {{"a<b>", 0.82, 0.91}, {"c", 0.85, {}}, {"none", nan, 0.9}, {"d", 0.88, nan}}})
                                  .source;
  const auto dots = places(drawing, "<circle class=main r=5 cx="), rings = places(drawing, "<circle class=ring r=4.5 cx="),
             rules = places(drawing, "<path class=rule d=\"M");
  REQUIRE(dots.size() == 3);
  REQUIRE(rings.size() == 1);
  REQUIRE(rules.size() == 2);
  CHECK((rules[1] < dots[0] && dots[0] < dots[1] && dots[1] < dots[2] && dots[2] < rules[0] && rules[0] < rings[0]));
  CHECK(dots[1] - dots[0] == Approx(dots[2] - dots[1]).margin(0.1));
  CHECK((rules[1] > 190 && rings[0] < 880));
  CHECK(drawing.find("a&lt;b&gt;, the base alone: 0.91") != std::string::npos);
  CHECK(drawing.find("<b>") == std::string::npos);
  CHECK(drawing.find("bits &lt;per&gt; byte") != std::string::npos);
  CHECK(drawing.find("nan") == std::string::npos);
  CHECK(draw(Scale{"x", {{"base", nan}}, {{"a", nan, {}}}}).source.empty());
  CHECK(places(draw(Scale{"x", {}, {{"a", 1, {}}}}).source, "cx=").size() == 1);
}

TEST_CASE("the history of a run is read back; a torn last line is left out", "[train][report]") {
  const auto file = std::filesystem::temp_directory_path() / "graft_history_test.jsonl";
  std::ofstream(file)
      << R"({"step":1,"loss":2.5,"learning_rate":0.1,"gradient_norm":null,"tokens":100,"seconds":2.0,"tokens_per_second":50}
{"step":1,"set":"heldout","nll":20.0,"tokens":10,"bytes":40,"bits_per_byte":0.72,"perplexity":7.4}
{"step":2,"loss":2.25,"learning_rate":0.2,"gradient_norm":1.0,"tokens":200,"skipped":"loss is nan","seconds":4.0,"tokens_per_second":50}
{"step":3,"lo)";
  const History history = read_history(file);
  std::filesystem::remove(file);
  CHECK(history.loss == std::vector<std::pair<double, double>>{{1, 2.5}, {2, 2.25}});
  CHECK(history.skipped == 1);
  CHECK(history.tokens == 200);
  CHECK(history.mean_tokens_per_second() == 50);
  REQUIRE(history.evaluations.size() == 1);
  CHECK(history.evaluations[0].nats_per_token == std::vector<std::pair<double, double>>{{1, 2.0}});
  CHECK(read_history("/nonexistent/metrics.jsonl").loss.empty());
}

TEST_CASE("the loss is drawn with its running mean, over the steps that have one", "[train][report]") {
  Report report;
  for (int step = 1; step <= 40; ++step) report.history.loss.emplace_back(step, step % 2 == 0 ? 1.0 : 3.0);
  report.history.loss[9].second = std::numeric_limits<double>::quiet_NaN();
  const std::string page = render(report);
  const auto line = [&](const std::string& css_class) {
    const std::string begin = "<polyline class=\"" + css_class + "\" points=\"";
    const auto at = page.find(begin);
    REQUIRE(at != std::string::npos);
    const std::string points = page.substr(at + begin.size(), page.find('"', at + begin.size()) - at - begin.size());
    std::vector<double> y;
    for (auto comma = points.find(','); comma != std::string::npos; comma = points.find(',', comma + 1))
      y.push_back(std::stod(points.substr(comma + 1)));
    return y;
  };
  const auto steps = line("faint"), mean = line("main");
  REQUIRE(steps.size() == 39);  // one was not a number
  REQUIRE(mean.size() == 35);   // the first five have one mean
  const double one = steps[1], three = steps[0];
  CHECK(mean.front() == Approx(one + (three - one) * 0.6).margin(0.11));  // 3 1 3 1 3: 2.2, in tenths of a pixel
  for (const double y : mean) CHECK((y > three && y < one));
}

TEST_CASE("a set's name and tokens stand in the table where there are several", "[train][report]") {
  Report report = sample();
  CHECK(render(report).find("<th>held-out set</th>") == std::string::npos);
  report.scores.push_back({"base", "support", 1.1, 12.5, 512, 3});
  const std::string page = render(report);
  CHECK(page.find("<th>held-out set</th><th>tokens</th>") != std::string::npos);
  CHECK(page.find("<td>support</td><td>512</td>") != std::string::npos);
}

// A page to look at: train_test "[sample]".
TEST_CASE("write the sample report", "[.][sample]") { std::ofstream("report-sample.html") << render(sample()); }
