#include "kernels/copy_rows/copy_rows_device.h"

#include "kernels/launchers.h"

namespace graft::kernels::on_device {

void copy_rows(at::Tensor y, const at::Tensor& x, const std::int64_t* index, float scale) {
  const cuda::CopyRows arguments{.x = x.const_data_ptr(),
                                 .index = index,
                                 .y = y.mutable_data_ptr(),
                                 .x_stride = x.stride(0),
                                 .y_stride = y.stride(0),
                                 .x_rows = x.size(0),
                                 .rows = y.size(0),
                                 .columns = y.size(1),
                                 .scale = scale};
  check_launch("graft_copy_rows", launchers().copy_rows(device_type(x), device_type(y), arguments, stream()));
}

}  // namespace graft::kernels::on_device
