#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/copy_rows/copy_rows.h"
#include "kernels/cpu/tile.h"
#include "kernels/device.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr const char* kOp = "linear_cross_entropy";
constexpr std::int64_t kNoLabel = -100;
constexpr std::int64_t kChunkBytes = 48 << 20;       // of logits: a few hundred rows of a usual vocabulary
constexpr std::int64_t kCudaChunkBytes = 256 << 20;  // no cache to stay in, and fewer launches
constexpr std::int64_t kLeastRows = 256;             // of a large vocabulary: its weight is packed anew for each chunk

// Sum of exp(z - largest): f32 within blocks, f64 across them.
template <class T>
GRAFT_SIMD double sum_of_exp(const T* z, std::int64_t n, float largest) {
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += 512) {
    const std::int64_t end = std::min(begin + 512, n);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) sum += fast_exp(load(z[i]) - largest);
    total += static_cast<double>(sum);
  }
  return total;
}

template <class T>
GRAFT_SIMD double sum_of(const T* z, std::int64_t n) {
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += 512) {
    const std::int64_t end = std::min(begin + 512, n);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) sum += load(z[i]);
    total += static_cast<double>(sum);
  }
  return total;
}

template <class T>
GRAFT_SIMD float soft_capped_maximum(T* z, std::int64_t n, float cap) {
  if (cap > 0) {
    const float inverse_cap = 1.f / cap;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) store(z[i], cap * fast_tanh(load(z[i]) * inverse_cap));
  }
  float largest = load(z[0]);
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < n; ++i) largest = load(z[i]) > largest ? load(z[i]) : largest;
  return largest;
}

// z becomes (weight exp(z - largest) - spread) (1 - (z / cap)^2); without a cap inverse_cap is 0, and z may be infinite.
template <class T>
GRAFT_SIMD void gradient_row(T* z, std::int64_t n, float largest, float weight, float spread, float inverse_cap) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float capped = inverse_cap > 0 ? load(z[i]) * inverse_cap : 0.f;
    store(z[i], (weight * fast_exp(load(z[i]) - largest) - spread) * (1.f - capped * capped));
  }
}

struct RowLoss {
  double loss, logprob;
};

// z is n logits; with want_grad it becomes dz.
template <class T>
RowLoss loss_row(T* z, std::int64_t n, std::int64_t label, double weight, const LinearCrossEntropyOptions& options) {
  const auto cap = static_cast<float>(options.softcap);
  const auto count = static_cast<double>(n);
  const double smoothing = options.label_smoothing;
  const float largest = soft_capped_maximum(z, n, cap), target = load(z[label]);
  const double mean = smoothing > 0 ? sum_of(z, n) / count : 0;
  // The label is summed apart from the others: its probability minus one is their share, exact however close to one it is.
  store(z[label], -std::numeric_limits<float>::infinity());
  const double above = static_cast<double>(target) - static_cast<double>(largest);
  const double others = sum_of_exp(z, n, largest), sum = others + std::exp(above);
  const double lse = static_cast<double>(largest) + std::log(sum);
  const double logprob = above > -0.5 ? -std::log1p(others * std::exp(-above)) : above - std::log(sum);
  const double loss = weight * ((smoothing - 1) * logprob + smoothing * (lse - mean) + options.z_loss * lse * lse);
  if (!options.want_grad) return {loss, logprob};
  const double scale = options.grad_scale * weight, slope = 2 * options.z_loss * lse, spread = smoothing / count;
  const float inverse_cap = cap > 0 ? 1.f / cap : 0.f, capped = cap > 0 ? target * inverse_cap : 0.f;
  gradient_row(z, n, largest, static_cast<float>(scale * (1 + slope) / sum), static_cast<float>(scale * spread), inverse_cap);
  const double at_label = slope * (1 - others / sum) - others / sum + smoothing - spread;
  store(z[label], static_cast<float>(scale * at_label) * (1.f - capped * capped));
  return {loss, logprob};
}

// Rows with a label, as int64 indices; throws when a label is not in the vocabulary.
std::vector<std::int64_t> labelled_rows(const at::Tensor& labels, std::int64_t vocabulary) {
  const auto* label = labels.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < labels.size(0); ++i) {
    if (label[i] == kNoLabel) continue;
    if (label[i] < 0 || label[i] >= vocabulary) {
      fail(kOp, cat("label ", label[i], " of row ", i, " is outside the vocabulary of ", vocabulary));
    }
    rows.push_back(i);
  }
  return rows;
}

// loss and logprob are f64, f32 from a device.
void chunk_rows(at::Tensor& z, const at::Tensor& targets, const at::Tensor& row_weights, at::Tensor losses, at::Tensor logprobs,
                const LinearCrossEntropyOptions& options) {
  if (device() != Device::cpu) return on_device::cross_entropy_rows(z, targets, row_weights, losses, logprobs, options);
  const auto* labels = targets.const_data_ptr<std::int64_t>();
  const float* weights = row_weights.defined() ? row_weights.const_data_ptr<float>() : nullptr;
  double *loss = losses.mutable_data_ptr<double>(), *logprob = logprobs.mutable_data_ptr<double>();
  by_type(z.scalar_type(), [&](auto type) {
    using T = decltype(type);
    T* data = z.mutable_data_ptr<T>();
    const std::int64_t n = z.size(1), stride = z.stride(0);
    at::parallel_for(0, z.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double weight = weights != nullptr ? static_cast<double>(weights[i]) : 1;
        const RowLoss row = loss_row(data + i * stride, n, labels[i], weight, options);
        loss[i] = row.loss;
        logprob[i] = row.logprob;
      }
    });
  });
}

