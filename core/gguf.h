// GGUF version 3, read and written (specification: llama.cpp ggml/include/gguf.h; what graft does with it: docs/formats.md).
//
//   "GGUF" | u32 version | i64 tensors | i64 pairs | pairs | tensor infos | pad to alignment | data
//   version:     3 (2 is the same and is read too)
//   pair:        string key | i32 type | value
//   string:      u64 length | bytes
//   tensor info: string name | u32 dimensions | i64 size per dimension, fastest first | i32 type | u64 offset in data
//   integers little-endian; alignment is general.alignment (default 32, a power of two up to 64 KiB)
//
// The reader bounds every count before it allocates: the file's size limits each, dimensions are 1 to 4, sizes are
// checked for overflow, tensors must lie inside the file and not overlap. FormatError names the file and the field.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/file.h"

namespace graft {

enum class GgmlType : std::int32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};
struct GgmlTypeInfo {
  const char* name;  // "Q4_1"
  int block, bytes;  // elements and bytes of one block
};
const GgmlTypeInfo& info_of(GgmlType type);  // FormatError for a type not in the list above

enum class GgufType : std::int32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
using GgufValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string,  // scalars, widened
                               std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;
struct GgufPair {
  GgufType type;  // as stored; element type for arrays
  bool is_array = false;
  GgufValue value;
};

struct GgufTensor {
  std::string name;
  std::vector<std::int64_t> shape;  // torch order: slowest first (the file stores the reverse)
  GgmlType type;
  std::uint64_t offset, bytes;  // offset from the start of the file
};

class GgufFile {
 public:
  explicit GgufFile(const fs::path& file);
  const fs::path& path() const { return map_.path(); }
  const std::map<std::string, GgufPair>& pairs() const { return pairs_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(const std::string& name) const;  // null when absent
  std::span<const std::byte> data(const GgufTensor& tensor) const;

  // Typed metadata: FormatError naming the key when it is missing or of another kind.
  std::int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  const std::string& string(const std::string& key) const;
  const std::vector<std::string>& strings(const std::string& key) const;
  const std::vector<double>& numbers(const std::string& key) const;
  const std::vector<std::int64_t>& integers(const std::string& key) const;
  bool has(const std::string& key) const { return pairs_.count(key) != 0; }
  std::int64_t integer_or(const std::string& key, std::int64_t fallback) const;
  double number_or(const std::string& key, double fallback) const;
  std::string string_or(const std::string& key, const std::string& fallback) const;
  bool boolean_or(const std::string& key, bool fallback) const;

 private:
  MappedFile map_;
  std::map<std::string, GgufPair> pairs_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t> index_;  // of tensors_, by name
};

// Streams a file: declare everything, then write each tensor's bytes in the declared order, in one or more pieces; or, after
// start(), in any order and from any thread. Wrong order, size or type is the caller's fault: std::logic_error.
class GgufWriter {
 public:
  explicit GgufWriter(const fs::path& file);
  void pair(const std::string& key, GgufPair value);
  void u32(const std::string& key, std::uint32_t value);
  void f32(const std::string& key, float value);
  void boolean(const std::string& key, bool value);
  void string(const std::string& key, const std::string& value);
  void tensor(const std::string& name, std::vector<std::int64_t> shape, GgmlType type);  // shape in torch order
  void data(const std::string& name, const void* bytes, std::size_t size);
  void start();
  void place(std::size_t tensor, std::uint64_t offset, const void* bytes, std::size_t size);  // tensor: in the declared order
  std::string commit();                                                                       // sha256 of the file

 private:
  void write_header();
  FileWriter out_;
  std::vector<std::pair<std::string, GgufPair>> pairs_;
  std::vector<GgufTensor> tensors_;
  std::size_t next_ = 0;       // tensor whose data comes next
  std::uint64_t written_ = 0;  // bytes of it written so far
  bool header_written_ = false;
  std::uint64_t data_start_ = 0;
  std::atomic<std::uint64_t> placed_ = 0;  // bytes
};

// Decodes n elements (a multiple of the block) of any type above to f32; UnsupportedError for Q2_K and Q3_K.
void dequantize(GgmlType type, const std::byte* source, std::int64_t n, float* out);
// Encodes n elements to f32, f16, bf16 or q8_0, with the bits of gguf.quants.quantize. UnsupportedError for other
// types, DataError for a value that is not finite in q8_0.
void quantize(GgmlType type, const float* source, std::int64_t n, std::byte* out);

}  // namespace graft
