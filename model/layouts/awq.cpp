// quant_method awq: 4 bits by groups of a row, packed across the rows (model/awq_words.h).
//
//   qweight I32 (in, out / 8)      words of eight outputs
//   qzeros  I32 (groups, out / 8)  packed alike; absent when zero_point is false: 8
//   scales  F16, BF16 or F32 (groups, out)
//   value   (q - zero) * scale      in f32
#include <ATen/ATen.h>

#include "core/error.h"
#include "model/awq_words.h"
#include "model/linear_layout.h"
#include "model/scaled_codes.h"

namespace graft::model {
namespace {

class Awq : public LinearLayout {
 public:
  Awq(std::int64_t group, bool zero_points) : group_(group), zero_points_(zero_points) {}

  std::string stored_as(const std::string&) const override {
    return cat("AWQ INT4", group_ == 0 ? " by row" : cat(" by ", group_));
  }
  std::string sign(const std::string& weight) const override { return module_of(weight) + ".qweight"; }

  std::vector<LayoutPart> parts(const TensorSpec& linear) const override {
    const std::int64_t out = linear.shape[0], in = linear.shape[1];
    if (out % 8 != 0) throw FormatError(cat(out, " rows do not divide into words of 8 codes"));
    if (group_ > 0 && in % group_ != 0) throw FormatError(cat("rows of ", in, ", which groups of ", group_, " do not divide"));
    const std::int64_t groups = group_ == 0 ? 1 : in / group_;
    const std::string module = module_of(linear.name);
    std::vector<LayoutPart> parts = {{module + ".qweight", {DType::i32}, {in, out / 8}, {1, 1, 8}},
                                     {module + ".scales", {DType::f16, DType::bf16, DType::f32}, {groups, out}, {1}}};
    if (zero_points_) parts.push_back({module + ".qzeros", {DType::i32}, {groups, out / 8}, {1, 1, 8}});
    return parts;
  }

  at::Tensor values(const TensorSpec&, const std::vector<at::Tensor>& parts) const override {
    return scaled_codes(unpack_awq(parts[0].t()), parts[1].to(at::kFloat).t(),
                        zero_points_ ? unpack_awq(parts[2].t()).to(at::kFloat) : at::Tensor());
  }

 private:
  std::int64_t group_;  // 0: the whole row
  bool zero_points_;
};

std::unique_ptr<LinearLayout> read(const Json& quantization, const std::string& origin) {
  const auto number = [&](const char* key, const char* old) {
    return json_get<std::int64_t>(quantization, quantization.contains(key) ? key : old, origin);
  };
  const std::int64_t bits = number("bits", "w_bit"), group = number("group_size", "q_group_size");
  if (bits != 4) throw UnsupportedError(cat(origin, ": bits is ", bits, "; graft reads 4"));
  if (group < -1 || group == 0) throw FormatError(cat(origin, ": group_size is ", group));
  if (const std::string version = text_or_empty(quantization, "version");
      !version.empty() && version != "gemm" && version != "GEMM")
    throw UnsupportedError(cat(origin, ": version is ", quote(version), "; graft reads gemm"));
  return std::make_unique<Awq>(group == -1 ? 0 : group, json_get<bool>(quantization, "zero_point", origin));
}

}  // namespace

extern const LayoutReader awq;
const LayoutReader awq = {.method = "awq", .read = read};

}  // namespace graft::model
