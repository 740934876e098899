#include "train/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "core/progress.h"
#include "kernels/device.h"
#include "train/merge_aware.h"

namespace graft::train {
namespace {

// The number after `label` in a text of "label  number" lines, or 0.
std::uint64_t number_after(const std::string& text, std::string_view label) {
  std::size_t at = text.find(label);
  if (at == std::string::npos) return 0;
  at = text.find_first_of("0123456789", at + label.size());
  std::uint64_t value = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at, text.data() + text.size(), value);
  return value;
}

std::string text_of(const fs::path& file) {
  std::error_code error;
  return fs::exists(file, error) ? read_file(file, 1 << 20) : "";
}

// What a control group's directory says is left; the largest number when it sets no limit.
std::uint64_t left_in(const fs::path& group) {
  const std::string limit = text_of(group / "memory.max");
  if (limit.empty() || limit.find_first_not_of("0123456789\n") != std::string::npos)  // "max": none
    return std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t most = number_after(limit, ""), used = number_after(text_of(group / "memory.current"), "");
  const std::uint64_t files = number_after(text_of(group / "memory.stat"), "inactive_file");  // given back under pressure
  const std::uint64_t held = used > files ? used - files : 0;
  return most > held ? most - held : 0;
}

// This process's group, below the root of all (a container sees itself as the root).
fs::path own_group(const fs::path& proc, const fs::path& root) {
  const std::string text = text_of(proc / "self/cgroup");
  const std::size_t begin = text.find("0::/");
  if (begin == std::string::npos || (begin > 0 && text[begin - 1] != '\n')) return root;
  const std::string path = text.substr(begin + 4, text.find('\n', begin) - begin - 4);
  return path.empty() || path.find("..") != std::string::npos ? root : root / path;
}

std::uint64_t bytes_in(const fs::path& directory) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    if (const std::uintmax_t size = entry->is_regular_file(gone) ? entry->file_size(gone) : 0; !gone) sum += size;
  }
  return sum;
}

constexpr std::uint64_t kProgramBytes = 350u << 20;  // LibTorch's code and tables, threads, buffers: measured resident at start

}  // namespace

std::uint64_t available_memory(const fs::path& proc, const fs::path& cgroup) {
  if (const std::uint64_t on_device = kernels::free_device_memory()) return on_device;
  const std::uint64_t of_machine = number_after(text_of(proc / "meminfo"), "MemAvailable:") << 10;
  std::uint64_t left = left_in(cgroup);
  for (fs::path group = own_group(proc, cgroup); group != cgroup; group = group.parent_path())
    left = std::min(left, left_in(group));
  if (left == std::numeric_limits<std::uint64_t>::max()) return of_machine;
  return of_machine > 0 ? std::min(of_machine, left) : left;
}

std::uint64_t MemoryPlan::total() const {
  return std::accumulate(items.begin(), items.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const MemoryItem& item) { return sum + item.bytes; });
}

std::string MemoryPlan::text() const {
  std::size_t width = 9;  // of "available"
  for (const auto& item : items) width = std::max(width, item.name.size());
  std::string out = "memory plan";
  const auto row = [&](const std::string& name, std::uint64_t bytes) {
    const std::string size = human_bytes(static_cast<double>(bytes));
    out += "\n  " + name + std::string(width - name.size() + 2 + (size.size() < 10 ? 10 - size.size() : 0), ' ') + size;
  };
  for (const auto& item : items) row(item.name, item.bytes);
  row("total", total());
  if (available) row("available", available);
  return out;
}

Json MemoryPlan::json() const {
  Json list = Json::array();
  for (const auto& item : items) list.push_back({{"name", item.name}, {"bytes", item.bytes}});
  return {{"items", list}, {"total", total()}, {"available", available}};
}

