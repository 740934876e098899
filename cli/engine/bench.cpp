#include "cli/engine/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "kernels/device.h"

namespace graft::cli {
namespace {

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

Cost cost_of(const std::function<void()>& work) {
  kernels::wait_for_device();
  const double before = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  work();
  kernels::wait_for_device();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), cpu_seconds() - before};
}

Cost median(std::vector<Cost> costs) {
  const auto middle = costs.begin() + static_cast<std::ptrdiff_t>(costs.size() / 2);
  std::nth_element(costs.begin(), middle, costs.end(), [](const Cost& a, const Cost& b) { return a.wall < b.wall; });
  return *middle;
}

int graft_bench(const Context& context, const BenchOptions& options) {
  const Session session(context.config);
  return options.what == "step" ? bench_step(session, context, options) : bench_ops(session, context, options);
}

}  // namespace graft::cli
