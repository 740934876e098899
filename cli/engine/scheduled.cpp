#include <algorithm>
#include <ctime>

#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"
#include "data/corpus.h"

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

constexpr const char* kName = "%Y-%m-%dT%H%M%SZ";

// Of those that new_run() gives: any other directory is somebody else's, empty or not.
bool is_of_a_run(const fs::path& directory) {
  std::tm parts{};
  const std::string name = directory.filename();
  const char* const end = strptime(name.c_str(), kName, &parts);
  return end != nullptr && *end == '\0';
}

// What this run began with is still in the corpus; a corpus that was made anew holds other documents.
bool has_documents(const Session& session, const train::Pins& pins) {
  const auto shards = data::read_manifest(session.config.corpus.dir);
  const auto lies_there = [&](const std::string& set, const std::string& snapshot) {
    return !data::shards_of(shards, set, snapshot).empty();
  };
  return lies_there("train", pins.text("corpus")) &&
         std::all_of(pins.heldout.begin(), pins.heldout.end(), [&](auto& set) { return lies_there(set.first, set.second); });
}

// Names of a later time sort behind.
fs::path new_run(const fs::path& runs) {
  for (std::time_t now = std::time(nullptr);; ++now) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char name[40];
    std::strftime(name, sizeof name, kName, &parts);
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
        if (is_of_a_run(run) && unused(run)) target = run;
        continue;
      }
      if (!train::changes_since(*pins, session.config, *session.base, *session.tokenizer, served).empty()) continue;
      if (!fs::exists(run / "report.html")) {
        if (!has_documents(session, *pins)) {
          log::warn("run", run.string(), " was not finished and is passed over: the documents that it began with are not in ",
                    session.config.corpus.dir, " any more");
          continue;
        }
        log::info("run", run.string(), " was not finished: going on with it");
        return run;
      }
      if (pins->text("corpus") == today) {
        log::info("run", "nothing new since ", run.string());
        return run;
      }
    } catch (const UserError& error) {
      log::warn("run", run.string(), " is passed over: ", error.what());
    } catch (const fs::filesystem_error& error) {  // not ours to read
      log::warn("run", run.string(), " is passed over: ", error.code().message());
    }
  }
  log::info("run", "a new run: ", target.string());
  return target;
}

}  // namespace graft::cli
