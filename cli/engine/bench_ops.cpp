#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <iostream>

#include "cli/engine/bench.h"
#include "cli/engine/output.h"
#include "core/error.h"
#include "core/stop.h"
#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/copy_rows/copy_rows.h"
#include "kernels/device.h"
#include "kernels/gated_activation/gated_activation.h"
#include "kernels/gemm/gemm_device.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/lora_linear/lora_linear.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "model/compute_type.h"

namespace graft::cli {
namespace {

constexpr double kGiga = 1e9;

struct Line {
  std::string op;
  double seconds, bound;  // bound: of the bare product, or of a copy of the bytes that must move; 0: not known
  double bytes, flops;    // one of them is 0
};

class Ops {
 public:
  Ops(const model::ModelSpec& spec, std::int64_t tokens, std::int64_t rank, at::ScalarType type, std::int64_t repeat)
      : spec_(spec), tokens_(tokens), rank_(rank), type_(type), repeat_(repeat), element_(c10::elementSize(type)) {
    const at::Tensor from = random({64 << 10, 1 << 10}, at::kFloat);
    at::Tensor to = at::empty_like(from);
    const auto copy = [&] {
      if (on_cpu_)
        to.copy_(from);
      else
        kernels::copy_rows(to, from);
    };
    copy_rate_ = 2 * static_cast<double>(from.nbytes()) / time(copy);
  }

  std::vector<Line> lines() {
    memory_bound();
    products();
    return lines_;
  }
  double copy_rate() const { return copy_rate_; }

 private:
  at::Tensor random(at::IntArrayRef sizes) const { return random(sizes, type_); }
  static at::Tensor random(at::IntArrayRef sizes, at::ScalarType type) { return at::randn(sizes).to(type); }

  // The bare product, of the device where the ops run.
  void multiply(at::Tensor out, const at::Tensor& x, const at::Tensor& w, bool transposed) const {
    if (!on_cpu_)
      kernels::on_device::multiply(out, x, w, transposed);
    else
      at::mm_out(out, x, transposed ? w.t() : w);
  }

  double time(const std::function<void()>& work) const {
    work();
    kernels::wait_for_device();
    std::vector<Cost> costs;
    for (std::int64_t i = 0; i < repeat_; ++i) {
      throw_if_stopped();
      costs.push_back(cost_of(work));
    }
    return median(costs).wall;
  }

  // elements: of the op's type, read or written at the least.
  void moves(const std::string& op, double elements, const std::function<void()>& work) {
    const double bytes = elements * element_;
    lines_.push_back({op, time(work), bytes / copy_rate_, bytes, 0});
  }
  void multiplies(const std::string& op, double flops, const std::function<void()>& bare, const std::function<void()>& work) {
    lines_.push_back({op, time(work), time(bare), 0, flops});
  }

  void memory_bound() {
    const auto t = static_cast<double>(tokens_), h = static_cast<double>(spec_.hidden), f = static_cast<double>(spec_.ffn);
    const auto heads = static_cast<double>((spec_.heads + spec_.kv_heads) * spec_.head_dim);
    const at::Tensor x = random({tokens_, spec_.hidden}), gain = random({spec_.hidden}), dy = random({tokens_, spec_.hidden});
    at::Tensor rstd, dx = random({tokens_, spec_.hidden});
    moves("rms_norm forward", 2 * t * h, [&] { kernels::rms_norm_forward(x, gain, {}, &rstd); });
    moves("rms_norm backward, added", 4 * t * h, [&] { kernels::rms_norm_backward(dy, x, gain, rstd, {}, dx); });
    at::Tensor gate = at::zeros({tokens_, spec_.ffn}, type_), up = at::zeros_like(gate),
               dh = at::zeros_like(gate);  // what is overwritten stays
    moves("gated_activation forward", 3 * t * f, [&] { kernels::gated_activation_forward(gate, up, kernels::Activation::silu); });
    moves("gated_activation backward", 6 * t * f,
          [&] { kernels::gated_activation_backward(dh, gate, up, kernels::Activation::silu); });
    at::Tensor q = random({tokens_, spec_.heads + spec_.kv_heads, spec_.head_dim});
    const at::Tensor angle = at::randn({tokens_, spec_.head_dim / 2}), cos = angle.cos(), sin = angle.sin();
    moves("rope of q and k", 2 * t * heads, [&] { kernels::rope_forward(q, cos, sin); });
    const std::int64_t parameters = 5'000'000;
    at::Tensor p = random({parameters}, at::kFloat), m = at::zeros_like(p), v = at::zeros_like(p);
    const at::Tensor g = random({parameters}, at::kFloat);
    moves("adamw, 5 M parameters", 8 * static_cast<double>(parameters) * 4 / element_,
          [&] { kernels::adamw_step(p, g, m, v, 1, {.max_norm = 1}); });
  }

  void products() {
    for (const auto& [name, in, out] :
         {std::tuple{"lora_linear H to F", spec_.hidden, spec_.ffn}, std::tuple{"lora_linear F to H", spec_.ffn, spec_.hidden},
          std::tuple{"lora_linear H to H", spec_.hidden, spec_.hidden}})
      linear(name, in, out);
    attention(tokens_);
    attention(std::min<std::int64_t>(tokens_, 256));
    head();
  }

