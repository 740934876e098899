#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy_device.h"
#include "kernels/simd.h"

namespace graft::kernels {
namespace {

constexpr const char* kOp = "linear_cross_entropy";
constexpr std::int64_t kNoLabel = -100;
constexpr std::int64_t kChunkBytes = 48 << 20;  // of logits: a few hundred rows of a usual vocabulary

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

// z becomes weight exp(z - largest) (1 - (z / cap)^2).
template <class T>
GRAFT_SIMD void gradient_row(T* z, std::int64_t n, float largest, float weight, float inverse_cap) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float capped = load(z[i]) * inverse_cap;
    store(z[i], weight * fast_exp(load(z[i]) - largest) * (1.f - capped * capped));
  }
}

// Log probability of `label`; with want_grad, z (n logits) becomes dz.
template <class T>
double loss_row(T* z, std::int64_t n, std::int64_t label, const LinearCrossEntropyOptions& options) {
  const auto cap = static_cast<float>(options.softcap);
  const float largest = soft_capped_maximum(z, n, cap), target = load(z[label]);
  // The label is summed apart from the others: its probability minus one is their share, exact however close to one it is.
  store(z[label], -std::numeric_limits<float>::infinity());
  const double above = static_cast<double>(target) - static_cast<double>(largest);
  const double others = sum_of_exp(z, n, largest), sum = others + std::exp(above);
  const double logprob = above > -0.5 ? -std::log1p(others * std::exp(-above)) : above - std::log(sum);
  if (!options.want_grad) return logprob;
  const float inverse_cap = cap > 0 ? 1.f / cap : 0.f, capped = target * inverse_cap;
  gradient_row(z, n, largest, static_cast<float>(options.grad_scale / sum), inverse_cap);
  store(z[label], static_cast<float>(-options.grad_scale * others / sum) * (1.f - capped * capped));
  return logprob;
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

void chunk_rows(at::Tensor& z, const std::int64_t* labels, double* logprob, const LinearCrossEntropyOptions& options) {
  if (device() != Device::cpu) return on_device::cross_entropy_rows(z, labels, logprob, options);
  by_type(z.scalar_type(), [&](auto type) {
    using T = decltype(type);
    T* data = z.mutable_data_ptr<T>();
    const std::int64_t n = z.size(1);
    at::parallel_for(0, z.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) logprob[i] = loss_row(data + i * n, n, labels[i], options);
    });
  });
}

}  // namespace

std::int64_t linear_cross_entropy_chunk(std::int64_t vocabulary, std::int64_t element_bytes) {
  return std::max<std::int64_t>(kChunkBytes / std::max<std::int64_t>(vocabulary * element_bytes, 1), 1);
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

  const at::Tensor dense_labels = labels.contiguous();
  const std::vector<std::int64_t> rows = labelled_rows(dense_labels, vocabulary);
  const auto trained = static_cast<std::int64_t>(rows.size());
  const bool all = trained == tokens;
  const at::Tensor index = at::tensor(rows, at::kLong);
  const at::Tensor inputs = all ? x : x.index_select(0, index);
  const at::Tensor targets = all ? dense_labels : dense_labels.index_select(0, index);
  at::Tensor logprob = at::empty({trained}, x.options().dtype(at::kDouble));
  const bool want_dx = options.want_grad && options.want_dx;
  at::Tensor dx = want_dx ? at::empty({trained, hidden}, x.options()) : at::Tensor();

  const std::int64_t most = linear_cross_entropy_chunk(vocabulary, static_cast<std::int64_t>(x.element_size()));
  const std::int64_t chunk = std::min(most, std::max<std::int64_t>(trained, 1));
  at::Tensor logits = at::empty({chunk, vocabulary}, x.options());
  for (std::int64_t begin = 0; begin < trained; begin += chunk) {
    const std::int64_t count = std::min(chunk, trained - begin);
    const at::Tensor part = inputs.narrow(0, begin, count);
    at::Tensor z = logits.narrow(0, 0, count);
    LoraLinearSaved saved;
    saved.dropout_seed = options.dropout_seed + static_cast<std::uint64_t>(begin);
    lora_linear_forward_out(z, part, weight, {}, adapter, options.want_grad ? &saved : nullptr);
    chunk_rows(z, targets.const_data_ptr<std::int64_t>() + begin, logprob.mutable_data_ptr<double>() + begin, options);
    if (!options.want_grad) continue;
    const at::Tensor gradient = lora_linear_backward(z, part, weight, adapter, saved, want_dx);
    if (want_dx) dx.narrow(0, begin, count).copy_(gradient);
  }

  LinearCrossEntropyResult result;
  const double* values = logprob.const_data_ptr<double>();
  for (std::int64_t i = 0; i < trained; ++i) result.sum -= values[i];
  if (want_dx) result.dx = all ? dx : at::zeros({tokens, hidden}, x.options()).index_copy_(0, index, dx);
  if (options.want_logprob) result.logprob = logprob.to(at::kFloat);
  return result;
}

}  // namespace graft::kernels
