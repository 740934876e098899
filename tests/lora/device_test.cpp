// One step of a tiny model through the CUDA kernels on the host (device: simt) against the same step of the CPU's kernels.
#include "kernels/device.h"

#include <ATen/record_function.h>

#include <set>

#include "kernels/adamw/adamw.h"
#include "kernels/lora_linear/coded_weight.h"
#include "lora/adapter.h"
#include "tests/support/as_numbers.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_model.h"

#ifndef __SANITIZE_ADDRESS__  // the simulator is not built then (cmake/cuda.cmake)

namespace graft::lora {
namespace {

using namespace graft::testing;
using kernels::Device;

class On {
 public:
  explicit On(Device device) : before_(kernels::device()) { kernels::set_device(device); }
  ~On() { kernels::set_device(before_); }
  On(const On&) = delete;
  On& operator=(const On&) = delete;

 private:
  Device before_;
};

// Heads of 64, so that attention has a CUDA kernel; one layer with a window.
model::ModelSpec llama() {
  model::ModelSpec spec = tiny_spec();
  spec.heads = 2;
  spec.kv_heads = 1;
  spec.head_dim = spec.rope.dims = spec.rope_local.dims = 64;
  spec.attention_scale = 1.0 / 8;
  spec.layers[1].window = 7;
  return spec;
}

// Soft caps, norms of q and k, gains of 1 + w, norms behind the blocks, GeGLU, a head that is the embedding.
model::ModelSpec gemma() {
  model::ModelSpec spec = llama();
  spec.attention_softcap = 4;
  spec.final_softcap = 6;
  spec.qk_norm = spec.post_norms = spec.norm_in_f32 = spec.tied_head = true;
  spec.norm_gain_offset = 1;
  spec.activation = model::Activation::gelu_tanh;
  spec.embed_scale = std::sqrt(24.0);
  spec.layers[1].local_rope = true;
  return spec;
}

// Fused projections whose parts are views, biases, half of each head rotated.
model::ModelSpec phi() {
  model::ModelSpec spec = llama();
  spec.fused_qkv = spec.fused_gate_up = spec.qkv_bias = spec.o_bias = true;
  spec.rope.dims = spec.rope_local.dims = 32;
  spec.layers[0].window = 70;
  return spec;
}

// Models are loaded where their weights will be needed (kernels/device_memory.h); the processor reads them there too.
std::unique_ptr<model::Decoder> load(const TinyModel& source, at::ScalarType compute, at::ScalarType storage,
                                     model::BasePrecision precision = model::BasePrecision::full) {
  const On on(Device::simt);
  return model::Decoder::load(source, storage, compute, precision);
}

struct Step {
  double loss = 0;
  at::Tensor gradients;
  std::vector<std::pair<std::string, at::Tensor>> parts;  // views of gradients
};

struct Problem {
  model::Packed batch;
  at::Tensor labels;
  std::int64_t rank = 4;
  model::Recompute recompute = model::Recompute::none;
};

Step step(model::Decoder& decoder, const Problem& problem, Device device) {
  const On on(device);
  const auto set = create({.rank = problem.rank, .alpha = 8, .dropout = 0.2, .target_modules = {"*"}}, decoder, 3);
  set->parameters.copy_(random(set->parameters.sizes(), 5, at::kFloat, 0.1));  // B as if trained
  attach(*set, decoder);
  set->gradients.zero_();
  const double scale = 1 / problem.labels.ne(-100).sum().item<double>();
  Step result;
  result.loss = decoder.train_step(problem.batch, problem.labels, scale, problem.recompute, 11).sum * scale;
  result.gradients = set->gradients.clone();
  for (const auto& adapter : set->adapters)
    for (const auto& [name, view] : {std::pair{" A", &adapter->low_rank.grad_a}, {" B", &adapter->low_rank.grad_b}})
      result.parts.emplace_back(adapter->module + name, result.gradients.narrow(0, view->storage_offset(), view->numel()));
  detach(decoder);
  return result;
}

// 100 tokens: more than a tile, one token alone, some without label.
Problem tiny_problem() {
  Problem problem;
  problem.batch = packed(at::randint(61, {100}, at::detail::createCPUGenerator(1), at::kLong), {0, 70, 71, 100});
  problem.labels = at::randint(61, {100}, at::detail::createCPUGenerator(2), at::kLong);
  problem.labels.slice(0, 0, 100, 7).fill_(-100);
  return problem;
}

// In f32 both round alike, in another order, and approximate exp and 1 / sqrt to 2^-22: a step's chain has some 20 such ops a
// layer, each of which may add 2^-22 to the relative error, and differences of near equals (p - 1, dO V - D) may make it four
// times as large.
constexpr double kF32 = 2 * 20 * 4 * 0x1p-22;

void check_equal(const Step& got, const Step& want) {
  CHECK_FALSE(same_bits(got.gradients, want.gradients));  // it was another code that computed it
  CHECK(got.loss == Approx(want.loss).epsilon(kF32));
  REQUIRE(got.parts.size() == want.parts.size());
  for (std::size_t i = 0; i < want.parts.size(); ++i) {
    INFO(want.parts[i].first);
    CHECK(relative_error(got.parts[i].second, want.parts[i].second) <= kF32);
  }
}

// What LibTorch does between kernels: all operators but those that look at shapes or allocate.
class HostWork {
 public:
  struct Seen {
    std::set<std::string> early;  // while the device was busy
    std::set<std::string> rows;   // that read floats of at least half as many rows as there are tokens
    int calls = 0;
  };
  explicit HostWork(std::int64_t tokens) {
    all() = {};
    rows_of_batch() = tokens / 2;
    handle_ = at::addGlobalCallback(at::RecordFunctionCallback(&see).scopes({at::RecordScope::FUNCTION}).needsInputs(true));
  }
  ~HostWork() { at::removeCallback(handle_); }
  HostWork(const HostWork&) = delete;
  HostWork& operator=(const HostWork&) = delete;
  const Seen& seen() const { return all(); }

