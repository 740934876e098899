#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/corpus.h"
#include "data/document_reader.h"
#include "data/find_files.h"
#include "kernels/cpu/tile.h"
#include "kernels/device.h"
#include "model/compute_type.h"
#include "train/memory_plan.h"
#include "train/work_plan.h"

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
  const std::uint64_t exports = export_bytes(session, context.config.export_.formats);
  const auto plan =
      train::plan_run(context.config, spec, dtypes.compute, parameters, work.rows_per_epoch, train::available_memory());
  const double flops = work.tokens_per_step * train::flops_per_token(train, spec, kernels::cpu::has_int8_dot());
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
  return kDone;
}

}  // namespace graft::cli
