#include "model/fp8_layout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/half.h"
#include "core/simd.h"

namespace graft::model {
namespace {

GRAFT_SIMD void decode(const std::uint8_t* codes, std::int64_t n, float* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = f32_from_e4m3(codes[i]);
}

class Fp8Layout : public LinearLayout {
 public:
  Fp8Layout(const Fp8Tiles& tiles, std::string suffix) : tiles_(tiles), suffix_(std::move(suffix)) {}

  std::string stored_as(const std::string&) const override { return tiles_.stored_as(); }
  std::string sign(const std::string& weight) const override { return weight + suffix_; }

  std::vector<LayoutPart> parts(const TensorSpec& linear) const override {
    const std::int64_t out = linear.shape[0], in = linear.shape[1];
    std::vector<LayoutPart> parts = {{linear.name, {DType::f8_e4m3}, linear.shape, {0}},
                                     {linear.name + suffix_,
                                      {DType::f32, DType::bf16, DType::f16},
                                      {tiles_.down(out), tiles_.across(in)},
                                      tiles_.rows == 0 ? RowOrder{} : RowOrder{0, 1, tiles_.rows}}};
    if (tiles_.input_scale) parts.push_back(input_scale_part(linear));
    return parts;
  }

  kernels::RowRounding inputs() const override {
    if (tiles_.columns == 0) return kernels::RowRounding::fp8;  // with a scale for each token, or that of input_scale
    // Servers cut a token as they do a row; their kernels know no other size.
    return tiles_.columns == 128 ? kernels::RowRounding::fp8_by_128 : kernels::RowRounding::none;
  }
  float input_scale(const TensorSpec&, const std::vector<at::Tensor>& parts) const override {
    return tiles_.input_scale ? input_scale_of(parts[2]) : 0;
  }

  at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    const std::int64_t out = linear.shape[0], in = linear.shape[1];
    return f32_from_fp8(parts[0]).mul_(spread(parts[1].to(at::kFloat), tiles_, out, in));
  }

 private:
  Fp8Tiles tiles_;
  std::string suffix_;
};

std::int64_t size_in(const Json& sizes, std::size_t at, const std::string& origin) {
  constexpr std::int64_t kLargest = 1 << 20;
  if (!sizes.is_array() || sizes.size() != 2 || !sizes[at].is_number_integer() || sizes[at] < 1 || sizes[at] > kLargest)
    throw FormatError(cat(origin, ": the size of a block is not two positive numbers"));
  return sizes[at].get<std::int64_t>();
}

}  // namespace

std::string Fp8Tiles::stored_as() const {
  if (rows == 0) return "FP8";
  return rows == 1 ? "FP8 by row" : cat("FP8 by ", rows, " x ", columns);
}

at::Tensor f32_from_fp8(const at::Tensor& codes) {  // LibTorch converts one at a time
  constexpr std::int64_t kGrain = 1 << 15;
  const at::Tensor from = codes.contiguous();
  at::Tensor values = at::empty(from.sizes(), at::kFloat);
  const auto* const bytes = static_cast<const std::uint8_t*>(from.const_data_ptr());
  auto* const out = values.mutable_data_ptr<float>();
  at::parallel_for(0, from.numel(), kGrain,
                   [&](std::int64_t begin, std::int64_t end) { decode(bytes + begin, end - begin, out + begin); });
  return values;
}

at::Tensor spread(const at::Tensor& scale, const Fp8Tiles& tiles, std::int64_t out, std::int64_t in) {
  const auto along = [](const at::Tensor& x, std::int64_t dim, std::int64_t tile, std::int64_t size) {
    if (x.size(dim) == 1) return x;  // broadcast
    return x.repeat_interleave(tile, dim).narrow(dim, 0, size);
  };
  return along(along(scale, 1, tiles.columns, in), 0, tiles.rows, out).expand({out, in});
}

std::unique_ptr<LinearLayout> fp8_layout(const Fp8Tiles& tiles, const std::string& suffix) {
  return std::make_unique<Fp8Layout>(tiles, suffix);
}

Fp8Tiles block_tiles(const Json& sizes, const std::string& origin) {
  return {size_in(sizes, 0, origin), size_in(sizes, 1, origin), false};
}

}  // namespace graft::model
