#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/gguf.h"

namespace graft {
namespace {

constexpr std::uint64_t kAlignment = 32;

template <class T>
void put(FileWriter& out, T value) {
  out.write(&value, sizeof value);
}

void put_string(FileWriter& out, const std::string& text) {
  put(out, static_cast<std::uint64_t>(text.size()));
  out.write(text);
}

template <class T>
void put_integer(FileWriter& out, const std::string& key, auto value) {
  if (!std::in_range<T>(value)) throw std::logic_error(cat("GGUF key ", key, ": ", value, " does not fit its type"));
  put(out, static_cast<T>(value));
}

// One value of the stored type; throws bad_variant_access when the pair's type and value disagree, which is our own
// fault.
void put_value(FileWriter& out, const std::string& key, GgufType type, auto value) {
  using Value = decltype(value);
  if constexpr (std::is_same_v<Value, std::string>) {
    if (type == GgufType::string) return put_string(out, value);
  } else if constexpr (std::is_floating_point_v<Value>) {
    if (type == GgufType::f32) return put(out, static_cast<float>(value));
    if (type == GgufType::f64) return put(out, static_cast<double>(value));
  } else if constexpr (std::is_same_v<Value, bool>) {
    if (type == GgufType::boolean) return put(out, static_cast<std::uint8_t>(value));
  } else {
    switch (type) {
      case GgufType::boolean:
      case GgufType::u8:
        return put_integer<std::uint8_t>(out, key, value);
      case GgufType::i8:
        return put_integer<std::int8_t>(out, key, value);
      case GgufType::u16:
        return put_integer<std::uint16_t>(out, key, value);
      case GgufType::i16:
        return put_integer<std::int16_t>(out, key, value);
      case GgufType::u32:
        return put_integer<std::uint32_t>(out, key, value);
      case GgufType::i32:
        return put_integer<std::int32_t>(out, key, value);
      case GgufType::u64:
        return put_integer<std::uint64_t>(out, key, value);
      case GgufType::i64:
        return put_integer<std::int64_t>(out, key, value);
      default:
        break;
    }
  }
  throw std::logic_error(cat("GGUF key ", key, ": value and type disagree"));
}

void put_pair(FileWriter& out, const std::string& key, const GgufPair& pair) {
  put_string(out, key);
  put(out, static_cast<std::int32_t>(pair.is_array ? GgufType::array : pair.type));
  std::visit(
      [&](const auto& value) {
        if constexpr (requires { value.begin(); } && !std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
          if (!pair.is_array) throw std::logic_error(cat("GGUF key ", key, ": a list where a scalar is declared"));
          put(out, static_cast<std::int32_t>(pair.type));
          put(out, static_cast<std::uint64_t>(value.size()));
          for (const auto& item : value) put_value(out, key, pair.type, item);
        } else {
          if (pair.is_array) throw std::logic_error(cat("GGUF key ", key, ": a scalar where a list is declared"));
          put_value(out, key, pair.type, value);
        }
      },
      pair.value);
}

}  // namespace

GgufWriter::GgufWriter(const fs::path& file) : out_(file) {}

void GgufWriter::pair(const std::string& key, GgufPair value) {
  for (const auto& [name, unused] : pairs_)
    if (name == key) throw std::logic_error(cat("GGUF key ", key, " is declared twice"));
  pairs_.emplace_back(key, std::move(value));
}
void GgufWriter::u32(const std::string& key, std::uint32_t value) { pair(key, {GgufType::u32, false, std::uint64_t{value}}); }
void GgufWriter::f32(const std::string& key, float value) { pair(key, {GgufType::f32, false, double{value}}); }
void GgufWriter::boolean(const std::string& key, bool value) { pair(key, {GgufType::boolean, false, value}); }
void GgufWriter::string(const std::string& key, const std::string& value) { pair(key, {GgufType::string, false, value}); }

void GgufWriter::tensor(const std::string& name, std::vector<std::int64_t> shape, GgmlType type) {
  const GgmlTypeInfo& info = info_of(type);
  if (header_written_) throw std::logic_error("GGUF tensors are declared before the first data");
  if (shape.empty() || shape.size() > 4 || shape.back() % info.block != 0)
    throw std::logic_error(cat("GGUF tensor ", name, ": this shape cannot be stored as ", info.name));
  std::int64_t elements = 1;
  for (std::int64_t size : shape) elements *= size;
  const std::uint64_t bytes = static_cast<std::uint64_t>(elements / info.block) * static_cast<std::uint64_t>(info.bytes);
  const std::uint64_t offset =
      tensors_.empty() ? 0 : (tensors_.back().offset + tensors_.back().bytes + kAlignment - 1) / kAlignment * kAlignment;
  tensors_.push_back({name, std::move(shape), type, offset, bytes});
}

void GgufWriter::write_header() {
  out_.write("GGUF");
  put(out_, std::uint32_t{3});
  put(out_, static_cast<std::int64_t>(tensors_.size()));
  put(out_, static_cast<std::int64_t>(pairs_.size()));
  for (const auto& [key, value] : pairs_) put_pair(out_, key, value);
  for (const GgufTensor& tensor : tensors_) {
    put_string(out_, tensor.name);
    put(out_, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) put(out_, *size);
    put(out_, static_cast<std::int32_t>(tensor.type));
    put(out_, tensor.offset);
  }
  out_.pad_to(kAlignment);
  header_written_ = true;
}

void GgufWriter::data(const std::string& name, const void* bytes, std::size_t size) {
  if (!header_written_) write_header();
  if (next_ == tensors_.size() || tensors_[next_].name != name)
    throw std::logic_error(
        cat("GGUF data of ", name, " comes where ", next_ < tensors_.size() ? tensors_[next_].name : "nothing", " is expected"));
  if (size > tensors_[next_].bytes - written_)
    throw std::logic_error(cat("GGUF tensor ", name, " takes ", tensors_[next_].bytes, " bytes, not ", written_ + size));
  out_.write(bytes, size);
  written_ += size;
  if (written_ < tensors_[next_].bytes) return;
  out_.pad_to(kAlignment);
  written_ = 0;
  ++next_;
}

void GgufWriter::start() {
  write_header();
  data_start_ = out_.position();
  std::uint64_t end = tensors_.empty() ? 0 : tensors_.back().offset + tensors_.back().bytes;
  out_.extend(data_start_ + (end + kAlignment - 1) / kAlignment * kAlignment);
  constexpr char zeros[kAlignment] = {};  // between tensors: what is written without a gap is summed meanwhile
  end = 0;
  for (const GgufTensor& tensor : tensors_) {
    if (tensor.offset > end) out_.write_at(data_start_ + end, zeros, tensor.offset - end);
    end = tensor.offset + tensor.bytes;
  }
}

void GgufWriter::place(std::size_t tensor, std::uint64_t offset, const void* bytes, std::size_t size) {
  const GgufTensor& at = tensors_.at(tensor);
  if (offset > at.bytes || size > at.bytes - offset)
    throw std::logic_error(cat("GGUF tensor ", at.name, " takes ", at.bytes, " bytes, not more"));
  out_.write_at(data_start_ + at.offset + offset, bytes, size);
  placed_ += size;
}

std::string GgufWriter::commit() {
  if (!header_written_) write_header();
  if (data_start_ > 0) {
    std::uint64_t declared = 0;
    for (const GgufTensor& tensor : tensors_) declared += tensor.bytes;
    if (placed_ != declared) throw std::logic_error(cat("GGUF tensors have ", placed_.load(), " bytes of ", declared));
    return out_.commit();
  }
  if (next_ != tensors_.size()) throw std::logic_error(cat("GGUF tensor ", tensors_[next_].name, " has no data"));
  return out_.commit();
}

}  // namespace graft
