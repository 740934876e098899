#include <algorithm>
#include <ctime>

#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

// Nothing was begun here: what failed before it began leaves the directory and its lock.
bool unused(const fs::path& run) {
  return std::all_of(fs::directory_iterator(run), fs::directory_iterator(),
                     [](const auto& entry) { return entry.path().filename() == ".lock"; });
}

std::vector<fs::path> newest_first(const fs::path& runs) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(runs))
    if (entry.is_directory()) found.push_back(entry.path());
  std::sort(found.rbegin(), found.rend());
  return found;
}

// Names of a later time sort behind.
fs::path new_run(const fs::path& runs) {
  for (std::time_t now = std::time(nullptr);; ++now) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char name[40];
    std::strftime(name, sizeof name, "%Y-%m-%dT%H%M%SZ", &parts);
    if (!fs::exists(runs / name)) return runs / name;
  }
}

}  // namespace

fs::path scheduled_run(const Session& session, const fs::path& runs) {
  const std::string today = snapshot_today(session);
  const train::ServedFormat served = served_format(session);
  fs::path target = new_run(runs);
  for (const fs::path& run : newest_first(runs)) {
    try {
      const auto pins = train::read_pins(run);
      if (!pins) {
        if (unused(run)) target = run;
        continue;
      }
      if (!train::changes_since(*pins, session.config, *session.base, *session.tokenizer, served).empty()) continue;
      if (!fs::exists(run / "report.html")) {
        log::info("run", run.string(), " was not finished: going on with it");
        return run;
      }
      if (pins->text("corpus") == today) {
        log::info("run", "nothing new since ", run.string());
        return run;
      }
    } catch (const UserError& error) {
      log::warn("run", run.string(), " is passed over: ", error.what());
    }
  }
  log::info("run", "a new run: ", target.string());
  return target;
}

}  // namespace graft::cli
