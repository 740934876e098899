// HDF5, used narrowly: files of flat integer datasets in groups, with integer and string attributes on the root group.
//
// Writing builds the file in memory and gives its bytes, so that they go to the disk through core/file.h:
// libhdf5 1.10.8 crashes at exit after a failed write, and neither syncs nor replaces files atomically. Equal input
// gives equal bytes. Reading uses libhdf5 once, to list what is where; the caller maps the file and decodes by itself,
// on as many threads as it likes. Everything that could reach outside the file or run foreign code is refused: links
// other than plain ones, external storage, virtual datasets, unknown filters, plugins, types that are no little-endian
// integers, rank other than 1. Each file is listed in a child process of its own: after some hundreds of files
// with damaged metadata libhdf5 1.10.8 crashed. libhdf5 is not safe to call from two threads; the functions here serialise
// themselves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace graft::hdf5 {

// How a dataset is stored. chunk 0: contiguous. Otherwise chunks of that many elements, byte-shuffled and deflated.
struct Storage {
  std::uint64_t chunk = 0;
  int deflate_level = 6;
};

class ImageWriter {
 public:
  ImageWriter();
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  // Unsigned integers of `element_size` 1, 2, 4 or 8 bytes in host order. `path` may name groups ("documents/offset");
  // they are made as needed. Neither `count` nor the storage's chunk may exceed 2^32 elements.
  void dataset(const std::string& path, const void* data, std::uint64_t count, int element_size, Storage storage = {});
  void attribute(const std::string& name, std::int64_t value);
  void attribute(const std::string& name, const std::string& value);

  // The finished file. The bytes live as long as the writer; nothing may be added after.
  std::string_view image();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct Chunk {
  std::uint64_t first = 0;    // index of its first element
  std::uint64_t address = 0;  // byte offset in the file
  std::uint64_t size = 0;     // stored bytes
  bool deflated = false, shuffled = false;
};

struct Dataset {
  int element_size = 0;  // 1, 2, 4 or 8: unsigned little-endian
  std::uint64_t count = 0;
  std::uint64_t address = 0;  // contiguous: byte offset in the file
  std::uint64_t chunk = 0;    // elements of a chunk, 0 when contiguous
  std::vector<Chunk> chunks;  // ascending and without holes
};

struct Listing {
  std::map<std::string, Dataset> datasets;  // by path, "documents/offset"
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, std::string> strings;
};

// FormatError naming the file, the object and the reason; MachineError when there is no memory for it. Every address and size in
// the answer lies inside the file.
Listing list(const std::filesystem::path& file);

}  // namespace graft::hdf5