 private:
  static Seen& all() {
    static Seen seen;
    return seen;
  }
  static std::int64_t& rows_of_batch() {
    static std::int64_t rows = 0;
    return rows;
  }
  static std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& call) {
    static const std::set<std::string> harmless = {
        "aten::empty",  "aten::empty_like", "aten::empty_strided", "aten::narrow",    "aten::slice",  "aten::view",
        "aten::select", "aten::t",          "aten::transpose",     "aten::unsqueeze", "aten::expand", "aten::as_strided",
        "aten::to",     "aten::reshape",    "aten::contiguous",    "aten::squeeze"};  // copies inside are calls of their own
    const std::string name = call.name();
    if (harmless.contains(name)) return nullptr;
    ++all().calls;
    if (kernels::device_busy()) all().early.insert(name);
    for (const c10::IValue& value : call.inputs()) {
      if (!value.isTensor() || !value.toTensor().defined()) continue;
      const at::Tensor& x = value.toTensor();
      if (x.dim() > 1 && x.is_floating_point() && x.size(0) >= rows_of_batch() && x.size(1) > 1) all().rows.insert(name);
    }
    return nullptr;
  }
  at::CallbackHandle handle_;
};

const std::set<std::string> kAngles = {"aten::cos", "aten::sin"};  // of positions, once a step

const std::vector<std::pair<const char*, model::ModelSpec (*)()>> kSpecs = {{"llama", llama}, {"gemma", gemma}, {"phi", phi}};

}  // namespace

