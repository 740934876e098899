#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"

int graft::cli::graft_export(const Context& context, const ExportOptions& options) {
  const Session session(context.config);
  const auto& formats = options.formats.empty() ? context.config.export_.formats : options.formats;
  if (formats.empty()) throw ConfigError("nothing to export: export.formats is empty; `graft help formats` lists what there is");
  const auto adapter = session.adapter(options.adapter);
  const auto artifacts = export_adapter(session, *adapter, formats);
  if (context.json) {
    Json list = Json::array();
    for (const auto& artifact : artifacts) list.push_back(artifact.json());
    print_json({{"directory", session.export_dir().string()}, {"artifacts", list}});
  } else {
    std::cout << text_of(artifacts);
  }
  return kDone;
}
