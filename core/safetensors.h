// safetensors, read and written.
//
//   u64 header bytes N (little-endian, at most 100 MB) | N bytes of JSON | data
//   JSON: {"name": {"dtype": "BF16", "shape": [2,3], "data_offsets": [begin, end]}, "__metadata__": {"k": "v"}}
//   offsets count from the start of the data; they must not overlap and must cover the data without holes
//
// FormatError names the file, the tensor and the two numbers that disagree.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/file.h"

namespace graft {

struct SafeTensor {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;  // from the start of the file
};

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& file);
  const fs::path& path() const { return map_.path(); }
  const std::map<std::string, SafeTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::span<const std::byte> data(const SafeTensor& tensor) const;

 private:
  MappedFile map_;
  std::map<std::string, SafeTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Streams a file: declare every tensor, then write each one's bytes in the declared order, in one or more pieces; or, after
// start(), in any order and from any thread. Wrong order or size is the caller's fault: std::logic_error. Tensors are aligned
// when larger element types are declared first.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const fs::path& file, std::map<std::string, std::string> metadata = {{"format", "pt"}});
  void tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape);
  void data(const std::string& name, const void* bytes, std::size_t size);
  void start();
  void place(std::size_t tensor, std::uint64_t offset, const void* bytes, std::size_t size);  // tensor: in the declared order
  std::string commit();                                                                       // sha256 of the file

 private:
  void write_header();
  FileWriter out_;
  std::map<std::string, std::string> metadata_;
  std::vector<SafeTensor> tensors_;
  std::size_t next_ = 0;
  std::uint64_t data_start_ = 0;
  std::atomic<std::uint64_t> placed_ = 0;  // bytes
  bool header_written_ = false;
};

}  // namespace graft
