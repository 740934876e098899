#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command verify;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto options = std::make_shared<VerifyOptions>();
  app.add_option("DIRECTORY", options->directory, "export directory, with a manifest.json")->required();
  app.add_option("--key", options->key, "public Ed25519 key in PEM: manifest.json must be signed by its owner")
      ->option_text("FILE");
  auto* run = app.add_option("--run", options->run,
                             "run directory: the files must come of its adapter, base and corpus (default: DIRECTORY's own)")
                  ->option_text("DIR");
  auto* answers =
      app.add_option("--answers", options->answers, "a server's answers to probe/requests.jsonl, instead of the files")
          ->option_text("FILE")
          ->excludes(run);
  app.add_option("--format", options->format, "with --answers: what the server serves")->option_text("NAME")->needs(answers);
  app.add_option("--tolerance", options->tolerance, "with --answers: mean divergence that is accepted, in nats")
      ->capture_default_str()
      ->needs(answers)
      ->check(CLI::Range(0.0, 100.0));
  return [options, &common] {
    return call_engine<decltype(graft_verify)>("graft_verify", common.context_without_config(), *options);
  };
}

}  // namespace

const Command verify = {
    .name = "verify",
    .order = 7,
    .summary = "whether exported files are still what was written, and a server serves them",
    .details =
        R"(Reads   every file of an export directory, and compares its size and sha256 with manifest.json. Files that the manifest
        does not know are named. --key: the manifest itself is as it was signed. --run: it is that of this run. --answers: what a
        server answered to the requests of `graft probe` is what the exported file answers.
Writes  nothing. Ends with exit code 2 when something differs, is missing or was added.

Examples
  graft verify quickstart/run/export
  graft verify /models/manual --key public.pem
  graft verify run/export --run run --json
  graft verify run/export --answers answers.jsonl --format gguf-q8_0)",
    .bind = bind,
};

}  // namespace graft::cli
