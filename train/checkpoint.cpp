#include "train/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/safetensors.h"

namespace graft::train {
namespace {

constexpr int kFormat = 1;
constexpr std::array<const char*, 3> kFiles = {"adapter.safetensors", "optimizer.safetensors", "state.json"};
constexpr const char* kSums = "SHA256SUMS";
constexpr std::string_view kStepPrefix = "step-";
const std::string kDoomedPrefix = "removed-";
constexpr std::uint64_t kMaxStateBytes = 16 << 20;

// --- the counters ------------------------------------------------------------------------------------------------------------

// One list of the fields for both directions.
template <class State, class Visit>
void visit(State& s, const Visit& field) {
  field("step", s.step);
  field("updates", s.updates);
  field("bad_in_a_row", s.bad_in_a_row);
  field("tokens", s.tokens);
  field("trained_tokens", s.trained_tokens);
  field("evaluated", s.evaluated);
  field("first_loss", s.first_loss);
  field("last_loss", s.last_loss);
  field("seconds", s.seconds);
  field("cursor_seed", s.cursor.seed);
  field("cursor_epoch", s.cursor.epoch);
  field("cursor_row", s.cursor.row);
  field("loss_log_bytes", s.logs.loss);
  field("metrics_log_bytes", s.logs.metrics);
  field("events_log_bytes", s.logs.events);
}

Json to_json(const TrainState& state) {
  Json json = Json::object();
  visit(state, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

TrainState from_json(const Json& json, const std::string& origin) {
  TrainState state;
  visit(state,
        [&](const char* name, auto& value) { value = json_get<std::remove_reference_t<decltype(value)>>(json, name, origin); });
  return state;
}

// --- the tensors -------------------------------------------------------------------------------------------------------------

struct Slice {  // of a flat arena
  std::string name;
  at::Tensor view;
};

// The adapters' tensors as views into `arena`, which is laid out as set.parameters.
std::vector<Slice> slices(const lora::AdapterSet& set, const at::Tensor& arena, const std::string& suffix) {
  std::vector<Slice> result;
  const auto add = [&](const std::string& name, const at::Tensor& like) {
    result.push_back({name + suffix, arena.narrow(0, like.storage_offset(), like.numel()).view(like.sizes())});
  };
  for (const auto& adapter : set.adapters) {
    add(adapter->module + ".lora_A.weight", adapter->low_rank.a);
    add(adapter->module + ".lora_B.weight", adapter->low_rank.b);
  }
  return result;
}

std::vector<Slice> optimizer_slices(const lora::AdapterSet& set, const at::Tensor& m, const at::Tensor& v) {
  auto all = slices(set, m, ".m");
  for (auto& slice : slices(set, v, ".v")) all.push_back(std::move(slice));
  return all;
}

std::string write_tensors(const fs::path& file, const std::vector<Slice>& slices) {
  SafetensorsWriter writer(file);
  for (const auto& slice : slices) writer.tensor(slice.name, DType::f32, slice.view.sizes().vec());
  for (const auto& slice : slices) writer.data(slice.name, slice.view.const_data_ptr(), slice.view.nbytes());
  return writer.commit();
}

void read_tensors(const fs::path& path, const std::vector<Slice>& slices) {
  const SafetensorsFile file(path);
  if (file.tensors().size() != slices.size())
    throw FormatError(cat(path.string(), " holds ", file.tensors().size(), " tensors, this run has ", slices.size()));
  for (const auto& slice : slices) {
    const auto it = file.tensors().find(slice.name);
    if (it == file.tensors().end()) throw FormatError(cat(path.string(), " has no tensor ", slice.name));
    if (it->second.dtype != DType::f32 || at::IntArrayRef(it->second.shape) != slice.view.sizes())
      throw FormatError(cat(path.string(), ": tensor ", slice.name, " has another type or shape than in this run"));
    std::memcpy(slice.view.data_ptr(), file.data(it->second).data(), slice.view.nbytes());
  }
}

bool finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

// Directories that prune renamed, of a process that was killed before it deleted them too.
void remove_doomed(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> doomed;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (entry.path().filename().string().starts_with(kDoomedPrefix)) doomed.push_back(entry.path());
  for (const fs::path& path : doomed) {
    fs::remove_all(path, error);
    if (error) throw_machine_error("remove", path, error.value());
  }
}

// Out of the list of checkpoints, but not gone: prune must not count it, a person may want to look at it.
void set_aside(const fs::path& checkpoint) {
  const fs::path aside = checkpoint.parent_path() / ("damaged-" + checkpoint.filename().string());
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(checkpoint, aside, error);
  if (error) throw_machine_error("rename", checkpoint, error.value());
}

// --- one directory -----------------------------------------------------------------------------------------------------------

// FormatError when a file is missing or differs from its recorded sha256.
void verify(const fs::path& checkpoint) {
  const auto lines = read_lines(checkpoint / kSums, 4096);
  if (lines.size() != kFiles.size())
    throw FormatError(cat((checkpoint / kSums).string(), " has ", lines.size(), " lines, not ", kFiles.size()));
  for (std::size_t i = 0; i < kFiles.size(); ++i) {
    const fs::path file = checkpoint / kFiles[i];
    if (!fs::exists(file)) throw FormatError(cat(file.string(), " is missing"));
    if (lines[i] != cat(sha256_file(file), "  ", kFiles[i]))
      throw FormatError(cat(file.string(), " differs from its sha256 in ", kSums));
  }
}

// FormatError when it is damaged, DataError when it is whole and of another run.
TrainState load(const fs::path& checkpoint, std::int64_t step, const Json& identity, Parameters& parameters) {
  verify(checkpoint);
  const fs::path state_file = checkpoint / "state.json";
  const Json json = read_json(state_file, kMaxStateBytes);
  const auto format = json_get<int>(json, "format", state_file.string());
  if (format != kFormat) throw FormatError(cat(state_file.string(), ": format ", format, ", this program reads ", kFormat));
  if (json_get<Json>(json, "identity", state_file.string()) != identity)
    throw DataError(cat(checkpoint.string(), " belongs to another run; begin anew with --fresh, or name another run_dir"));
  const TrainState state = from_json(json_get<Json>(json, "state", state_file.string()), state_file.string());
  if (state.step != step || state.updates < 0 || state.updates > state.step)
    throw FormatError(
        cat(state_file.string(), " says step ", state.step, " with ", state.updates, " updates, its folder step ", step));

  // Into copies first: a checkpoint that fails half-way must not leave half of itself in the parameters.
  lora::AdapterSet& set = parameters.adapters;
  const at::Tensor p = at::empty_like(set.parameters), m = at::empty_like(p), v = at::empty_like(p);
  read_tensors(checkpoint / "adapter.safetensors", slices(set, p, ""));
  read_tensors(checkpoint / "optimizer.safetensors", optimizer_slices(set, m, v));
  if (!finite(p) || !finite(m) || !finite(v)) throw FormatError(cat(checkpoint.string(), " holds values that are not finite"));
  set.parameters.copy_(p);
  parameters.m.copy_(m);
  parameters.v.copy_(v);
  return state;
}

}  // namespace

Checkpoints::Checkpoints(fs::path directory, Json identity) : directory_(std::move(directory)), identity_(std::move(identity)) {}

std::vector<std::pair<std::int64_t, fs::path>> Checkpoints::list() const {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kStepPrefix)) continue;
    std::int64_t step = 0;
    const char *begin = name.data() + kStepPrefix.size(), *end = name.data() + name.size();
    const auto parsed = std::from_chars(begin, end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end && step >= 0) found.emplace_back(step, entry.path());
  }
  if (error && error != std::errc::no_such_file_or_directory) throw_machine_error("read", directory_, error.value());
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

std::optional<fs::path> Checkpoints::newest() const {
  const auto all = list();
  return all.empty() ? std::nullopt : std::optional(all.front().second);
}

fs::path Checkpoints::save(const TrainState& state, const Parameters& parameters) {
  const lora::AdapterSet& set = parameters.adapters;
  if (!finite(set.parameters) || !finite(parameters.m) || !finite(parameters.v))
    throw MachineError(
        cat("after step ", state.step, " the adapter or the optimizer holds values that are not finite; no ",
            "checkpoint is written. Begin anew (--fresh, or another run_dir) with a lower train.learning_rate or train.clip",
            empty() ? "" : cat("; the last good one is ", newest()->string())));
  const std::string digits = std::to_string(state.step);
  const std::string name = std::string(kStepPrefix) + std::string(8 - std::min<std::size_t>(8, digits.size()), '0') + digits;
  DirectoryWriter writer(directory_ / name);
  const fs::path& out = writer.path();
  std::string sums;
  const auto add = [&](const char* file, const std::string& sha256) { sums += cat(sha256, "  ", file, "\n"); };
  add(kFiles[0], write_tensors(out / kFiles[0], slices(set, set.parameters, "")));
  add(kFiles[1], write_tensors(out / kFiles[1], optimizer_slices(set, parameters.m, parameters.v)));
  const std::string text = Json{{"format", kFormat}, {"state", to_json(state)}, {"identity", identity_}}.dump(2) + "\n";
  write_file(out / kFiles[2], text);
  add(kFiles[2], sha256_hex(text));
  write_file(out / kSums, sums);
  writer.commit();
  return directory_ / name;
}

std::optional<TrainState> Checkpoints::load_newest(Parameters& parameters) {
  remove_doomed(directory_);
  const auto all = list();
  std::vector<fs::path> damaged;
  for (const auto& [step, path] : all) {
    try {
      const TrainState state = load(path, step, identity_, parameters);
      for (const auto& bad : damaged) set_aside(bad);
      if (!damaged.empty()) log::warn("train", "going on from the older checkpoint ", path.string());
      return state;
    } catch (const FormatError& error) {
      log::warn("train", "checkpoint ", path.string(), " is damaged: ", error.what());
      damaged.push_back(path);
    }
  }
  if (!all.empty())
    throw DataError(cat("none of the ", all.size(), " checkpoints in ", directory_.string(),
                        " is usable (the warnings above say why); begin anew with --fresh, or name another run_dir"));
  return std::nullopt;
}

void Checkpoints::prune(std::int64_t keep) {
  const auto all = list();
  if (static_cast<std::int64_t>(all.size()) <= keep) return;
  try {
    verify(all.front().second);
  } catch (const UserError& error) {
    log::warn("train", "older checkpoints are kept: the newest does not verify: ", error.what());
    return;
  }
  for (auto it = all.begin() + keep; it != all.end(); ++it) {
    // First out of sight, so that a kill in between leaves no half of a checkpoint under its name.
    std::error_code error;
    fs::rename(it->second, directory_ / (kDoomedPrefix + it->second.filename().string()), error);
    if (error) throw_machine_error("remove", it->second, error.value());
  }
  remove_doomed(directory_);
}

}  // namespace graft::train
