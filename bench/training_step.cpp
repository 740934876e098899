// Time of one training step, against the products that no implementation can leave out.
//
//   training_step <base> [f32|bf16] [tokens=1024] [documents=4] [rank=16] [steps=5] [recompute]
//
// The floor is one product X W^T for every frozen linear and the head (forward) and one product dY W (gradient of the input), as
// plain at::mm_out of the same shapes into buffers that exist already, each on weights of its own. Processor time is what counts
// on a shared machine (with OMP_NUM_THREADS=1 nobody spins in it). Operator times are exclusive, of the calling thread; what is
// in none of them is our own loops.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>

#include "core/rng.h"
#include "kernels/adamw/adamw.h"
#include "lora/adapter.h"
#include "model/compute_type.h"
#include "model/decoder.h"

namespace {

using namespace graft;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Products with one side of at most this are those of adapters.
constexpr std::int64_t kLowRank = 64;
bool is_low_rank(const at::RecordFunction& f) {
  for (const c10::IValue& input : f.inputs())
    if (input.isTensor() && input.toTensor().defined() && input.toTensor().dim() == 2 &&
        std::min(input.toTensor().size(0), input.toTensor().size(1)) <= kLowRank)
      return true;
  return false;
}

// Exclusive time of operators by name.
struct Frame {
  std::string name;
  double start;
  double inner = 0;
};
struct Profile {
  std::vector<Frame> stack;
  std::map<std::string, std::pair<double, long>> times;
} profile;

struct Ended final : at::ObserverContext {};

void record_operators() {
  at::addThreadLocalCallback(
      at::RecordFunctionCallback(
          [](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
            const std::string name = f.name();
            const bool product = name.find("mm") != std::string::npos;
            profile.stack.push_back({product && is_low_rank(f) ? name + ", low rank" : name, thread_seconds()});
            return std::make_unique<Ended>();
          },
          [](const at::RecordFunction&, at::ObserverContext*) {
            const Frame frame = profile.stack.back();
            profile.stack.pop_back();
            const double total = thread_seconds() - frame.start;
            auto& [time, count] = profile.times[frame.name];
            time += total - frame.inner;
            ++count;
            if (!profile.stack.empty()) profile.stack.back().inner += total;
          })
          .needsInputs(true)
          .scopes({at::RecordScope::FUNCTION}));
}

// Documents of equal length, ids drawn from a seed; every token is trained on but the last of each.
struct Row {
  model::Packed packed;
  at::Tensor labels;
};
Row made_up_row(std::int64_t tokens, std::int64_t documents, std::int64_t vocab) {
  const Random random(1, Stream::split);
  at::Tensor ids = at::empty({tokens}, at::kLong), positions = at::empty({tokens}, at::kLong),
             labels = at::empty({tokens}, at::kLong);
  std::vector<std::int32_t> starts = {0};
  for (std::int64_t d = 0; d < documents; ++d) starts.push_back(static_cast<std::int32_t>(tokens * (d + 1) / documents));
  for (std::int64_t i = 0; i < tokens; ++i)
    ids.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>(random.bits(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(vocab));
  for (std::size_t d = 0; d + 1 < starts.size(); ++d)
    for (std::int64_t i = starts[d]; i < starts[d + 1]; ++i) {
      positions.data_ptr<std::int64_t>()[i] = i - starts[d];
      labels.data_ptr<std::int64_t>()[i] = i + 1 < starts[d + 1] ? ids.data_ptr<std::int64_t>()[i + 1] : -100;
    }
  return {{ids, positions, starts}, labels};
}

struct Cost {
  double wall = 0, cpu = 0;
};
template <class F>
Cost cost_of(const F& f) {
  const double before = cpu_seconds();
  const auto start = Clock::now();
  f();
  return {since(start), cpu_seconds() - before};
}
Cost median(std::vector<Cost> costs) {
  std::sort(costs.begin(), costs.end(), [](const Cost& a, const Cost& b) { return a.cpu < b.cpu; });
  return costs[costs.size() / 2];
}

// The frozen products of one step.
Cost floor_cost(model::Decoder& decoder, std::int64_t tokens) {
  std::vector<at::Tensor> weights;
  for (const model::Linear* linear : decoder.linears()) weights.push_back(linear->weight);
  at::Tensor head;
  if (decoder.spec().tied_head)
    weights.push_back(head = at::randn({decoder.spec().vocab, decoder.spec().hidden}).to(decoder.compute()));
  const auto options = weights.front().options();
  std::map<std::int64_t, at::Tensor> activations;  // by width
  for (const at::Tensor& w : weights)
    for (const std::int64_t width : {w.size(0), w.size(1)})
      if (!activations.contains(width)) activations[width] = at::randn({tokens, width}).to(options);
  return cost_of([&] {
    for (const at::Tensor& w : weights) {
      at::mm_out(activations[w.size(0)], activations[w.size(1)], w.t());
      at::mm_out(activations[w.size(1)], activations[w.size(0)], w);
      for (const std::int64_t width : {w.size(0), w.size(1)}) activations[width].fill_(0.5);
    }
  });
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::int64_t fallback) { return argc > i ? std::atoll(argv[i]) : fallback; };
  if (argc < 2) return std::puts("usage: training_step <base> [f32|bf16] [tokens] [documents] [rank] [steps] [recompute]"), 2;
  const c10::InferenceMode no_autograd;
  const std::string type = argc > 2 ? argv[2] : "auto";
  const at::ScalarType compute = type == "f32" ? at::kFloat : type == "bf16" ? at::kBFloat16 : model::fastest_compute_type();
  const std::int64_t tokens = argument(3, 1024), documents = argument(4, 4), rank = argument(5, 16), steps = argument(6, 5);
  const auto recompute = argument(7, 0) ? model::Recompute::layers : model::Recompute::none;

  const auto decoder = model::Decoder::load(*model::open_weights(argv[1]), at::kBFloat16, compute);
  const auto adapters = lora::create({.rank = rank, .alpha = 2.0 * static_cast<double>(rank)}, *decoder, 1);
  lora::attach(*adapters, *decoder);
  const at::Tensor m = at::zeros_like(adapters->parameters), v = at::zeros_like(adapters->parameters);
  const Row row = made_up_row(tokens, documents, decoder->spec().vocab);
  std::int64_t done = 0;
  const auto step = [&] {
    adapters->gradients.zero_();
    const double loss = decoder->train_step(row.packed, row.labels, 1.0 / static_cast<double>(tokens), recompute, 0).sum;
    kernels::adamw_step(adapters->parameters, adapters->gradients, m, v, ++done, {.lr = 1e-4, .max_norm = 1});
    return loss;
  };
  std::printf("%s, %d threads, %lld tokens in %lld documents, rank %lld\n", compute == at::kFloat ? "f32" : "bf16",
              at::get_num_threads(), static_cast<long long>(tokens), static_cast<long long>(documents),
              static_cast<long long>(rank));
  step();
  floor_cost(*decoder, tokens);
  std::vector<Cost> whole, floors;
  for (std::int64_t i = 0; i < steps; ++i) {  // in turns: what else runs on the machine slows both
    floors.push_back(floor_cost(*decoder, tokens));
    whole.push_back(cost_of(step));
  }
  const Cost one = median(whole), floor = median(floors);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "step %.2f s, CPU %.2f s, %.0f tokens/s, %.0f tokens per CPU second; frozen products CPU %.2f s: %.0f %% of the step; peak "
      "%ld MiB\n",
      one.wall, one.cpu, static_cast<double>(tokens) / one.wall, static_cast<double>(tokens) / one.cpu, floor.cpu,
      100 * floor.cpu / one.cpu, usage.ru_maxrss >> 10);

  record_operators();
  const double start = thread_seconds();
  step();
  const double all = thread_seconds() - start;
  double inside = 0;
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [name, time] : profile.times) {
    inside += time.first;
    sorted.push_back({time.first, name});
  }
  std::sort(sorted.rbegin(), sorted.rend());
  std::printf("%-28s %8.1f ms  %4.1f %%\n", "own loops", 1e3 * (all - inside), 100 * (all - inside) / all);
  for (const auto& [time, name] : sorted)
    if (time > 0.003 * all)
      std::printf("%-28s %8.1f ms  %4.1f %%  %ld calls\n", name.c_str(), 1e3 * time, 100 * time / all,
                  profile.times[name].second);
  return 0;
}
