#include "core/dtype.h"

#include <iterator>

#include "core/error.h"

namespace graft {
namespace {

struct Entry {
  DType type;
  std::size_t size;
  std::string_view name;
};
constexpr Entry entries[] = {
    {DType::f64, 8, "F64"},         {DType::f32, 4, "F32"},         {DType::f16, 2, "F16"},      {DType::bf16, 2, "BF16"},
    {DType::f8_e4m3, 1, "F8_E4M3"}, {DType::f8_e5m2, 1, "F8_E5M2"}, {DType::i64, 8, "I64"},      {DType::i32, 4, "I32"},
    {DType::i16, 2, "I16"},         {DType::i8, 1, "I8"},           {DType::u64, 8, "U64"},      {DType::u32, 4, "U32"},
    {DType::u16, 2, "U16"},         {DType::u8, 1, "U8"},           {DType::boolean, 1, "BOOL"},
};
constexpr bool in_order() {
  for (std::size_t i = 0; i < std::size(entries); ++i)
    if (static_cast<std::size_t>(entries[i].type) != i) return false;
  return true;
}
static_assert(in_order());

}  // namespace

std::size_t size_of(DType type) { return entries[static_cast<std::size_t>(type)].size; }

std::string_view name_of(DType type) { return entries[static_cast<std::size_t>(type)].name; }

DType dtype_from_name(std::string_view name) {
  for (const Entry& entry : entries)
    if (entry.name == name) return entry.type;
  throw FormatError("unknown element type " + quote(name));
}

}  // namespace graft
