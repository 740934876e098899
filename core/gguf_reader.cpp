#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "core/gguf.h"
#include "core/utf8.h"

namespace graft {
namespace {

constexpr std::uint64_t kMaxName = 1024;            // bytes of a key or a tensor name
constexpr std::uint64_t kMaxArrayValues = 1 << 24;  // of all arrays together; a vocabulary of 262,144 has three such arrays
constexpr std::uint64_t kMaxAlignment = 1 << 16;

// Reads little-endian values from the header, never past the end of the file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const fs::path& file) : bytes_(bytes), file_(file) {}

  template <class... Args>
  [[noreturn]] void fail(const Args&... what) const {
    throw FormatError(cat(file_.string(), ": byte ", at_, ": ", what...));
  }
  template <class T>
  T read(const char* what) {
    if (remaining() < sizeof(T)) fail("the file ends within ", what);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view string(const char* what, std::uint64_t max_bytes) {
    const auto length = read<std::uint64_t>(what);
    if (length > remaining()) fail(what, " has ", length, " bytes, the file only ", remaining(), " more");
    if (length > max_bytes) fail(what, " has ", length, " bytes; at most ", max_bytes, " are accepted");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return text;
  }
  std::string name(const char* what) {
    const std::string_view text = string(what, kMaxName);
    if (text.empty()) fail(what, " is empty");
    if (!is_utf8(text) || text.find('\0') != std::string_view::npos) fail(what, " ", quote(text), " is not UTF-8 text");
    return std::string(text);
  }
  // A count of things that take at least `least` bytes each.
  std::uint64_t count(const char* what, std::uint64_t least) {
    const auto value = read<std::uint64_t>(what);
    if (value > remaining() / least) fail(value, " ", what, " cannot fit in the file's remaining ", remaining(), " bytes");
    return value;
  }
  std::uint64_t position() const { return at_; }
  std::uint64_t remaining() const { return bytes_.size() - at_; }

 private:
  std::span<const std::byte> bytes_;
  const fs::path& file_;
  std::uint64_t at_ = 0;
};

std::uint64_t stored_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    default:
      return 8;  // 64-bit numbers; a string's or an array's length
  }
}

bool read_boolean(Cursor& in) {
  const auto value = in.read<std::uint8_t>("a truth value");
  if (value > 1) in.fail("a truth value is ", int{value}, ", not 0 or 1");
  return value == 1;
}

GgufValue read_scalar(Cursor& in, GgufType type) {
  const char* what = "a metadata value";
  switch (type) {
    case GgufType::u8:
      return std::uint64_t{in.read<std::uint8_t>(what)};
    case GgufType::u16:
      return std::uint64_t{in.read<std::uint16_t>(what)};
    case GgufType::u32:
      return std::uint64_t{in.read<std::uint32_t>(what)};
    case GgufType::u64:
      return in.read<std::uint64_t>(what);
    case GgufType::i8:
      return std::int64_t{in.read<std::int8_t>(what)};
    case GgufType::i16:
      return std::int64_t{in.read<std::int16_t>(what)};
    case GgufType::i32:
      return std::int64_t{in.read<std::int32_t>(what)};
    case GgufType::i64:
      return in.read<std::int64_t>(what);
    case GgufType::f32:
      return double{in.read<float>(what)};
    case GgufType::f64:
      return in.read<double>(what);
    case GgufType::boolean:
      return read_boolean(in);
    case GgufType::string:
      return std::string(in.string("a metadata string", in.remaining()));
    default:
      in.fail("metadata type ", static_cast<std::int32_t>(type), " does not exist");
  }
}

std::int64_t as_integer(Cursor& in, const GgufValue& value) {
  if (const bool* truth = std::get_if<bool>(&value)) return *truth;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  const std::uint64_t number = std::get<std::uint64_t>(value);
  if (number >> 63) in.fail("the array value ", number, " is above 2^63");
  return static_cast<std::int64_t>(number);
}

GgufPair read_array(Cursor& in, std::uint64_t& values_left) {
  const auto type = static_cast<GgufType>(in.read<std::int32_t>("an array's element type"));
  if (type == GgufType::array) in.fail("arrays of arrays are not accepted");
  if (type < GgufType::u8 || type > GgufType::f64)
    in.fail("array element type ", static_cast<std::int32_t>(type), " does not exist");
  const std::uint64_t count = in.count("array values", stored_bytes(type));
  if (count > values_left) in.fail("an array has ", count, " values; at most ", kMaxArrayValues, " are accepted in one file");
  values_left -= count;
  if (type == GgufType::string) {
    std::vector<std::string> out;
    out.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) out.emplace_back(in.string("an array's string", in.remaining()));
    return {type, true, std::move(out)};
  }
  if (type == GgufType::f32 || type == GgufType::f64) {
    std::vector<double> out(count);
    for (double& value : out) value = std::get<double>(read_scalar(in, type));
    return {type, true, std::move(out)};
  }
  std::vector<std::int64_t> out(count);
  for (std::int64_t& value : out) value = as_integer(in, read_scalar(in, type));
  return {type, true, std::move(out)};
}