TEST_CASE("in f32 a step through the CUDA kernels is the CPU's step, and the host computes with no row of activations",
          "[device]") {
  const Problem problem = tiny_problem();
  for (const auto& [name, spec] : kSpecs) {
    INFO(name);
    const TinyModel source(spec(), 7);
    const auto decoder = load(source, at::kFloat, at::kFloat);
    decoder->set_loss_terms({.z_loss = 1e-3, .label_smoothing = 0.1});
    const HostWork host(problem.labels.numel());
    const Step simt = step(*decoder, problem, Device::simt);
    CHECK(host.seen().rows == kAngles);
    check_equal(simt, step(*decoder, problem, Device::cpu));
  }
}

TEST_CASE("for every family a step through the CUDA kernels is the CPU's, and the host touches no tensor while they run",
          "[device]") {
  for (const std::string& name : golden_models()) {
    INFO(name);
    const On on(Device::simt);
    const Golden golden(name);
    const auto decoder = golden.load();
    const Problem problem{golden.batch, golden.labels};
    const HostWork host(golden.labels.numel());
    const Step simt = step(*decoder, problem, Device::simt);
    const double loss = decoder->loss(golden.batch, golden.labels, true).sum;
    CHECK_FALSE(kernels::device_busy());
    CHECK(host.seen().early == std::set<std::string>{});
    CHECK(host.seen().calls > 50);
    check_equal(simt, step(*decoder, problem, Device::cpu));
    const On cpu(Device::cpu);
    CHECK(loss == Approx(decoder->loss(golden.batch, golden.labels, true).sum).epsilon(kF32));
  }
}

// Rounding differs from op to op; the CUDA kernels may be as far from f32 on the same weights as twice the CPU's bf16.
TEST_CASE("in bf16 a step through the CUDA kernels is as near to f32 as the CPU's", "[device]") {
  Problem problem = tiny_problem();
  for (const auto& [name, spec] : kSpecs) {
    const TinyModel source(spec(), 7);
    const auto exact_decoder = load(source, at::kFloat, at::kBFloat16);
    const auto decoder = load(source, at::kBFloat16, at::kBFloat16);
    for (const std::int64_t rank : {4, 19}) {
      problem.rank = rank;
      const Step exact = step(*exact_decoder, problem, Device::cpu), cpu = step(*decoder, problem, Device::cpu);
      const Step simt = step(*decoder, problem, Device::simt);
      INFO(name << " rank " << rank);
      CHECK_FALSE(same_bits(simt.gradients, cpu.gradients));
      CHECK(std::abs(simt.loss - exact.loss) <= 2 * std::abs(cpu.loss - exact.loss) + 0x1p-9 * exact.loss);
      CHECK(relative_error(simt.gradients, exact.gradients) <= 2 * relative_error(cpu.gradients, exact.gradients));
      for (std::size_t i = 0; i < exact.parts.size(); ++i) {
        INFO(exact.parts[i].first);
        CHECK(relative_error(simt.parts[i].second, exact.parts[i].second) <=
              2 * relative_error(cpu.parts[i].second, exact.parts[i].second));
      }
    }
  }
}

TEST_CASE("a base in NF4 through the CUDA kernels is the one of its numbers", "[device][nf4]") {
  const Problem problem = tiny_problem();
  const TinyModel source(llama(), 7);
  for (const auto compute : {at::kFloat, at::kBFloat16}) {
    const auto nf4 = load(source, compute, compute, model::BasePrecision::nf4);
    const auto numbers = load(source, compute, compute);
    take_numbers(*numbers, *nf4);
    const Step got = step(*nf4, problem, Device::simt);
    CHECK(same_bits(got.gradients, step(*numbers, problem, Device::simt).gradients));
    if (compute == at::kFloat) check_equal(got, step(*nf4, problem, Device::cpu));
  }
}

