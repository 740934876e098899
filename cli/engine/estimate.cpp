#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/corpus.h"
#include "kernels/cpu/tile.h"
#include "kernels/device.h"
#include "model/compute_type.h"
#include "train/memory_plan.h"
#include "train/trainer.h"

namespace graft::cli {
namespace {

// Floating point operations per second of the product that dominates a step, measured for a fifth of a second.
double matrix_speed(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn, at::ScalarType type) {
  const at::Tensor x = at::ones({std::min<std::int64_t>(tokens, 1024), hidden}, type), w = at::ones({ffn, hidden}, type);
  at::matmul(x, w.t());  // warm
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  int runs = 0;
  for (; seconds < 0.2; ++runs) {
    at::matmul(x, w.t());
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return 2.0 * static_cast<double>(x.numel()) * static_cast<double>(ffn) * runs / seconds;
}

struct Work {
  std::int64_t steps = 0, rows_per_epoch = 0;
  double tokens_per_step = 0;
};

// From the packed corpus where there is one; else full rows and the steps the config names.
Work work_of(const Session& session) {
  const auto& train = session.config.train;
  Work work{.steps = train.steps, .tokens_per_step = static_cast<double>(train.rows * train.length)};
  const auto records = data::read_manifest(session.config.corpus.dir);
  if (std::none_of(records.begin(), records.end(), [](auto& r) { return r.split == "train"; })) return work;
  const auto corpus = data::Corpus::open(session.config.corpus.dir, "train", session.tokenizer->hash());
  const auto batches = data::pack(*corpus, train.length, data::long_documents(train.long_documents));
  work.rows_per_epoch = batches->rows_per_epoch();
  work.steps = train::total_steps(train, *batches);
  work.tokens_per_step = static_cast<double>(train.rows) * static_cast<double>(batches->tokens_per_epoch()) /
                         static_cast<double>(batches->rows_per_epoch());
  return work;
}

}  // namespace

int graft_estimate(const Context& context) {
  const Session session(context.config);
  check_plan(session, context.config.export_.formats);
  const model::ModelSpec& spec = session.base->spec();
  const auto& train = context.config.train;
  const Dtypes dtypes = session.dtypes();
  const std::int64_t parameters = lora::parameter_count(session.config.lora, *session.base);
  const std::uint64_t exports = export_bytes(session, context.config.export_.formats);
  const Work work = work_of(session);
  const auto plan =
      train::plan_run(context.config, spec, dtypes.compute, parameters, work.rows_per_epoch, train::available_memory());

  // Two products with each weight per token (forward, gradient of the input; none for the frozen weight), three when the forward
  // is repeated, and half as much again for attention, norms and the adapters: measured on SmolLM2-135M with rank 16.
  // In int8 the layers' products are twice as fast.
  const double passes = train::recompute_of(train) == model::Recompute::layers ? 3 : 2;
  const bool fast = train.base_precision == "int8" && kernels::cpu::has_int8_dot();
  const std::int64_t in_layers = spec.parameters() - spec.vocab * spec.hidden * (spec.tied_head ? 1 : 2);
  const auto multiplied = static_cast<double>(spec.parameters() - (fast ? in_layers / 2 : 0));
  const double flops = work.tokens_per_step * 2 * multiplied * passes * 1.5;
  const bool timed = kernels::device() == kernels::Device::cpu;  // nothing is known of another's speed
  const double step_seconds =
      timed ? flops / matrix_speed(train.micro_rows * train.length, spec.hidden, std::max(spec.ffn, spec.hidden), dtypes.compute)
            : 0;
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
      rows.push_back({"training", cat("about ", human_time(seconds), " for ", work.steps, " steps, without evaluations")});
    else
      rows.push_back({"training", "unknown: run `graft prepare` first, or set train.steps"});
    if (exports > 0) rows.push_back({"exports", cat(human_bytes(static_cast<double>(exports)), " of disk")});
    std::cout << columns(rows);
  }
  std::cout.flush();
  plan.check();
  return kDone;
}

}  // namespace graft::cli
