#include "model/rotary_rows.h"

#include <ATen/ATen.h>

namespace graft::model {
namespace {

at::Tensor turned(const at::Tensor& rows, std::int64_t heads, std::int64_t outer, std::int64_t inner) {
  return rows.reshape({heads, outer, inner, rows.numel() / rows.size(0)}).transpose(1, 2).reshape(rows.sizes());
}

}  // namespace

at::Tensor interleaved_rows(const at::Tensor& rows, std::int64_t heads) {
  return turned(rows, heads, 2, rows.size(0) / heads / 2);
}

at::Tensor separated_rows(const at::Tensor& rows, std::int64_t heads) { return turned(rows, heads, rows.size(0) / heads / 2, 2); }

}  // namespace graft::model
