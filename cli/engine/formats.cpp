#include <iostream>

#include "cli/engine.h"
#include "core/error.h"
#include "core/json.h"
#include "export/exporter.h"

int graft::cli::graft_formats(const Context& context) {
  Json list = Json::array();
  constexpr std::size_t kWidth = 24;
  for (const exports::Exporter* format : exports::all_formats()) {
    const std::string name(format->name);
    if (context.json)
      list.push_back({{"name", name},
                      {"summary", format->summary},
                      {"loads_in", format->loads_in},
                      {"directory", format->extension.empty()},
                      {"merged", format->merges},
                      {"calibrates", format->calibrates}});
    else
      std::cout << name << std::string(name.size() < kWidth ? kWidth - name.size() : 1, ' ') << format->summary << "\n"
                << std::string(kWidth, ' ') << "loads in " << format->loads_in << "\n";
  }
  if (context.json) std::cout << Json{{"formats", list}}.dump(2) << "\n";
  return kDone;
}
