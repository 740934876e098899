#include <ATen/record_function.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <memory>

#include "cli/engine/bench.h"

namespace graft::cli {
namespace {

constexpr std::int64_t kLowRank = 64;

struct Frame {
  std::string name;
  double start, inner = 0;
};
// One recording at a time: LibTorch's callbacks are plain functions.
struct Recording {
  std::vector<Frame> stack;
  std::map<std::string, OperatorTime> times;
};
Recording* recording = nullptr;

struct Ended final : at::ObserverContext {};

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

bool is_low_rank(const at::RecordFunction& f) {
  if (std::string(f.name()).find("mm") == std::string::npos) return false;
  return std::any_of(f.inputs().begin(), f.inputs().end(), [](const c10::IValue& input) {
    if (!input.isTensor() || !input.toTensor().defined() || input.toTensor().dim() != 2) return false;
    return std::min(input.toTensor().size(0), input.toTensor().size(1)) <= kLowRank;
  });
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& f) {
  recording->stack.push_back({std::string(f.name()) + (is_low_rank(f) ? ", low rank" : ""), thread_seconds()});
  return std::make_unique<Ended>();
}

void end(const at::RecordFunction&, at::ObserverContext*) {
  const Frame frame = recording->stack.back();
  recording->stack.pop_back();
  const double total = thread_seconds() - frame.start;
  OperatorTime& time = recording->times[frame.name];
  time.name = frame.name;
  time.seconds += total - frame.inner;
  ++time.calls;
  if (!recording->stack.empty()) recording->stack.back().inner += total;
}

}  // namespace

std::vector<OperatorTime> operator_times(const std::function<void()>& work) {
  Recording now;
  recording = &now;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(&begin, &end).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  const double start = thread_seconds();
  work();
  double own = thread_seconds() - start;
  at::removeCallback(handle);
  recording = nullptr;

  std::vector<OperatorTime> times;
  for (const auto& [name, time] : now.times) {
    own -= time.seconds;
    times.push_back(time);
  }
  times.push_back({"own loops", own, 0});
  std::sort(times.begin(), times.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return times;
}

}  // namespace graft::cli