TEST_CASE("NF4 codes made by the CUDA kernels are the processor's", "[device][nf4]") {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {5, 13}, {3, 65}, {33, 2050}}) {
      INFO(rows << " x " << columns);
      at::Tensor weight = random({rows, columns}, 1, type);
      if (columns > 1000) {
        weight[1].slice(0, 0, 64).zero_();
        weight[2].mul_(1e-39);  // below what a block is divided by
      }
      const auto made = [&](Device device) {
        const On on(device);
        return kernels::Nf4Weight(weight);
      };
      const kernels::Nf4Weight simt = made(Device::simt), cpu = made(Device::cpu);
      CHECK(at::equal(simt.codes, cpu.codes));
      CHECK(at::equal(simt.scales, cpu.scales));
      CHECK((at::equal(simt.group_scales, cpu.group_scales) && simt.offset == cpu.offset));
    }
  }
  const On on(Device::simt);
  at::Tensor broken = random({5, 64}, 1);
  broken[3][7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message_of([&] { kernels::Nf4Weight{broken}; }) == "a weight is not finite");
}

TEST_CASE("what the CUDA kernels would read as another matrix is refused", "[device]") {
  const On on(Device::simt);
  const at::Tensor x = random({5, 8}, 1), weight = random({6, 8}, 2);
  CHECK(message_of([&] {
          kernels::lora_linear_forward(x, random({8, 6}, 2).t(), {}, nullptr, nullptr);
        }) == "lora_linear: weight has stride 6 in its last dimension but must have 1");
  CHECK(message_of([&] {
          kernels::lora_linear_forward(x.narrow(0, 0, 1).expand({5, 8}), weight, {}, nullptr, nullptr);
        }) == "gemm: rows of (5, 8) are 0 apart and overlap");
}

TEST_CASE("two steps through the CUDA kernels have the same bits, recomputed or not", "[device]") {
  Problem problem = tiny_problem();
  const TinyModel source(gemma(), 7);
  const auto decoder = load(source, at::kBFloat16, at::kBFloat16);
  const Step first = step(*decoder, problem, Device::simt), second = step(*decoder, problem, Device::simt);
  CHECK(first.loss == second.loss);
  CHECK(same_bits(first.gradients, second.gradients));
  problem.recompute = model::Recompute::layers;
  const HostWork host(problem.labels.numel());
  CHECK(same_bits(first.gradients, step(*decoder, problem, Device::simt).gradients));
  CHECK(host.seen().early == std::set<std::string>{});
  CHECK(host.seen().rows == kAngles);
}

TEST_CASE("the optimizer's CUDA kernels move parameters as the CPU does", "[device]") {
  const On memory(Device::simt);
  const at::Tensor gradients = random({1003}, 1, at::kFloat, 3);
  const auto moved = [&](Device device, kernels::AdamWResult& result) {
    const On on(device);
    at::Tensor p = random({1003}, 2), m = random({1003}, 3, at::kFloat, 0.1), v = random({1003}, 4).abs();
    result = kernels::adamw_step(p, gradients, m, v, 3, {.lr = 1e-2, .weight_decay = 0.1, .max_norm = 1});
    CHECK(kernels::global_norm(gradients) == result.norm);
    return at::cat({p, m, v});
  };
  kernels::AdamWResult cpu, simt;
  const at::Tensor want = moved(Device::cpu, cpu), got = moved(Device::simt, simt);
  CHECK(cpu.applied);
  CHECK(simt.applied);
  CHECK(simt.norm == Approx(cpu.norm).epsilon(1e-14));
  CHECK(relative_error(got, want) <= 4 * 0x1p-24);
}

TEST_CASE("a gradient that is not finite moves nothing", "[device]") {
  const On on(Device::simt);
  at::Tensor p = random({50}, 2), m = random({50}, 3), v = random({50}, 4).abs(), gradients = random({50}, 1);
  const at::Tensor before = at::cat({p, m, v});
  gradients[7] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(kernels::adamw_step(p, gradients, m, v, 1, {}).applied);
  CHECK(same_bits(at::cat({p, m, v}), before));
}

}  // namespace graft::lora

#endif
