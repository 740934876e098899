#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace graft::cli {

extern const Command sign;

namespace {

std::function<int()> bind(CLI::App& app, Common& common) {
  auto options = std::make_shared<SignOptions>();
  app.add_option("DIRECTORY", options->directory, "export directory, with a manifest.json")->required();
  app.add_option("--key", options->key, "private Ed25519 key in PEM, readable by its owner only")
      ->option_text("FILE")
      ->required();
  return
      [options, &common] { return call_engine<decltype(graft_sign)>("graft_sign", common.context_without_config(), *options); };
}

}  // namespace

const Command sign = {
    .name = "sign",
    .order = 7,
    .summary = "sign what was exported, so that nobody can change it unnoticed",
    .details =
        R"(Reads   every file of an export directory, as `graft verify`, and the private key.
Writes  manifest.json.sig: the Ed25519 signature (64 bytes) of manifest.json, which holds the sha256 of every file, of the base,
        the adapter, the corpus and the config. export.signing_key does the same after every export.

Examples
  openssl genpkey -algorithm ed25519 -out key.pem && chmod 600 key.pem
  openssl pkey -in key.pem -pubout -out public.pem
  graft sign quickstart/run/export --key key.pem
  graft verify quickstart/run/export --key public.pem)",
    .bind = bind,
};

}  // namespace graft::cli
