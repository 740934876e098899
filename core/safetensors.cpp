#include "core/safetensors.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/error.h"
#include "core/json.h"

namespace graft {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kMaxHeaderValues = 1 << 22;  // about 8 per tensor
constexpr std::size_t kMaxRank = 16;

// Bytes of a tensor of this shape; false when that overflows 63 bits.
bool tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape, std::uint64_t& bytes) {
  std::int64_t product = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t size : shape)
    if (__builtin_mul_overflow(product, size, &product)) return false;
  bytes = static_cast<std::uint64_t>(product);
  return true;
}

SafeTensor read_tensor(const std::string& name, const Json& entry, std::uint64_t data_bytes, const std::string& where) {
  SafeTensor tensor;
  tensor.name = name;
  const auto type_name = json_get<std::string>(entry, "dtype", where);
  try {
    tensor.dtype = dtype_from_name(type_name);
  } catch (const FormatError& error) {
    throw FormatError(cat(where, ": ", error.what()));
  }
  tensor.shape = json_get<std::vector<std::int64_t>>(entry, "shape", where);
  if (tensor.shape.size() > kMaxRank) throw FormatError(cat(where, ": ", tensor.shape.size(), " dimensions; at most ", kMaxRank));
  for (std::int64_t size : tensor.shape)
    if (size < 0) throw FormatError(cat(where, ": a dimension has size ", size));
  const auto offsets = json_get<std::vector<std::uint64_t>>(entry, "data_offsets", where);
  if (offsets.size() != 2) throw FormatError(cat(where, ": data_offsets has ", offsets.size(), " numbers instead of 2"));
  tensor.begin = offsets[0];
  tensor.end = offsets[1];
  if (tensor.begin > tensor.end || tensor.end > data_bytes)
    throw FormatError(
        cat(where, ": data_offsets [", tensor.begin, ", ", tensor.end, "] leave the file's ", data_bytes, " bytes of data"));
  std::uint64_t bytes;
  if (!tensor_bytes(tensor.dtype, tensor.shape, bytes)) throw FormatError(cat(where, ": its size overflows 64 bits"));
  if (bytes != tensor.end - tensor.begin)
    throw FormatError(
        cat(where, ": shape and element type take ", bytes, " bytes, data_offsets say ", tensor.end - tensor.begin));
  return tensor;
}

// The tensors must follow one another without gap or overlap, to the end of the file.
void check_cover(const std::map<std::string, SafeTensor>& tensors, std::uint64_t data_bytes, const std::string& file) {
  std::vector<const SafeTensor*> order;
  for (const auto& [name, tensor] : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const SafeTensor* a, const SafeTensor* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  std::uint64_t covered = 0;
  for (const SafeTensor* tensor : order) {
    if (tensor->begin != covered)
      throw FormatError(cat(file, ": tensor ", quote(tensor->name), " begins at byte ", tensor->begin, " of the data, ",
                            tensor->begin < covered ? "inside the one before it, which ends at " : "leaving a hole after ",
                            covered));
    covered = tensor->end;
  }
  if (covered != data_bytes)
    throw FormatError(cat(file, ": the header describes ", covered, " bytes of data, the file has ", data_bytes));
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& file) : map_(file) {
  const std::string origin = file.string();
  const auto bytes = map_.bytes();
  std::uint64_t header = 0;
  if (bytes.size() < sizeof header)
    throw FormatError(cat(origin, ": ", bytes.size(), " bytes are too few for a safetensors file"));
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header > kMaxHeader)
    throw FormatError(cat(origin, ": the header claims ", header, " bytes; at most ", kMaxHeader, " are accepted"));
  if (header > bytes.size() - sizeof header)
    throw FormatError(
        cat(origin, ": the header claims ", header, " bytes, the file has ", bytes.size() - sizeof header, " more"));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof header, header);
  if (!text.starts_with('{')) throw FormatError(origin + ": the header does not begin with '{'");
  const std::uint64_t data_start = sizeof header + header, data_bytes = bytes.size() - data_start;

  const Json root = parse_json(text, origin + ": header", kMaxHeaderValues);
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") {
      metadata_ = json_get<std::map<std::string, std::string>>(root, "__metadata__", origin);
      continue;
    }
    SafeTensor tensor = read_tensor(name, entry, data_bytes, cat(origin, ": tensor ", quote(name)));
    tensors_.emplace(name, std::move(tensor));
  }
  check_cover(tensors_, data_bytes, origin);
  for (auto& [name, tensor] : tensors_) {
    tensor.begin += data_start;
    tensor.end += data_start;
  }
}

