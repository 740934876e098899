#include <iostream>

#include "cli/engine.h"
#include "cli/engine/output.h"
#include "core/error.h"
#include "core/file.h"
#include "export/manifest.h"

int graft::cli::graft_sign(const Context& context, const SignOptions& options) {
  const fs::path directory = options.directory;
  const exports::Manifest manifest = exports::open_manifest(directory);
  // A signature says that this is what was exported.
  if (const auto problems = exports::changed_files(manifest); !problems.empty()) throw DataError(exports::joined(problems));
  exports::sign_manifest(directory, options.key);
  const std::string signature = (directory / "manifest.json.sig").string();
  if (context.json)
    print_json({{"directory", directory.string()}, {"signature", signature}});
  else
    std::cout << "signed: " << signature << "\n";
  return kDone;
}