void MemoryPlan::check() const {
  if (available == 0 || total() <= available) return;
  const auto largest =
      std::max_element(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  throw MachineError(cat("the run needs ", human_bytes(static_cast<double>(total())), " of memory and ",
                         human_bytes(static_cast<double>(available)), " are available; the largest part is ", largest->name,
                         " with ", human_bytes(static_cast<double>(largest->bytes)), ": ", largest->advice));
}

namespace {

MemoryPlan plan_weights(std::uint64_t weight_bytes, std::uint64_t available) {
  return {{{"base weights", weight_bytes, "use a smaller base, train.dtype: bf16, or train.base_precision: nf4"},
           {"program", kProgramBytes, "free memory"}},
          available};
}

MemoryPlan plan_parts(const RunConfig& config, const model::ModelSpec& spec, std::uint64_t weights, std::uint64_t activations,
                      bool of_evaluation, std::int64_t adapter_parameters, std::int64_t rows_per_epoch, std::uint64_t available) {
  const TrainConfig& t = config.train;
  const auto p = static_cast<std::uint64_t>(adapter_parameters);
  MemoryPlan plan = plan_weights(weights, available);
  plan.items.push_back({"activations", activations,
                        of_evaluation           ? "lower eval.length"
                        : t.micro_rows > 1      ? "lower train.micro_rows"
                        : t.recompute == "none" ? "set train.recompute: layers, or lower train.length"
                                                : "lower train.length"});
  plan.items.push_back({"adapters and gradients", p * 8, "lower lora.rank or choose fewer lora.target_modules"});
  plan.items.push_back({"optimizer", p * 8, "lower lora.rank or choose fewer lora.target_modules"});
  // A step's rows as tokens, labels (4 and 8 bytes each) and positions; the packing's row table.
  const auto batch = static_cast<std::uint64_t>(t.rows * t.length) * 28, table = static_cast<std::uint64_t>(rows_per_epoch) * 24;
  plan.items.push_back({"batches", batch + table, "lower train.rows or train.length"});
  if (!t.merge_aware.format.empty()) plan.items.push_back({"rounding", merge_aware_bytes(spec), "leave out train.merge_aware"});
  return plan;
}

std::int64_t step_tokens(const TrainConfig& config) { return std::min(config.micro_rows, config.rows) * config.length; }

// S of the adapters (kernels/lora_linear/lora_linear.h), if they are on every linear: q, k, v, o; gate, up, down.
std::int64_t low_rank_bytes(const RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute) {
  const std::int64_t linears = 4 + 3 * (spec.moe.experts > 0 ? spec.moe.per_token : 1);
  const auto layers = recompute_of(config.train) == model::Recompute::layers ? 1 : static_cast<std::int64_t>(spec.layers.size());
  return step_tokens(config.train) * layers * linears * kernels::low_rank_stride(config.lora.rank, compute) *
         static_cast<std::int64_t>(c10::elementSize(compute));
}

}  // namespace

model::Recompute recompute_of(const TrainConfig& config) {
  return config.recompute == "layers" ? model::Recompute::layers : model::Recompute::none;
}

model::BasePrecision base_precision(const TrainConfig& config) {
  if (config.base_precision == "int8") return model::BasePrecision::int8;
  return config.base_precision == "nf4" ? model::BasePrecision::nf4 : model::BasePrecision::full;
}

MemoryPlan plan_run(const RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute,
                    std::int64_t adapter_parameters, std::int64_t rows_per_epoch, std::uint64_t available) {
  const model::BasePrecision precision = base_precision(config.train);
  const std::int64_t step =
      model::activation_bytes(spec, compute, precision, step_tokens(config.train), recompute_of(config.train)) +
      low_rank_bytes(config, spec, compute);
  const std::int64_t evaluation = model::evaluation_bytes(spec, compute, precision, config.eval.length);
  return plan_parts(config, spec, static_cast<std::uint64_t>(model::weight_bytes(spec, compute, precision)),
                    static_cast<std::uint64_t>(std::max(step, evaluation)), evaluation > step, adapter_parameters, rows_per_epoch,
                    available);
}

MemoryPlan plan_scores(const RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute, std::uint64_t available) {
  constexpr auto full = model::BasePrecision::full;
  MemoryPlan plan = plan_weights(static_cast<std::uint64_t>(model::weight_bytes(spec, compute, full)), available);
  plan.items[0].advice = "scores are of the full base; `graft train` alone asks for none";
  plan.items.push_back({"an evaluation's activations",
                        static_cast<std::uint64_t>(model::evaluation_bytes(spec, compute, full, config.eval.length)),
                        "lower eval.length"});
  return plan;
}

fs::path existing_part(const fs::path& path) {
  fs::path existing = fs::absolute(path);
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  return existing;
}

void check_disk(const fs::path& run_dir, std::int64_t adapter_parameters, std::int64_t keep) {
  // Parameters and two moments in f32 for each checkpoint, one more while it is written, the adapter itself, and 8 MiB of logs.
  const std::uint64_t adapter = static_cast<std::uint64_t>(adapter_parameters) * 4;
  const std::uint64_t whole = static_cast<std::uint64_t>(keep + 1) * adapter * 3 + adapter + (8u << 20);
  const std::uint64_t there = bytes_in(run_dir / "checkpoints") + bytes_in(run_dir / "adapter");  // they make room for new ones
  const std::uint64_t needed = whole > there ? whole - there : 0;
  const fs::path existing = existing_part(run_dir);
  if (::access(existing.c_str(), W_OK) != 0)
    throw MachineError(cat(existing.string(), " cannot be written to (", std::strerror(errno), "); name another run_dir"));
  std::error_code error;
  const fs::space_info space = fs::space(existing, error);
  if (error || space.available >= needed) return;
  throw MachineError(cat("the run needs ", human_bytes(static_cast<double>(needed)), " on the disk of ", run_dir.string(),
                         " for ", keep, " checkpoints and the adapter, ", human_bytes(static_cast<double>(space.available)),
                         " are free; free space, lower train.keep_checkpoints or lora.rank, or name another run_dir"));
}

}  // namespace graft::train
