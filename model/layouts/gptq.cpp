// quant_method gptq: 4 or 8 bits by groups of a row, packed along the row (AutoGPTQ's layout; vLLM
// model_executor/layers/quantization/auto_gptq.py). n = 32 / bits codes per word, lowest bits first.
//
//   qweight I32 (in / n, out)    codes of a column of the matrix below each other
//   qzeros  I32 (groups, out / n), the zero points less one (checkpoint_format gptq_v2: as they are)
//   scales  F16, BF16 or F32 (groups, out)
//   g_idx   I32 (in), the group of each column of the matrix; column / group_size when absent
//   value   (q - zero) * scale      in f32
#include <ATen/ATen.h>

#include "core/error.h"
#include "model/compressed_tensors.h"
#include "model/linear_layout.h"
#include "model/scaled_codes.h"

namespace graft::model {
namespace {

class Gptq : public LinearLayout {
 public:
  Gptq(int bits, std::int64_t group, bool first_version) : bits_(bits), group_(group), first_version_(first_version) {}

  std::string stored_as(const std::string&) const override {
    return cat("GPTQ INT", bits_, group_ == 0 ? " by row" : cat(" by ", group_));
  }
  std::string sign(const std::string& weight) const override { return module_of(weight) + ".qweight"; }

  std::vector<LayoutPart> parts(const TensorSpec& linear) const override {
    const std::int64_t out = linear.shape[0], in = linear.shape[1], per_word = 32 / bits_;
    if (in % per_word != 0 || out % per_word != 0)
      throw FormatError(cat("a matrix of ", out, " x ", in, " does not divide into words of ", per_word, " codes"));
    const std::string module = module_of(linear.name);
    return {{module + ".qweight", {DType::i32}, {in / per_word, out}, {1}},
            {module + ".qzeros", {DType::i32}, {groups(in), out / per_word}, {1, 1, per_word}},
            {module + ".scales", {DType::f16, DType::bf16, DType::f32}, {groups(in), out}, {1}},
            {.name = module + ".g_idx", .types = {DType::i32}, .shape = {in}, .optional = true, .checked = true}};
  }

  void check(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    if (!parts[3].defined()) return;
    const std::int64_t last = groups(linear.shape[1]) - 1;
    const auto lowest = parts[3].min().item<std::int32_t>(), highest = parts[3].max().item<std::int32_t>();
    if (lowest < 0 || highest > last)
      throw FormatError(cat("g_idx names group ", lowest < 0 ? lowest : highest, ", there are 0 to ", last));
  }

  at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const override {
    const std::int64_t out = linear.shape[0], in = linear.shape[1];
    const at::Tensor codes = unpack_codes(parts[0].t().contiguous(), bits_, in);
    const at::Tensor zeros = unpack_codes(parts[1], bits_, out).t().to(at::kFloat) + (first_version_ ? 1 : 0);
    const at::Tensor scales = parts[2].t().to(at::kFloat);
    const std::int64_t size = group_ == 0 ? in : group_;
    const at::Tensor in_order = at::floor_divide(at::arange(in, at::kLong), size),
                     group = parts[3].defined() ? parts[3].to(at::kLong) : in_order;
    if (in % size == 0 && at::equal(group, in_order)) return scaled_codes(codes, scales, zeros);
    return codes.to(at::kFloat).sub_(zeros.index_select(1, group)).mul_(scales.index_select(1, group));
  }

 private:
  std::int64_t groups(std::int64_t in) const { return group_ == 0 ? 1 : (in + group_ - 1) / group_; }

  int bits_;
  std::int64_t group_;  // 0: the whole row
  bool first_version_;
};

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  const auto bits = json_get<std::int64_t>(quantization, "bits", origin),
             group = json_get<std::int64_t>(quantization, "group_size", origin);
  if (bits != 4 && bits != 8) throw UnsupportedError(cat(origin, ": bits is ", bits, "; graft reads 4 and 8"));
  if (group < -1 || group == 0) throw FormatError(cat(origin, ": group_size is ", group));
  const std::string version = text_or_empty(quantization, "checkpoint_format");
  if (!version.empty() && version != "gptq" && version != "gptq_v2")
    throw UnsupportedError(cat(origin, ": checkpoint_format is ", quote(version), "; graft reads gptq and gptq_v2"));
  return std::make_unique<Gptq>(static_cast<int>(bits), group == -1 ? 0 : group, version != "gptq_v2");
}

}  // namespace

extern const LayoutReader gptq;
const LayoutReader gptq = {.method = "gptq", .read = read};

}  // namespace graft::model