  void linear(const std::string& name, std::int64_t in, std::int64_t out) {
    const at::Tensor x = random({tokens_, in}), w = random({out, in}), dy = random({tokens_, out});
    kernels::LowRank adapter{random({rank_, in}, at::kFloat), random({out, rank_}, at::kFloat), at::zeros({rank_, in}),
                             at::zeros({out, rank_})};
    kernels::LoraLinearSaved saved;
    at::Tensor y = at::empty_like(dy), dx = at::empty_like(x);
    const double flops = 2.0 * static_cast<double>(tokens_) * static_cast<double>(in * out);
    multiplies(
        name + " forward", flops, [&] { multiply(y, x, w, true); },
        [&] { kernels::lora_linear_forward_out(y, x, w, {}, &adapter, &saved); });
    multiplies(
        name + " backward", flops, [&] { multiply(dx, dy, w, false); },
        [&] { kernels::lora_linear_backward(dy, x, w, &adapter, saved, true); });
  }

  void attention(std::int64_t document) {
    std::vector<std::int32_t> starts;
    for (std::int64_t at = 0; at < tokens_; at += document) starts.push_back(static_cast<std::int32_t>(at));
    starts.push_back(static_cast<std::int32_t>(tokens_));
    const at::Tensor q = random({tokens_, spec_.heads, spec_.head_dim}), k = random({tokens_, spec_.kv_heads, spec_.head_dim}),
                     v = at::randn_like(k), dout = at::randn_like(q);
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v), lse;
    const kernels::AttentionOptions options{spec_.attention_scale, 0, 0};
    const at::Tensor out = kernels::attention_forward(q, k, v, starts, options, &lse);
    kernels::wait_for_device();
    at::Tensor heads = random({spec_.heads, document, spec_.head_dim}), scores = random({spec_.heads, document, document});
    const auto squares = [&] {
      for (std::int64_t at = 0; at < tokens_; at += document) at::bmm_out(scores, heads, heads.transpose(1, 2));
    };
    const double square = on_cpu_ ? time(squares) : 0;
    const double flops = static_cast<double>(spec_.heads * tokens_ * document * spec_.head_dim);  // causal: half of a square
    const std::string name = cat("attention, documents of ", document);
    lines_.push_back({name + " forward", time([&] { kernels::attention_forward(q, k, v, starts, options, &lse); }),
                      2 * square / 2, 0, 2 * flops});
    lines_.push_back({name + " backward",
                      time([&] { kernels::attention_backward(dout, q, k, v, out, lse, starts, options, dq, dk, dv); }),
                      5 * square / 2, 0, 5 * flops});
  }

  void head() {
    const at::Tensor x = random({tokens_, spec_.hidden}), w = random({spec_.vocab, spec_.hidden});
    const at::Tensor labels = at::randint(0, spec_.vocab, {tokens_}, at::kLong);
    const std::int64_t chunk =
        std::min(tokens_, kernels::linear_cross_entropy_chunk(spec_.vocab, static_cast<std::int64_t>(w.element_size())));
    at::Tensor z = random({chunk, spec_.vocab}), part = random({chunk, spec_.hidden});
    kernels::LinearCrossEntropyOptions options;
    options.want_grad = true;
    multiplies(
        "linear_cross_entropy", 4.0 * static_cast<double>(tokens_ * spec_.vocab) * static_cast<double>(spec_.hidden),
        [&] {
          for (std::int64_t at = 0; at < tokens_; at += chunk) multiply(z, part, w, true), multiply(part, z, w, false);
        },
        [&] { kernels::linear_cross_entropy(x, w, nullptr, labels, options); });
  }

  const model::ModelSpec& spec_;
  const std::int64_t tokens_, rank_;
  const at::ScalarType type_;
  const std::int64_t repeat_;
  const double element_;
  const bool on_cpu_ = kernels::device() == kernels::Device::cpu;
  double copy_rate_ = 0;
  std::vector<Line> lines_;
};

}  // namespace

int bench_ops(const Session& session, const Context& context, const BenchOptions& options) {
  const c10::InferenceMode no_autograd;
  const Dtypes types = session.dtypes();
  Ops ops(session.base->spec(), context.config.train.length, context.config.lora.rank, types.compute, options.repeat);
  const std::vector<Line> lines = ops.lines();
  if (context.json) {
    Json list = Json::array();
    for (const Line& line : lines)
      list.push_back({{"op", line.op},
                      {"seconds", line.seconds},
                      {"bound_seconds", line.bound},
                      {"bytes", line.bytes},
                      {"flops", line.flops}});
    print_json({{"copy_bytes_per_second", ops.copy_rate()}, {"ops", list}});
    return kDone;
  }
  std::vector<std::vector<std::string>> rows = {{"op", "ms", "GB/s", "GFLOP/s", "% of bound"}};
  for (const Line& line : lines)
    rows.push_back({line.op, fixed(1e3 * line.seconds, 2), line.bytes > 0 ? fixed(line.bytes / line.seconds / kGiga, 1) : "",
                    line.flops > 0 ? fixed(line.flops / line.seconds / kGiga, 0) : "",
                    line.bound > 0 ? fixed(100 * line.bound / line.seconds, 0) : ""});
  std::cout << context.config.train.length << " tokens, " << model::name_of(types.compute) << ", " << at::get_num_threads()
            << " threads; a copy moves " << fixed(ops.copy_rate() / kGiga, 1)
            << " GB/s\nbound: a copy of the bytes that must move, or the bare product of the same size\n\n"
            << columns(rows);
  return kDone;
}

}  // namespace graft::cli
