#include "train/report/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/progress.h"
#include "train/report/html.h"
#include "train/report/style.h"

namespace graft::train {
namespace {

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  char out[64];
  std::snprintf(out, sizeof out, "%.*f", decimals, value);
  return out;
}

std::string section(const char* title, const std::string& body) {
  return cat("<section><h2>", title, "</h2>\n", body, "</section>\n");
}

const ReportScore* find(const Report& report, const std::string& model, const std::string& set) {
  for (const ReportScore& score : report.scores)
    if (score.model == model && score.set == set) return &score;
  return nullptr;
}

double change_percent(double from, double to) { return 100 * (to - from) / from; }

std::string change_text(double percent) {
  if (!std::isfinite(percent)) return "–";
  return cat(percent < 0 ? "−" : "+", fixed(std::abs(percent), 1), " %");
}

// The one sentence that a reader came for.
std::string headline(const Report& report) {
  if (report.scores.empty()) return "<p class=quiet>This run has not been scored yet.</p>\n";
  const std::string& set = report.scores.front().set;
  const ReportScore* base = find(report, "base", set);
  const ReportScore* adapted = find(report, "adapted", set);
  if (base == nullptr || adapted == nullptr) return "";
  const double percent = change_percent(base->bits_per_byte, adapted->bits_per_byte);
  const bool better = percent < 0;
  return cat("<div class=headline><p class=\"figure ", better ? "good" : "bad", "\">", change_text(percent),
             "</p><p>bits per byte on held-out text, against the base model<br><span class=quiet>", fixed(base->bits_per_byte, 4),
             " → ", fixed(adapted->bits_per_byte, 4), " · perplexity ", fixed(base->perplexity, 2), " → ",
             fixed(adapted->perplexity, 2), " · set “", escape(set).source, "”, ",
             human_count(static_cast<double>(adapted->tokens)), " tokens of ", adapted->documents,
             " documents that were never trained on</span></p></div>\n");
}

bool contains_a(const Report& report, bool (*has)(const ReportScore&)) {
  return std::any_of(report.scores.begin(), report.scores.end(), has);
}

std::vector<std::string> sets_of(const Report& report) {
  std::vector<std::string> sets;
  for (const ReportScore& score : report.scores)
    if (std::find(sets.begin(), sets.end(), score.set) == sets.end()) sets.push_back(score.set);
  return sets;
}

// One picture for each set: what people look at first.
std::string placed(const Report& report) {
  const std::vector<std::string> sets = sets_of(report);
  std::string out;
  for (const std::string& set : sets) {
    Scale scale{.label = sets.size() == 1 ? "bits per byte" : "bits per byte on " + set};
    for (const ReportScore& score : report.scores) {
      if (score.set != set) continue;
      if (score.model == "base" || score.model == "adapted")
        scale.rules.emplace_back(score.model, score.bits_per_byte);
      else
        scale.rows.push_back({score.model, score.bits_per_byte, score.quantized_base});
    }
    if (!scale.rows.empty()) out += draw(scale).source;
  }
  if (contains_a(report, [](auto& score) { return score.quantized_base.has_value(); }))
    out +=
        "<p class=note>A dot is a file; the ring on its line is the base alone in the same format. The nearer the dot to "
        "“adapted”, the more is left of what was learned; the further the ring from “base”, the more the format costs any "
        "model.</p>\n";
  return out;
}

std::string score_table(const Report& report) {
  if (report.scores.empty()) return "<p class=quiet>No scores.</p>";
  const bool files = contains_a(report, [](auto& score) { return !score.kept.empty(); });
  const bool quantized = contains_a(report, [](auto& score) { return score.quantized_base || score.kl; });
  const bool sets = sets_of(report).size() > 1;  // with one, the headline names it and its tokens
  std::vector<std::string> head = {"model", "bits per byte", "against base"};
  if (files) head.push_back("gain kept");
  if (quantized) head.insert(head.end(), {"quantized base", "update kept", "KL to merged"});
  head.push_back("perplexity");
  if (sets) head.insert(head.end(), {"held-out set", "tokens"});
  Rows rows;
  for (const ReportScore& score : report.scores) {
    const ReportScore* base = find(report, "base", score.set);
    const bool is_base = score.model == "base";
    rows.push_back({{escape(score.model)},
                    {fixed(score.bits_per_byte, 4)},
                    {is_base || base == nullptr ? "" : change_text(change_percent(base->bits_per_byte, score.bits_per_byte))}});
    if (files) rows.back().push_back(escape(score.kept));
    if (quantized) {
      rows.back().push_back({score.quantized_base ? fixed(*score.quantized_base, 4) : ""});
      rows.back().push_back(escape(score.update_kept));
      rows.back().push_back({score.kl ? fixed(*score.kl, 4) : ""});
    }
    rows.back().push_back({fixed(score.perplexity, 3)});
    if (sets) rows.back().insert(rows.back().end(), {escape(score.set), {std::to_string(score.tokens)}});
  }
  return table(head, rows, "scores").source +
         "<p class=note>Lower bits per byte are better; they are counted over the bytes of the cleaned text, so they compare "
         "across tokenizers. Every exported file was opened again from disk and scored on the same text.</p>\n" +
         (report.familiar.empty() ? "" : "<p class=\"note lines\">" + escape(report.familiar).source + "</p>\n") +
         (files ? "<p class=note>Gain kept: what the file saves of the held-out bits that the adapter saves.</p>\n" : "") +
         (quantized ? "<p class=note>Quantized base: the base alone in the file’s format. Update kept: what the adapter is worth "
                      "there, of what it is worth without rounding. KL to merged: how far the file’s predictions are from the "
                      "merged model’s before it was rounded, nats per token on a sample of the text.</p>\n"
                    : "");
}

// Centred means over a twentieth of the run (five steps or more): one step's loss says more about its text than about the model.
std::vector<std::pair<double, double>> running_mean(std::vector<std::pair<double, double>> points) {
  std::erase_if(points, [](auto& point) { return !std::isfinite(point.second); });
  const std::size_t window = std::max<std::size_t>(5, points.size() / 20);
  std::vector<std::pair<double, double>> out;
  double sum = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    sum += points[i].second - (i < window ? 0 : points[i - window].second);
    if (i + 1 >= window) out.emplace_back(points[i - window / 2].first, sum / static_cast<double>(window));
  }
  return out;
}

