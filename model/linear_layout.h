// Linears of a Hugging Face directory that are not stored as plain numbers: config.json has a quantization_config, and the
// `weight` of a linear gives way to the tensors of its layout. A layout is one file in model/layouts/ that defines one
// LayoutReader.
//
// Of what is done to activations when such a model is served, rounding each row onto its own grid is followed: held-out scores
// are those of what is served.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "kernels/row_rounding/row_rounding.h"
#include "model/tensors.h"

namespace graft::model {

inline constexpr std::int64_t kAnySize = -1;

// How a part lies along the rows of its linear: row r begins at index r * indices / rows of the dimension, where that is a whole
// number. A negative dimension: the part is the same for all rows.
struct RowOrder {
  int dimension = -1;
  std::int64_t indices = 1, rows = 1;
};

struct LayoutPart {
  std::string name;                 // of the tensor in the file
  std::vector<DType> types;         // those that are read; what graft writes comes first
  std::vector<std::int64_t> shape;  // dimensions of one element do not count; {kAnySize}: one dimension of any size
  RowOrder order = {};
  bool optional = false, checked = false;  // checked: small, and looked at when the file is opened
};

class LinearLayout {
 public:
  virtual ~LinearLayout() = default;
  virtual std::string stored_as(const std::string& weight) const = 0;  // "INT4 by 64", "FP8 by row", "NF4"
  // The tensor that is there when a linear is stored so, and is not when it is stored plainly.
  virtual std::string sign(const std::string& weight) const = 0;
  // FormatError when the layout cannot hold this shape.
  virtual std::vector<LayoutPart> parts(const TensorSpec& linear) const = 0;
  // One tensor for each part, of the file's type and the part's shape; undefined: an optional one that is absent.
  // FormatError "<what contradicts itself>", without the tensor's name. Only the parts that are `checked` are defined.
  virtual void check(const TensorSpec&, const std::vector<at::Tensor>&) const {}
  virtual kernels::RowRounding inputs() const { return kernels::RowRounding::none; }  // of the quantized linears, as served
  // That the rows of the linear's input share when it is served; 0: each has its own. Only the parts that are `checked` are
  // defined. FormatError when it is no scale.
  virtual float input_scale(const TensorSpec&, const std::vector<at::Tensor>&) const { return 0; }
  // f32 (out, in). All parts are defined. `linear` may be some rows of it, and parts no more than theirs.
  virtual at::Tensor values(const TensorSpec& linear, const std::vector<at::Tensor>& parts) const = 0;
};

struct LayoutReader {
  std::string_view method;  // quant_method
  // FormatError or UnsupportedError that begins with `origin`.
  std::unique_ptr<LinearLayout> (*read)(const Json& quantization, const std::string& origin);
};

std::span<const LayoutReader* const> all_layouts();

// The layout that config.json's quantization_config names; null when it has none. UnsupportedError for another quant_method.
std::unique_ptr<LinearLayout> read_layout(const Json& config, const std::string& file);
// config.json as it is for the model's numbers: without quantization_config.
Json without_quantization(const Json& config);

LayoutPart input_scale_part(const TensorSpec& linear);  // "<module>.input_scale", one number
float input_scale_of(const at::Tensor& part);           // FormatError when it is not a positive number
at::ScalarType scalar_type(DType type);                 // UnsupportedError for one that at:: lacks
std::string text_or_empty(const Json& object, const char* key);

}  // namespace graft::model
