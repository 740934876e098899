#include "train/report/report.h"

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

std::string score_table(const Report& report) {
  if (report.scores.empty()) return "<p class=quiet>No scores.</p>";
  double highest = 0;
  for (const ReportScore& score : report.scores) highest = std::max(highest, score.bits_per_byte);
  Rows rows;
  for (const ReportScore& score : report.scores) {
    const ReportScore* base = find(report, "base", score.set);
    const bool is_base = score.model == "base";
    rows.push_back({{escape(score.model)},
                    {escape(score.set)},
                    {bar(score.bits_per_byte / highest, is_base ? "muted" : "main")},
                    {fixed(score.bits_per_byte, 4)},
                    {is_base || base == nullptr ? "" : change_text(change_percent(base->bits_per_byte, score.bits_per_byte))},
                    {fixed(score.perplexity, 3)},
                    {std::to_string(score.tokens)}});
  }
  return table({"model", "held-out set", "", "bits per byte", "against base", "perplexity", "tokens"}, rows, "scores").source +
         "<p class=note>Lower is better. Bits per byte are counted over the bytes of the cleaned text, so they compare across "
         "tokenizers. Every exported file was opened again from disk and scored on the same text.</p>\n";
}

std::string curves(const Report& report) {
  const History& h = report.history;
  Chart loss{"step", "loss, nats per token", {{"training", "main", h.loss}}};
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
                    escape(a.kept),
                    {"<code class=hash>" + escape(a.sha256).source + "</code>"}});
  }
  return table({"format", "written to", "size", "loads in", "largest error", "gain kept", "sha256"}, rows).source +
         "<p class=note>Each was reopened and compared with its source tensor by tensor; the error is relative to the largest "
         "value "
         "of the tensor. Gain kept: what the file saves of the held-out bits that the adapter saves. A directory's sha256 is "
         "that "
         "of its sorted <code>sha256sum</code> lines.</p>\n" +
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
  page += section("Scores", score_table(report));
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
