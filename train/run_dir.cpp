#include "train/run_dir.h"

#include "core/error.h"

namespace graft::train {
namespace {

constexpr std::uint64_t kMaxPinsBytes = 16 << 20;

}  // namespace

std::string Pins::text(const char* key) const { return json_get<std::string>(identity, key, "run.json"); }

std::string Pins::started_from() const { return json_get_or<std::string>(identity, "lora.start_from", "", "run.json"); }

std::optional<Pins> read_pins(const fs::path& run_dir) {
  const fs::path file = run_dir / "run.json";
  if (!fs::exists(file)) return std::nullopt;
  const Json json = read_json(file, kMaxPinsBytes);
  return Pins{json_get<Json>(json, "identity", file.string()),
              json_get<std::map<std::string, std::string>>(json, "heldout", file.string()),
              json_get_or<std::string>(json, "program", "", file.string())};
}

RunDir::RunDir(const fs::path& path) : path_(graft::create_directories(path)), lock_(path_) {
  remove_leftovers(path_);
  if (fs::exists(checkpoints())) remove_leftovers(checkpoints());
}

bool RunDir::begun() const {
  std::error_code error;
  return fs::exists(report()) || (fs::is_directory(checkpoints(), error) && !fs::is_empty(checkpoints(), error));
}

void RunDir::write_pins(const Pins& pins) const {
  const Json json = {{"program", pins.program}, {"identity", pins.identity}, {"heldout", pins.heldout}};
  write_file(path_ / "run.json", json.dump(2) + "\n");
}

void RunDir::clear() const {
  // The checkpoints first: what is left after a kill here is never a run that could go on with half its logs.
  for (const char* name : {"checkpoints", "train.json", "adapter", "loss.jsonl", "metrics.jsonl", "tensorboard", "run.json"}) {
    std::error_code error;
    fs::remove_all(path_ / name, error);
    if (error) throw_machine_error("remove", path_ / name, error.value());
  }
}

}  // namespace graft::train
