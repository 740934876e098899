#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>

#include "cli/engine/bench.h"
#include "cli/engine/output.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/progress.h"
#include "core/rng.h"
#include "core/stop.h"
#include "data/corpus.h"
#include "kernels/adamw/adamw.h"
#include "kernels/copy_rows/copy_rows.h"
#include "kernels/cpu/threads.h"
#include "kernels/device.h"
#include "model/compute_type.h"
#include "train/memory_plan.h"
#include "train/trainer.h"

namespace graft::cli {
namespace {

// Documents of equal length, ids drawn from a seed; every token is trained on but the last of each.
data::Batch made_up_rows(std::int64_t rows, std::int64_t length, std::int64_t document, std::int64_t vocab) {
  const Random random(1, Stream::split);
  data::Batch batch;
  batch.rows = rows;
  batch.starts = {0};
  for (std::int64_t i = 0; i < rows * length; ++i) {
    const std::int64_t position = i % length % document;
    if (position == 0 && i > 0) batch.starts.push_back(static_cast<std::int32_t>(i));
    batch.positions.push_back(static_cast<std::int32_t>(position));
    batch.tokens.push_back(
        static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(vocab)));
  }
  batch.starts.push_back(static_cast<std::int32_t>(rows * length));
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    const bool last = i + 1 == batch.tokens.size() || batch.positions[i + 1] == 0;
    batch.labels.push_back(last ? data::kNoLoss : batch.tokens[i + 1]);
  }
  return batch;
}

// The rows of the first step, as the trainer would read them.
std::vector<data::Batch> first_rows(const Session& session, const BenchOptions& options) {
  const train::TrainConfig& train = session.config.train;
  const auto records = data::read_manifest(session.config.corpus.dir);
  const bool corpus = std::any_of(records.begin(), records.end(), [](const auto& r) { return r.split == "train"; });
  std::vector<data::Batch> micro;
  if (corpus && !options.made_up) {
    const auto documents = data::Corpus::open(session.config.corpus.dir, "train", session.tokenizer->hash());
    const auto source = data::pack(*documents, train.length, data::long_documents(train.long_documents));
    data::Cursor cursor{.seed = static_cast<std::uint64_t>(train.seed)};
    for (std::int64_t left = train.rows; left > 0; left -= train.micro_rows)
      micro.push_back(source->read(cursor, std::min(train.micro_rows, left)));
  } else {
    for (std::int64_t left = train.rows; left > 0; left -= train.micro_rows)
      micro.push_back(made_up_rows(std::min(train.micro_rows, left), train.length, options.document, session.base->spec().vocab));
  }
  return micro;
}

// "model name : ..." and the instruction sets that decide how fast products are.
std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string line, name, found;
  while (std::getline(info, line) && (name.empty() || found.empty())) {
    if (line.rfind("model name", 0) == 0) name = line.substr(line.find(':') + 2);
    if (line.rfind("flags", 0) != 0) continue;
    for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"})
      if ((line + " ").find(std::string(" ") + flag + " ") != std::string::npos) found += std::string(" ") + flag;
  }
  return name + found;
}

struct Memory {
  std::uint64_t peak, weights, optimizer;  // optimizer: adapter, gradient and both moments
};

Json to_json(const Cost& cost) { return {{"wall_seconds", cost.wall}, {"cpu_seconds", cost.cpu}}; }

}  // namespace

