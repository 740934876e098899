#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/corpus.h"
#include "data/document_reader.h"
#include "data/find_files.h"
#include "kernels/device.h"
#include "kernels/lora_linear/lora_linear.h"
#include "model/compute_type.h"
#include "model/decoder.h"
#include "train/memory_plan.h"
#include "train/work_plan.h"

namespace graft::cli {
namespace {

constexpr double kSeconds = 0.2;                             // that are measured for
constexpr std::int64_t kColdBytes = std::int64_t{64} << 20;  // of weights in turns: a step finds none of them in the cache

// Floating point operations of frozen products per second in a linear of the MLP as it is trained, forward and backward, with its
// adapter.
double linear_speed(std::int64_t tokens, std::int64_t rank, const model::ModelSpec& spec, at::ScalarType type,
                    model::BasePrecision precision) {
  const std::int64_t in = spec.hidden, out = std::max(spec.ffn, spec.hidden);
  const auto full = [&](std::int64_t rows, std::int64_t columns, at::ScalarType of) {
    return at::full({rows, columns}, 0.01, of);
  };
  const at::Tensor x = full(tokens, in, type), dy = full(tokens, out, type);
  kernels::LowRank adapter{full(rank, in, at::kFloat), full(out, rank, at::kFloat), at::zeros({rank, in}),
                           at::zeros({out, rank})};
  std::vector<model::Linear> linears(std::max<std::size_t>(1, static_cast<std::size_t>(kColdBytes / (in * out * 2))));
  for (model::Linear& linear : linears) {
    linear.weight = full(out, in, type);
    if (precision == model::BasePrecision::full) continue;
    linear.coded = model::coded(linear.weight, precision);
    linear.weight.reset();
  }
  std::size_t next = 0;
  const auto run = [&] {
    const model::Linear& linear = linears[next++ % linears.size()];
    kernels::LoraLinearSaved saved;
    const std::vector<kernels::LoraPart> part = {{linear.weight, {}, &adapter, &saved, linear.coded.get()}};
    kernels::lora_group_forward(x, part);
    kernels::lora_group_backward({dy}, x, part, true);
  };
  run();  // warm
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  int runs = 0;
  for (; seconds < kSeconds; ++runs) {
    run();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return 4.0 * static_cast<double>(tokens * in * out) * runs / seconds;
}

double seconds_per_token(const train::RunConfig& config, const model::ModelSpec& spec, at::ScalarType compute) {
  const std::int64_t tokens = std::min<std::int64_t>(config.train.micro_rows * config.train.length, 1024);
  const train::TokenFlops flops = train::flops_per_token(config.train, spec);
  const auto speed = [&](model::BasePrecision precision) {
    return linear_speed(tokens, config.lora.rank, spec, compute, precision);
  };
  const model::BasePrecision precision = train::base_precision(config.train);
  const double full = speed(model::BasePrecision::full);
  const double layers = precision == model::BasePrecision::full ? full : speed(precision);
  return (flops.layers / layers + flops.head / full) * train::kBesideProducts;
}

// Tokens of all documents that will be trained on, as the manifest counts them, else a quarter of the sources' bytes; 0: unknown.
struct Documents {
  std::int64_t tokens = 0;
  bool prepared = true;
};

Documents documents_of(const data::CorpusConfig& corpus) {
  std::uint64_t tokens = 0, bytes = 0;
  for (const auto& record : data::read_manifest(corpus.dir))
    if (record.split == "train") tokens += record.tokens;
  if (tokens > 0) return {static_cast<std::int64_t>(tokens), true};
  for (const data::SourceConfig& source : corpus.sources) {
    if (!source.set.empty()) continue;
    try {
      for (const std::string& file : data::find_files(source.path)) {
        std::error_code gone;  // since it was found
        const std::uint64_t size = fs::file_size(file, gone);
        if (!gone && data::format_of(file, source.format)) bytes += size;
      }
    } catch (const DataError&) {  // no documents yet
    }
  }
  return {static_cast<std::int64_t>(static_cast<double>(bytes) * (1 - corpus.heldout) / 4), false};
}

}  // namespace

int graft_estimate(const Context& context) {
  const Session session(context.config);
  check_plan(session, context.config.export_.formats);
  const model::ModelSpec& spec = session.base->spec();
  const auto& train = context.config.train;
  const Dtypes dtypes = session.dtypes();
  const std::int64_t parameters = lora::parameter_count(session.config.lora, *session.base);
  const Documents documents = documents_of(context.config.corpus);
  const train::WorkPlan work = train::plan_work(train, documents.tokens);
  const std::uint64_t exports = export_bytes(session, context.config.export_.formats).anew;
  const auto plan =
      train::plan_run(context.config, spec, dtypes.compute, parameters, work.rows_per_epoch, train::available_memory());
  const bool timed = kernels::device() == kernels::Device::cpu;  // nothing is known of another's speed
  const double step_seconds = timed ? work.tokens_per_step * seconds_per_token(context.config, spec, dtypes.compute) : 0;
  const double seconds = step_seconds * static_cast<double>(work.steps);
  if (context.json) {
    print_json({{"memory", plan.json()},
                {"adapter_parameters", parameters},
                {"export_bytes", exports},
                {"steps", work.steps},
                {"tokens_per_step", work.tokens_per_step},
                {"seconds_per_step", timed ? Json(step_seconds) : Json()},
                {"seconds", timed ? Json(seconds) : Json()},
                {"compute", model::name_of(dtypes.compute)},
                {"base_precision", train.base_precision}});
  } else {
    std::cout << plan.text() << "\n\n";
    std::vector<std::vector<std::string>> rows = {
        {"adapter", cat(human_count(static_cast<double>(parameters)), " parameters of ",
                        human_count(static_cast<double>(spec.parameters())))},
        {"step", cat(timed ? cat("about ", fixed(step_seconds, 1), " s for ") : "", human_count(work.tokens_per_step),
                     " tokens in ", model::name_of(dtypes.compute), base_note(train))}};
    if (!timed)
      rows.push_back({"training", cat("unknown: only the CPU's speed can be estimated, and device is ",
                                      kernels::device_name(kernels::device()))});
    else if (work.steps > 0)
      rows.push_back(
          {"training", cat("about ", human_time(seconds), " for ", work.steps, " steps, without evaluations",
                           train.steps == 0 && !documents.prepared ? "; guessed from the size of the documents" : "")});
    else
      rows.push_back({"training", "unknown: there are no documents yet; set train.steps, or name them"});
    if (exports > 0) rows.push_back({"exports", cat(human_bytes(static_cast<double>(exports)), " of disk")});
    std::cout << columns(rows);
  }
  std::cout.flush();
  plan.check();
  const auto scores = train::plan_scores(context.config, spec, dtypes.compute, train::available_memory());
  if (scores.available > 0 && scores.total() > scores.available)
    log::warn("estimate", "`graft run` also scores the full base, which needs ", human_bytes(static_cast<double>(scores.total())),
              " of memory, and ", human_bytes(static_cast<double>(scores.available)), " are available; `graft train` does not");
  return kDone;
}

}  // namespace graft::cli