// (n, V). On the processor rows are an odd number of cache lines apart: at a power of two, or half of one, they would all compete
// for the same few places of a cache. bf16 is read in pairs: a zero stands behind an odd vocabulary.
at::Tensor empty_logits(std::int64_t n, std::int64_t vocabulary, const at::Tensor& like) {
  const bool library = like.scalar_type() == at::kBFloat16 && !cpu::has_bf16_dot();  // which copies what is not dense
  if (device() != Device::cpu || library) return at::empty({n, vocabulary}, like.options());
  const std::int64_t line = 64 / static_cast<std::int64_t>(like.element_size()), lines = vocabulary / line + 1;
  const at::Tensor whole = at::empty({n, (lines + 1 - lines % 2) * line}, like.options());
  whole.select(1, vocabulary).zero_();
  return whole.narrow(1, 0, vocabulary);
}

}  // namespace

std::int64_t linear_cross_entropy_chunk(std::int64_t vocabulary, std::int64_t element_bytes) {
  const std::int64_t bytes = device() == Device::cuda ? kCudaChunkBytes : kChunkBytes;
  return std::max(bytes / std::max<std::int64_t>(vocabulary * element_bytes, 1), kLeastRows);
}

LinearCrossEntropyResult linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, LowRank* adapter,
                                              const at::Tensor& labels, const LinearCrossEntropyOptions& options) {
  const c10::InferenceMode no_autograd;
  check_dim(kOp, "x", x, 2);
  check_float_or_bf16(kOp, "x", x);
  check_dim(kOp, "weight", weight, 2);
  const std::int64_t tokens = x.size(0), hidden = x.size(1), vocabulary = weight.size(0);
  check_shape(kOp, "weight", weight, {vocabulary, hidden}, cat("the last size of x ", shape_text(x.sizes())));
  check_type(kOp, "weight", weight, x.scalar_type(), "the type of x");
  check_shape(kOp, "labels", labels, {tokens}, cat("the first size of x ", shape_text(x.sizes())));
  check_type(kOp, "labels", labels, at::kLong, "an index into the vocabulary");
  if (options.row_weight.defined()) {
    check_shape(kOp, "row_weight", options.row_weight, {tokens}, cat("the first size of x ", shape_text(x.sizes())));
    check_type(kOp, "row_weight", options.row_weight, at::kFloat, "whatever the type of x");
  }

  wait_for_device();  // for the labels, and the rows that are made of them
  const at::Tensor dense_labels =
      labels.clone(at::MemoryFormat::Contiguous);  // not in the caller's memory: a device may not reach it
  const std::vector<std::int64_t> rows = labelled_rows(dense_labels, vocabulary);
  const auto trained = static_cast<std::int64_t>(rows.size());
  const bool all = trained == tokens;
  const at::Tensor index = at::tensor(rows, at::kLong);
  at::Tensor places;  // of the tokens among the trained ones
  if (!all) places = at::full({tokens}, -1, at::kLong).index_copy_(0, index, at::arange(trained, at::kLong));
  const at::Tensor targets = all ? dense_labels : dense_labels.index_select(0, index);
  const at::Tensor weights = options.row_weight.defined() ? options.row_weight.index_select(0, index) : at::Tensor();
  const at::Tensor inputs = all ? x : take_rows(x, index);  // and from here on nothing is the host's until the end
  at::Tensor logprob = at::empty({trained}, device() == Device::cpu ? at::kDouble : at::kFloat), loss = at::empty_like(logprob);
  const bool want_dx = options.want_grad && options.want_dx;
  at::Tensor dx = want_dx ? at::empty({trained, hidden}, x.options()) : at::Tensor();

  const std::int64_t most = linear_cross_entropy_chunk(vocabulary, static_cast<std::int64_t>(x.element_size()));
  const std::int64_t chunk = std::min(most, std::max<std::int64_t>(trained, 1));
  at::Tensor logits = empty_logits(chunk, vocabulary, x);
  for (std::int64_t begin = 0; begin < trained; begin += chunk) {
    const std::int64_t count = std::min(chunk, trained - begin);
    const at::Tensor part = inputs.narrow(0, begin, count);
    at::Tensor z = logits.narrow(0, 0, count);
    LoraLinearSaved saved;
    saved.dropout_seed = options.dropout_seed + static_cast<std::uint64_t>(begin);
    lora_linear_forward_out(z, part, weight, {}, adapter, options.want_grad ? &saved : nullptr);
    const auto part_of = [&](const at::Tensor& values) { return values.defined() ? values.narrow(0, begin, count) : values; };
    chunk_rows(z, part_of(targets), part_of(weights), part_of(loss), part_of(logprob), options);
    if (!options.want_grad) continue;
    const at::Tensor gradient = lora_linear_backward(z, part, weight, adapter, saved, want_dx);
    if (want_dx) copy_rows(dx.narrow(0, begin, count), gradient);
  }

  LinearCrossEntropyResult result;
  if (want_dx) result.dx = all ? dx : take_rows(dx, places);
  wait_for_device();
  loss = loss.to(at::kDouble);
  const double* losses = loss.const_data_ptr<double>();
  for (std::int64_t i = 0; i < trained; ++i) result.sum += losses[i];
  if (options.want_logprob) result.logprob = logprob.to(at::kFloat);
  return result;
}

}  // namespace graft::kernels