int bench_step(const Session& session, const Context& context, const BenchOptions& options) {
  const c10::InferenceMode no_autograd;
  const train::TrainConfig& train = context.config.train;
  const Dtypes types = session.dtypes();
  const auto decoder = model::Decoder::load(*session.base, types.storage, types.compute, train::base_precision(train));
  const auto adapters = lora::create(context.config.lora, *decoder, static_cast<std::uint64_t>(train.seed));
  lora::attach(*adapters, *decoder);
  const at::Tensor m = at::zeros_like(adapters->parameters), v = at::zeros_like(adapters->parameters);
  const std::vector<data::Batch> micro = first_rows(session, options);
  std::int64_t tokens = 0, trained = 0, segments = 0, steps = 0;
  for (const data::Batch& batch : micro) {
    tokens += static_cast<std::int64_t>(batch.tokens.size());
    trained += batch.trained_tokens();
    segments += static_cast<std::int64_t>(batch.starts.size()) - 1;
  }
  const model::Recompute recompute = train::recompute_of(train);
  const auto step = [&] {
    throw_if_stopped();
    kernels::zero(adapters->gradients);
    for (std::size_t i = 0; i < micro.size(); ++i)
      train::micro_step(*decoder, micro[i], 1.0 / static_cast<double>(trained), recompute, i);
    kernels::adamw_step(adapters->parameters, adapters->gradients, m, v, ++steps,
                        {.lr = train.learning_rate, .max_norm = train.clip});
  };
  const kernels::cpu::ThreadPlaces places;
  step();  // the first pays for page faults and thread start
  const Memory memory{peak_memory(), static_cast<std::uint64_t>(decoder->weight_bytes()),
                      4 * static_cast<std::uint64_t>(adapters->parameters.nbytes())};

  std::optional<StepFloor> floor;  // of the host's products: beside a device's step they would fetch its weights
  if (kernels::device() == kernels::Device::cpu) floor.emplace(*decoder, micro);
  std::vector<Cost> whole, frozen, low_rank, attention;
  for (std::int64_t i = 0; i < options.repeat; ++i) {  // in turns: what else runs on the machine slows all of them
    whole.push_back(cost_of(step));
    if (!floor) continue;
    frozen.push_back(floor->frozen());
    low_rank.push_back(floor->low_rank());
    attention.push_back(floor->attention());
  }
  const auto of = [&](const std::vector<Cost>& costs) { return floor ? median(costs) : Cost{}; };
  const Cost one = median(whole), products = of(frozen), narrow = of(low_rank), attended = of(attention);
  const double bare = products.wall + narrow.wall + attended.wall, share = bare / one.wall;
  const double speed = static_cast<double>(tokens) / one.wall;
  const auto times = options.profile ? operator_times(step) : std::vector<OperatorTime>();

  if (context.json) {
    Json runs = Json::array(), operators = Json::array();
    for (const Cost& cost : whole) runs.push_back(cost.wall);
    for (const auto& t : times) operators.push_back({{"name", t.name}, {"cpu_seconds", t.seconds}, {"calls", t.calls}});
    print_json(
        {{"processor", processor()},
         {"threads", at::get_num_threads()},
         {"compute", model::name_of(types.compute)},
         {"base_precision", train.base_precision},
         {"tokens", tokens},
         {"trained_tokens", trained},
         {"documents", segments},
         {"rows", train.rows},
         {"tokens_per_second", speed},
         {"step", to_json(one)},
         {"step_runs", runs},
         {"floor",
          floor ? Json{{"frozen", to_json(products)}, {"low_rank", to_json(narrow)}, {"attention", to_json(attended)}} : Json()},
         {"share_of_floor", floor ? Json(share) : Json()},
         {"memory", {{"peak", memory.peak}, {"weights", memory.weights}, {"adapter_and_optimizer", memory.optimizer}}},
         {"operators", operators}});
    return kDone;
  }
  std::cout << processor() << "; " << at::get_num_threads() << " threads, " << model::name_of(types.compute) << base_note(train)
            << "; " << tokens << " tokens in " << segments << " documents, rank " << context.config.lora.rank << "\n\n";
  const auto row = [&](const char* name, const Cost& cost) -> std::vector<std::string> {
    return {name, fixed(1e3 * cost.wall, 0), fixed(1e3 * cost.cpu, 0), fixed(100 * cost.wall / one.wall, 1)};
  };
  std::vector<std::vector<std::string>> costs = {{"", "ms", "CPU ms", "% of step"}, row("step", one)};
  if (floor)
    costs.insert(costs.end(), {row("bare products: frozen", products), row("  low rank", narrow), row("  attention", attended)});
  std::cout << columns(costs) << "\n"
            << fixed(speed, 0) << " tokens/s, " << (floor ? fixed(100 * share, 1) + " % of the floor; " : "") << "peak memory "
            << human_bytes(static_cast<double>(memory.peak)) << ": weights " << human_bytes(static_cast<double>(memory.weights))
            << ", adapter and optimizer " << human_bytes(static_cast<double>(memory.optimizer))
            << ", activations and the program the rest\n";
  if (times.empty()) return kDone;
  std::vector<std::vector<std::string>> rows = {{"one thread's operators", "ms", "calls"}};
  for (const auto& t : times)
    if (t.seconds > 0.003 * one.cpu) rows.push_back({t.name, fixed(1e3 * t.seconds, 1), std::to_string(t.calls)});
  std::cout << "\n" << columns(rows);
  return kDone;
}

}  // namespace graft::cli