GgufTensor read_tensor(Cursor& in) {
  GgufTensor tensor;
  tensor.name = in.name("a tensor name");
  auto fail = [&](const auto&... what) { in.fail("tensor ", quote(tensor.name), ": ", what...); };
  const auto dimensions = in.read<std::uint32_t>("a tensor's number of dimensions");
  if (dimensions < 1 || dimensions > 4) fail(dimensions, " dimensions; 1 to 4 are accepted");
  std::int64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.read<std::int64_t>("a tensor's shape");
    if (size < 1) fail("dimension ", i, " has size ", size);
    if (__builtin_mul_overflow(elements, size, &elements)) fail("its number of elements overflows 64 bits");
    tensor.shape.insert(tensor.shape.begin(), size);
  }
  tensor.type = static_cast<GgmlType>(in.read<std::int32_t>("a tensor's type"));
  const GgmlTypeInfo* info = nullptr;
  try {
    info = &info_of(tensor.type);
  } catch (const FormatError& error) {
    fail(error.what());
  }
  if (tensor.shape.back() % info->block != 0)
    fail("rows of ", tensor.shape.back(), " elements are no multiple of ", info->name, "'s block of ", info->block);
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(elements / info->block), static_cast<std::uint64_t>(info->bytes),
                             &tensor.bytes))
    fail("its size in bytes overflows 64 bits");
  tensor.offset = in.read<std::uint64_t>("a tensor's offset");
  return tensor;
}

// Turns offsets into positions in the file; every tensor must lie inside, aligned, and overlap no other.
void place_tensors(Cursor& in, std::vector<GgufTensor>& tensors, std::uint64_t alignment) {
  const std::uint64_t file_size = in.position() + in.remaining();
  const std::uint64_t start = (in.position() + alignment - 1) / alignment * alignment;
  std::vector<GgufTensor*> order;
  for (GgufTensor& tensor : tensors) {
    auto fail = [&](const auto&... what) { in.fail("tensor ", quote(tensor.name), ": ", what...); };
    if (tensor.offset % alignment != 0) fail("offset ", tensor.offset, " is no multiple of the alignment ", alignment);
    std::uint64_t end;
    if (__builtin_add_overflow(tensor.offset, start, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end) || end > file_size)
      fail("its ", tensor.bytes, " bytes end after the file's ", file_size);
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
      in.fail("tensors ", quote(order[i - 1]->name), " and ", quote(order[i]->name), " overlap");
}

std::uint64_t read_alignment(Cursor& in, const std::map<std::string, GgufPair>& pairs) {
  const auto found = pairs.find("general.alignment");
  if (found == pairs.end()) return 32;
  const auto* value = std::get_if<std::uint64_t>(&found->second.value);
  if (!value) in.fail("general.alignment is not an unsigned integer");
  if (!std::has_single_bit(*value) || *value > kMaxAlignment)
    in.fail("general.alignment is ", *value, "; a power of two up to ", kMaxAlignment, " is expected");
  return *value;
}

}  // namespace

GgufFile::GgufFile(const fs::path& file) : map_(file) {
  Cursor in(map_.bytes(), map_.path());
  if (map_.bytes().size() < 4 || std::memcmp(map_.bytes().data(), "GGUF", 4) != 0)
    throw FormatError(file.string() + ": not a GGUF file; it does not begin with \"GGUF\"");
  in.read<std::uint32_t>("the magic number");
  const auto version = in.read<std::uint32_t>("the version");
  if (version != 2 && version != 3)  // 2 has the same layout
    in.fail("GGUF version ", version, version == 0x03000000 ? " (a big-endian file)" : "", "; this program reads 2 and 3");
  const std::uint64_t tensor_count = in.count("tensors", 32), pair_count = in.count("metadata pairs", 13);

  std::uint64_t array_values_left = kMaxArrayValues;
  for (std::uint64_t i = 0; i < pair_count; ++i) {
    std::string key = in.name("a metadata key");
    const auto type = static_cast<GgufType>(in.read<std::int32_t>("a metadata type"));
    GgufPair pair = type == GgufType::array ? read_array(in, array_values_left) : GgufPair{type, false, read_scalar(in, type)};
    const auto [at, is_new] = pairs_.emplace(std::move(key), std::move(pair));
    if (!is_new) in.fail("the key ", quote(at->first), " is there twice");
  }
  const std::uint64_t alignment = read_alignment(in, pairs_);

  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    tensors_.push_back(read_tensor(in));
    const std::string& name = tensors_.back().name;
    if (!index_.emplace(name, tensors_.size() - 1).second) in.fail("the tensor ", quote(name), " is there twice");
  }
  place_tensors(in, tensors_, alignment);
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : &tensors_[at->second];
}

std::span<const std::byte> GgufFile::data(const GgufTensor& tensor) const {
  return map_.bytes().subspan(tensor.offset, tensor.bytes);
}

}  // namespace graft
