// quant_method bitsandbytes, 4 bits, NF4 (arithmetic: kernels/nf4/nf4.h; bitsandbytes functional.py, QuantState.as_dict). Blocks
// of 64 elements in memory order.
//
//   weight                                  U8 (elements / 2, 1), two codes to a byte, the first in the high half
//   weight.quant_map                        F32 (16), the level of each code
//   weight.absmax                           F32 (blocks); U8 with double quantisation, and then
//   weight.nested_absmax, nested_quant_map  F32 (groups of 256 blocks), F32 (256)
//   weight.quant_state.bitsandbytes__nf4    U8: JSON with shape, sizes of blocks, nested_offset
//
//   value = quant_map[code] * absmax, in f32; absmax = nested_quant_map[U8] * nested_absmax + nested_offset
#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/nf4/nf4.h"
#include "model/linear_layout.h"

namespace graft::model {
namespace {

constexpr std::int64_t kBlock = cuda::kNf4Block, kGroup = cuda::kNf4Group;
constexpr std::int64_t kMaxState = 1 << 16;

std::int64_t blocks_of(std::int64_t elements, std::int64_t size) { return (elements + size - 1) / size; }

// One factor for each of `size` elements, spread over them.
at::Tensor scaled(const at::Tensor& values, const at::Tensor& factors, std::int64_t size) {
  return values.mul(factors.repeat_interleave(size).narrow(0, 0, values.size(0)));
}

class Nf4 : public LinearLayout {
 public:
  explicit Nf4(bool nested) : nested_(nested) {}

  std::string stored_as(const std::string&) const override { return "NF4"; }
  std::string sign(const std::string& weight) const override { return weight + ".quant_map"; }

  std::vector<LayoutPart> parts(const TensorSpec& linear) const override {
    const std::int64_t in = linear.shape[1], elements = linear.shape[0] * in, blocks = blocks_of(elements, kBlock);
    std::vector<LayoutPart> parts = {
        {linear.name, {DType::u8}, {(elements + 1) / 2}, {0, in, 2}},
        {.name = linear.name + ".quant_state.bitsandbytes__nf4", .types = {DType::u8}, .shape = {kAnySize}, .checked = true},
        {linear.name + ".quant_map", {DType::f32}, {16}},
        {linear.name + ".absmax", {nested_ ? DType::u8 : DType::f32}, {blocks}, {0, in, kBlock}}};
    if (nested_) {
      parts.push_back({linear.name + ".nested_absmax", {DType::f32}, {blocks_of(blocks, kGroup)}, {0, in, kBlock * kGroup}});
      parts.push_back({linear.name + ".nested_quant_map", {DType::f32}, {256}});
    }
    return parts;
  }

  void check(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    const Json state = state_of(parts[1]);
    const std::string origin = "quant_state";
    const auto expect = [&](const char* key, const Json& value) {
      if (json_get<Json>(state, key, origin) != value) throw FormatError(cat(origin, ": ", key, " is not ", value.dump()));
    };
    expect("quant_type", "nf4");
    expect("blocksize", kBlock);
    expect("shape", Json(linear.shape));
    if (!nested_) return;
    expect("nested_blocksize", kGroup);
    json_get<double>(state, "nested_offset", origin);
  }

  at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    const std::int64_t elements = linear.shape[0] * linear.shape[1];
    at::Tensor scales = parts[3];
    if (nested_) {
      const auto offset = json_get<double>(state_of(parts[1]), "nested_offset", "quant_state");
      scales = scaled(parts[5].index_select(0, scales.to(at::kInt)), parts[4], kGroup).add_(static_cast<float>(offset));
    }
    const at::Tensor bytes = parts[0].to(at::kInt);
    const at::Tensor codes = at::stack({at::bitwise_right_shift(bytes, 4), at::bitwise_and(bytes, 15)}, 1).flatten();
    return scaled(parts[2].index_select(0, codes.narrow(0, 0, elements)), scales, kBlock).view(linear.shape);
  }

 private:
  static Json state_of(const at::Tensor& bytes) {
    if (bytes.size(0) > kMaxState) throw FormatError(cat("quant_state has ", bytes.size(0), " bytes"));
    const auto* text = reinterpret_cast<const char*>(bytes.const_data_ptr<std::uint8_t>());
    return parse_json({text, static_cast<std::size_t>(bytes.size(0))}, "quant_state");
  }

  bool nested_;
};

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  const std::string type = text_or_empty(quantization, "bnb_4bit_quant_type"),
                    storage = text_or_empty(quantization, "bnb_4bit_quant_storage");
  if (!json_get_or<bool>(quantization, "load_in_4bit", false, origin) || type != "nf4" ||
      (!storage.empty() && storage != "uint8"))
    throw UnsupportedError(cat(origin, ": not NF4 in bytes, the one kind of bitsandbytes weights that graft reads"));
  return std::make_unique<Nf4>(json_get_or<bool>(quantization, "bnb_4bit_use_double_quant", false, origin));
}

}  // namespace

extern const LayoutReader bitsandbytes;
const LayoutReader bitsandbytes = {.method = "bitsandbytes", .read = read};

}  // namespace graft::model