std::span<const std::byte> SafetensorsFile::data(const SafeTensor& tensor) const {
  return map_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
}

SafetensorsWriter::SafetensorsWriter(const fs::path& file, std::map<std::string, std::string> metadata)
    : out_(file), metadata_(std::move(metadata)) {}

void SafetensorsWriter::tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape) {
  if (header_written_) throw std::logic_error("safetensors are declared before the first data");
  std::uint64_t bytes;
  if (name == "__metadata__" || !tensor_bytes(dtype, shape, bytes)) throw std::logic_error(cat("safetensors cannot hold ", name));
  const std::uint64_t begin = tensors_.empty() ? 0 : tensors_.back().end;
  tensors_.push_back({name, dtype, std::move(shape), begin, begin + bytes});
}

void SafetensorsWriter::write_header() {
  Json root = Json::object();
  auto& members = root.get_ref<Json::object_t&>();
  if (!metadata_.empty()) members.emplace_back("__metadata__", Json(metadata_));
  for (const SafeTensor& tensor : tensors_) {
    Json entry;
    entry["dtype"] = name_of(tensor.dtype);
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.begin, tensor.end};
    members.emplace_back(tensor.name, std::move(entry));
  }
  std::string text = root.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins on a multiple of 8
  const std::uint64_t size = text.size();
  out_.write(&size, sizeof size);
  out_.write(text);
  data_start_ = out_.position();
  header_written_ = true;
}

void SafetensorsWriter::data(const std::string& name, const void* bytes, std::size_t size) {
  if (!header_written_) write_header();
  if (size == 0) return;
  while (next_ < tensors_.size() && out_.position() - data_start_ == tensors_[next_].end) ++next_;
  if (next_ == tensors_.size() || tensors_[next_].name != name)
    throw std::logic_error(
        cat("data of ", name, " comes where ", next_ < tensors_.size() ? tensors_[next_].name : "nothing", " is expected"));
  if (size > tensors_[next_].end - (out_.position() - data_start_))
    throw std::logic_error(cat("tensor ", name, " takes ", tensors_[next_].end - tensors_[next_].begin, " bytes, not more"));
  out_.write(bytes, size);
}

void SafetensorsWriter::start() {
  write_header();
  out_.extend(data_start_ + (tensors_.empty() ? 0 : tensors_.back().end));
}

void SafetensorsWriter::place(std::size_t tensor, std::uint64_t offset, const void* bytes, std::size_t size) {
  const SafeTensor& at = tensors_.at(tensor);
  if (offset > at.end - at.begin || size > at.end - at.begin - offset)
    throw std::logic_error(cat("tensor ", at.name, " takes ", at.end - at.begin, " bytes, not more"));
  out_.write_at(data_start_ + at.begin + offset, bytes, size);
  placed_ += size;
}

std::string SafetensorsWriter::commit() {
  if (!header_written_) write_header();
  const std::uint64_t end = tensors_.empty() ? 0 : tensors_.back().end, written = out_.position() - data_start_ + placed_;
  if (written != end) throw std::logic_error(cat("safetensors have ", written, " bytes of data where ", end, " are declared"));
  return out_.commit();
}

}  // namespace graft