std::string curves(const Report& report) {
  const History& h = report.history;
  Chart loss{"step", "loss, nats per token", {{"each step", "faint", h.loss}, {"running mean", "main", running_mean(h.loss)}}};
  const char* colours[] = {"held", "held2", "held3"};
  for (std::size_t i = 0; i < h.evaluations.size(); ++i)
    loss.series.push_back({h.evaluations[i].set, colours[i % 3], h.evaluations[i].nats_per_token, true});
  Chart rate{"step", "learning rate", {{"learning rate", "muted", h.learning_rate}}, 170};
  Chart norm{"step", "gradient norm before clipping", {{"gradient norm", "muted", h.gradient_norm}}, 170};
  return cat(draw(loss).source, draw(rate).source, draw(norm).source);
}

std::string answers(const Report& report) {
  std::string out;
  for (const ReportAnswer& answer : report.answers)
    out += cat("<article><p class=prompt>", escape(answer.prompt).source, "</p><div class=pair><div><h3>base</h3><p>",
               escape(answer.base).source, "</p></div><div><h3>adapted</h3><p>", escape(answer.adapted).source,
               "</p></div></div></article>\n");
  return out + "<p class=note>Greedy decoding. A few answers show style, not quality; the scores above do.</p>\n";
}

std::string artifact_table(const Report& report) {
  Rows rows;
  for (const ReportArtifact& a : report.artifacts) {
    char error[32];
    std::snprintf(error, sizeof error, "%.2g", a.max_error);
    rows.push_back({{escape(a.format)},
                    {"<code>" + escape(a.path).source + "</code>"},
                    {human_bytes(static_cast<double>(a.bytes))},
                    {escape(a.loads_in)},
                    {error},
                    {"<code class=hash>" + escape(a.sha256).source + "</code>"}});
  }
  return table({"format", "written to", "size", "loads in", "largest error", "sha256"}, rows).source +
         "<p class=note>Each was reopened and compared with its source tensor by tensor; the error is relative to the largest "
         "value "
         "of the tensor. A directory's sha256 is that of its sorted <code>sha256sum</code> lines.</p>\n" +
         (report.withdrawn.empty() ? "" : "<p class=note>" + escape(report.withdrawn).source + "</p>\n");
}

std::string lineage(const Report& report) {
  std::string out = facts(report.lineage).source;
  if (report.shards.empty()) return out;
  Rows rows;
  for (const auto& shard : report.shards) {
    std::vector<Html> row;
    for (std::size_t i = 0; i < shard.size(); ++i)
      row.push_back(i + 1 == shard.size() ? Html{"<code class=hash>" + escape(shard[i]).source + "</code>"} : escape(shard[i]));
    rows.push_back(std::move(row));
  }
  return out + table({"split", "documents", "tokens", "source", "sha256 of the shard"}, rows).source;
}

}  // namespace

std::string render(const Report& report) {
  std::string page =
      cat("<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
          "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
          "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>",
          escape(report.title).source, "</title>\n<style>", kReportStyle, "</style>\n</head>\n<body>\n<header><h1>",
          escape(report.title).source, "</h1><p class=quiet>", escape(report.program).source, " · ",
          escape(report.created).source, "</p></header>\n<main>\n", headline(report));
  page += section("Scores", placed(report) + score_table(report));
  if (!report.answers.empty()) page += section("Answers", answers(report));
  page += section("Training", curves(report));
  if (!report.artifacts.empty() || !report.withdrawn.empty()) page += section("Exported files", artifact_table(report));
  page += section("What went in", lineage(report));
  page += section("What it cost", facts(report.resources).source);
  page += section("Config", cat("<details><summary>every key with the value it had</summary><pre>", escape(report.config).source,
                                "</pre></details>\n"));
  return page + "</main>\n</body>\n</html>\n";
}

}  // namespace graft::train
