// Element types of tensors in files. Names are those of safetensors.
#pragma once

#include <cstddef>
#include <string_view>

namespace graft {

enum class DType { f64, f32, f16, bf16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

std::size_t size_of(DType type);          // bytes of one element
std::string_view name_of(DType type);     // "F32", "BF16", ...
DType dtype_from_name(std::string_view);  // throws FormatError naming the unknown type

}  // namespace graft
