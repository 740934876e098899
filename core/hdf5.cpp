#include "core/hdf5.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace graft::hdf5 {
namespace {

constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 32;
constexpr hsize_t kMaxLinks = 64;        // of one group, and attributes of the root
constexpr hsize_t kMaxChunks = 1 << 14;  // listing them is quadratic in libhdf5
constexpr std::size_t kMaxString = 4096;
constexpr const char* kDamaged = "; the file is damaged, or memory ran out";  // libhdf5 fails alike
constexpr rlim_t kMaxSeconds = 5;                                             // of the processor, for listing one file
constexpr std::uint64_t kMaxInflation = 1032;  // the most that deflate can do (zlib's technical notes)

// Held by every public function: one thread in libhdf5 at a time, no messages of its own on stderr, no plugins.
class Session {
 public:
  Session() : lock_(mutex()) {
    static const bool started = [] {
      H5dont_atexit();  // its exit handler crashes after a failed write
      return H5open() >= 0 && H5PLset_loading_state(0) >= 0;
    }();
    if (!started) throw MachineError("libhdf5 does not start");
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // per thread
  }

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  std::lock_guard<std::mutex> lock_;
};

class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// Everything is in memory when writing, so a failure there is a lack of memory or our own fault.
template <class T>
T made(T result, const char* what) {
  if (result < 0) throw MachineError(cat("libhdf5 could not ", what, "; is there enough memory?"));
  return result;
}

hid_t unsigned_type(int element_size) {
  switch (element_size) {
    case 1:
      return H5T_STD_U8LE;
    case 2:
      return H5T_STD_U16LE;
    case 4:
      return H5T_STD_U32LE;
    case 8:
      return H5T_STD_U64LE;
  }
  throw MachineError(cat("no HDF5 integer of ", element_size, " bytes"));
}

// Listing reads a file from anywhere, so every failure names it.
class Lister {
 public:
  Lister(const std::filesystem::path& file, std::uint64_t size);
  Listing run();

 private:
  template <class T>
  T need(T result, const std::string& object, const char* what) const {
    if (result < 0) refuse(object, cat("libhdf5 cannot read ", what, kDamaged));
    return result;
  }
  [[noreturn]] void refuse(const std::string& object, const std::string& why) const {
    throw FormatError(cat(path_.string(), ": ", object.empty() ? "" : "/" + object + ": ", why));
  }
  void group(hid_t id, const std::string& path, int depth);
  void dataset(hid_t id, const std::string& path);
  void chunks(hid_t id, hid_t properties, const std::string& path, Dataset& out) const;
  void attributes();
  int integer_size(hid_t type, const std::string& path) const;

  std::filesystem::path path_;
  std::uint64_t size_;
  Handle file_;
  Listing listing_;
};

Handle open_for_listing(const std::filesystem::path& path) {
  Handle access(made(H5Pcreate(H5P_FILE_ACCESS), "begin"), H5Pclose);
  made(H5Pset_file_locking(access, false, true),
       "begin");  // shards are immutable, and may lie on read-only file systems
  return Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
}

Lister::Lister(const std::filesystem::path& file, std::uint64_t size) : path_(file), size_(size), file_(open_for_listing(file)) {
  if (file_ < 0) refuse("", cat("not an HDF5 file, or truncated", kDamaged));
}

Listing Lister::run() {
  Handle creation(need(H5Fget_create_plist(file_), "", "the superblock"), H5Pclose);
  hsize_t user_block = 0;
  need(H5Pget_userblock(creation, &user_block), "", "the superblock");
  if (user_block != 0) refuse("", "has a user block, which a shard never has");
  group(file_, "", 0);
  attributes();
  return std::move(listing_);
}

void Lister::group(hid_t id, const std::string& path, int depth) {
  if (depth > 4) refuse(path, "groups are nested deeper than 4");
  H5G_info_t info;
  need(H5Gget_info(id, &info), path, "the group");
  if (info.nlinks > kMaxLinks) refuse(path, cat("holds ", info.nlinks, " objects, more than ", kMaxLinks));
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    char name[256];
    const ssize_t length = H5Lget_name_by_idx(id, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
    if (need(length, path, "a link") >= static_cast<ssize_t>(sizeof name)) refuse(path, "a name is too long");
    const std::string child = path.empty() ? name : path + "/" + name;
    H5L_info_t link;
    need(H5Lget_info(id, name, &link, H5P_DEFAULT), child, "the link");
    if (link.type == H5L_TYPE_SOFT) refuse(child, "is a soft link; shards hold plain datasets only");
    if (link.type != H5L_TYPE_HARD) refuse(child, "is an external or user-defined link; shards hold plain datasets only");
    Handle object(need(H5Oopen(id, name, H5P_DEFAULT), child, "the object"), H5Oclose);
    switch (H5Iget_type(object)) {
      case H5I_GROUP:
        group(object, child, depth + 1);
        break;
      case H5I_DATASET:
        dataset(object, child);
        break;
      default:
        refuse(child, "is neither a group nor a dataset");
    }
  }
}

int Lister::integer_size(hid_t type, const std::string& path) const {
  const std::size_t size = H5Tget_size(type);
  if (H5Tget_class(type) != H5T_INTEGER || H5Tget_sign(type) != H5T_SGN_NONE ||
      (size != 1 && size != 2 && size != 4 && size != 8)) {
    refuse(path, "is not a dataset of unsigned integers");
  }
  if (size > 1 && H5Tget_order(type) != H5T_ORDER_LE) refuse(path, "is not little-endian");
  if (H5Tget_precision(type) != 8 * size || H5Tget_offset(type) != 0) refuse(path, "has integers with padding bits");
  return static_cast<int>(size);
}

void Lister::dataset(hid_t id, const std::string& path) {
  if (listing_.datasets.size() >= kMaxLinks) refuse(path, cat("more than ", kMaxLinks, " datasets"));
  // The layout comes first: even asking a virtual dataset for its size may open other files.
  Handle properties(need(H5Dget_create_plist(id), path, "the dataset's properties"), H5Pclose);
  const H5D_layout_t layout = H5Pget_layout(properties);
  if (layout == H5D_VIRTUAL) refuse(path, "is a virtual dataset, which reads other files");
  if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED) refuse(path, "is neither contiguous nor chunked");
  if (need(H5Pget_external_count(properties), path, "the storage") > 0) {
    refuse(path, "has external storage, which reads other files");
  }
  Dataset out;
  Handle type(need(H5Dget_type(id), path, "the type"), H5Tclose);
  out.element_size = integer_size(type, path);
  Handle space(need(H5Dget_space(id), path, "the shape"), H5Sclose);
  if (H5Sget_simple_extent_type(space) != H5S_SIMPLE) refuse(path, "has no shape");
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank != 1) refuse(path, cat("has rank ", rank, " where 1 is expected"));
  hsize_t count = 0;
  need(H5Sget_simple_extent_dims(space, &count, nullptr), path, "the shape");
  out.count = count;
  if (count > size_ * 2048) refuse(path, cat("claims ", count, " elements in a file of ", size_, " bytes"));
  if (layout == H5D_CHUNKED) {
    chunks(id, properties, path, out);
  } else if (count > 0) {
    const haddr_t address = H5Dget_offset(id);
    const std::uint64_t bytes = count * static_cast<std::uint64_t>(out.element_size);
    if (address == HADDR_UNDEF) refuse(path, "has no data");
    if (H5Dget_storage_size(id) != bytes || address > size_ || bytes > size_ - address) {
      refuse(path, cat("needs ", bytes, " bytes at ", address, " in a file of ", size_, " bytes"));
    }
    out.address = address;
  }
  listing_.datasets[path] = std::move(out);
}

void Lister::chunks(hid_t id, hid_t properties, const std::string& path, Dataset& out) const {
  hsize_t length = 0;
  if (H5Pget_chunk(properties, 1, &length) != 1 || length == 0) refuse(path, "has a chunk shape that does not fit");
  out.chunk = length;
  const int filters = H5Pget_nfilters(properties);
  std::vector<H5Z_filter_t> kinds;
  for (int i = 0; i < std::min(filters, 8); ++i) {
    unsigned flags = 0;
    std::size_t values = 0;
    kinds.push_back(H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, nullptr));
  }
  const bool known = kinds.empty() || kinds == std::vector<H5Z_filter_t>{H5Z_FILTER_DEFLATE} ||
                     kinds == std::vector<H5Z_filter_t>{H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE};
  if (!known) {
    std::string list;
    for (const H5Z_filter_t kind : kinds) list += cat(list.empty() ? "" : ", ", kind);
    refuse(path, cat("uses HDF5 filters ", list, "; only shuffle (2) followed by deflate (1) is read"));
  }
  Handle space(need(H5Dget_space(id), path, "the shape"), H5Sclose);
  hsize_t found = 0;
  need(H5Dget_num_chunks(id, space, &found), path, "the chunk index");
  const hsize_t expected = out.count / length + (out.count % length != 0);
  if (found != expected || found > kMaxChunks || length * static_cast<hsize_t>(out.element_size) > (hsize_t{1} << 30)) {
    refuse(path, cat("has ", found, " chunks of ", length, " elements for ", out.count, " elements; ", expected,
                     " are needed, and at most ", kMaxChunks, " of 1 GiB are read"));
  }
  for (hsize_t i = 0; i < found; ++i) {
    hsize_t first = 0, stored = 0;
    unsigned skipped = 0;
    haddr_t address = 0;
    need(H5Dget_chunk_info(id, space, i, &first, &skipped, &address, &stored), path, "the chunk index");
    if (address > size_ || stored > size_ - address) {
      refuse(path, cat("a chunk of ", stored, " bytes lies at ", address, " in a file of ", size_, " bytes"));
    }
    Chunk chunk{first, address, stored, false, false};
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      if (skipped >> k & 1) continue;  // a filter may be left out for single chunks
      (kinds[k] == H5Z_FILTER_SHUFFLE ? chunk.shuffled : chunk.deflated) = true;
    }
    const std::uint64_t bytes = length * static_cast<std::uint64_t>(out.element_size);
    if (!chunk.deflated && stored != bytes) refuse(path, cat("a plain chunk has ", stored, " bytes instead of ", bytes));
    if (chunk.deflated && bytes / kMaxInflation > stored)
      refuse(path, cat("a chunk of ", stored, " bytes cannot inflate to ", bytes, " bytes"));
    out.chunks.push_back(chunk);
  }
  std::ranges::sort(out.chunks, {}, &Chunk::first);
  for (hsize_t i = 0; i < found; ++i) {
    if (out.chunks[i].first != i * length) refuse(path, cat("no chunk begins at element ", i * length));
  }
}

void Lister::attributes() {
  H5O_info_t info;
  need(H5Oget_info(file_, &info), "", "the root group");
  if (info.num_attrs > kMaxLinks) refuse("", cat("has ", info.num_attrs, " attributes, more than ", kMaxLinks));
  for (hsize_t i = 0; i < info.num_attrs; ++i) {
    Handle attribute(
        need(H5Aopen_by_idx(file_, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT), "", "an attribute"), H5Aclose);
    char name[256];
    if (need(H5Aget_name(attribute, sizeof name, name), "", "an attribute") >= static_cast<ssize_t>(sizeof name)) {
      refuse("", "an attribute's name is too long");
    }
    const std::string where = cat("attribute ", name);
    Handle space(need(H5Aget_space(attribute), where, "the shape"), H5Sclose);
    if (H5Sget_simple_extent_type(space) != H5S_SCALAR) refuse(where, "is not a single value");
    Handle type(need(H5Aget_type(attribute), where, "the type"), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type);
    if (kind == H5T_INTEGER) {
      need(H5Aread(attribute, H5T_NATIVE_INT64, &listing_.integers[name]), where, "the value");
    } else if (kind == H5T_STRING && H5Tis_variable_str(type) == 0 && H5Tget_size(type) <= kMaxString) {
      std::string value(H5Tget_size(type), '\0');
      need(H5Aread(attribute, type, value.data()), where, "the value");
      value.resize(std::min(value.size(), value.find('\0')));
      listing_.strings[name] = std::move(value);
    } else {
      refuse(where, "is neither an integer nor a string of fixed length");
    }
  }
}

}  // namespace

struct ImageWriter::State {
  State() : access(made(H5Pcreate(H5P_FILE_ACCESS), "begin a file"), H5Pclose) {
    Handle creation(made(H5Pcreate(H5P_FILE_CREATE), "begin a file"), H5Pclose);
    made(H5Pset_obj_track_times(creation, false), "begin a file");
    made(H5Pset_fapl_core(access, 1 << 20, false), "begin a file");
    made(H5Pset_alignment(access, 4096, 4096), "begin a file");  // large datasets start on a page
    file = std::make_unique<Handle>(made(H5Fcreate("image", H5F_ACC_TRUNC, creation, access), "begin a file"), H5Fclose);
  }
  Handle access;
  std::unique_ptr<Handle> file;
  std::map<std::string, bool> groups;
};

ImageWriter::ImageWriter() {
  Session session;
  state_ = std::make_unique<State>();
}

ImageWriter::~ImageWriter() {
  Session session;
  state_.reset();
}

void ImageWriter::dataset(const std::string& path, const void* data, std::uint64_t count, int element_size, Storage storage) {
  Session session;
  if (count > kMaxElements || storage.chunk > kMaxElements) throw MachineError(cat("dataset ", path, " is too large: ", count));
  const hid_t type = unsigned_type(element_size);
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string name = path.substr(0, slash);
    if (!state_->groups.emplace(name, true).second) continue;
    Handle creation(made(H5Pcreate(H5P_GROUP_CREATE), "add a group"), H5Pclose);
    made(H5Pset_obj_track_times(creation, false), "add a group");
    Handle group(made(H5Gcreate2(*state_->file, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), "add a group"), H5Gclose);
  }
  const hsize_t size = count;
  Handle space(made(H5Screate_simple(1, &size, nullptr), "add a dataset"), H5Sclose);
  Handle creation(made(H5Pcreate(H5P_DATASET_CREATE), "add a dataset"), H5Pclose);
  made(H5Pset_obj_track_times(creation, false), "add a dataset");
  if (storage.chunk > 0) {
    const hsize_t chunk = storage.chunk;
    made(H5Pset_chunk(creation, 1, &chunk), "add a dataset");
    made(H5Pset_shuffle(creation), "add a dataset");
    made(H5Pset_deflate(creation, static_cast<unsigned>(storage.deflate_level)), "add a dataset");
  }
  Handle dataset(made(H5Dcreate2(*state_->file, path.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), "add a dataset"),
                 H5Dclose);
  if (count > 0) made(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), "write a dataset");
}

void ImageWriter::attribute(const std::string& name, std::int64_t value) {
  Session session;
  Handle space(made(H5Screate(H5S_SCALAR), "add an attribute"), H5Sclose);
  Handle attribute(
      made(H5Acreate2(*state_->file, name.c_str(), H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), "add an attribute"),
      H5Aclose);
  made(H5Awrite(attribute, H5T_NATIVE_INT64, &value), "add an attribute");
}

void ImageWriter::attribute(const std::string& name, const std::string& value) {
  Session session;
  Handle space(made(H5Screate(H5S_SCALAR), "add an attribute"), H5Sclose);
  Handle type(made(H5Tcopy(H5T_C_S1), "add an attribute"), H5Tclose);
  made(H5Tset_size(type, std::max<std::size_t>(value.size(), 1)), "add an attribute");
  made(H5Tset_strpad(type, H5T_STR_NULLPAD), "add an attribute");
  made(H5Tset_cset(type, H5T_CSET_UTF8), "add an attribute");
  Handle attribute(made(H5Acreate2(*state_->file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), "add an attribute"),
                   H5Aclose);
  made(H5Awrite(attribute, type, value.c_str()), "add an attribute");
}

std::string_view ImageWriter::image() {
  Session session;
  made(H5Fflush(*state_->file, H5F_SCOPE_GLOBAL), "finish a file");
  const ssize_t size = made(H5Fget_file_image(*state_->file, nullptr, 0), "finish a file");
  void* handle = nullptr;  // of the in-memory driver: the address of its pointer to the bytes
  made(H5Fget_vfd_handle(*state_->file, state_->access, &handle), "finish a file");
  return {*static_cast<const char**>(handle), static_cast<std::size_t>(size)};
}

namespace {

Json to_json(const Listing& listing) {
  Json out{{"datasets", Json::object()}, {"integers", listing.integers}, {"strings", Json::object()}};
  for (const auto& [path, d] : listing.datasets) {
    Json chunks = Json::array();
    for (const Chunk& c : d.chunks) chunks.push_back({c.first, c.address, c.size, c.deflated, c.shuffled});
    out["datasets"][path] = {d.element_size, d.count, d.address, d.chunk, std::move(chunks)};
  }
  for (const auto& [name, value] : listing.strings) out["strings"][name] = Json::binary({value.begin(), value.end()});
  return out;
}

Listing from_json(const Json& json) {
  Listing out;
  json.at("integers").get_to(out.integers);
  for (const auto& [path, d] : json.at("datasets").items()) {
    Dataset& dataset = out.datasets[path];
    dataset = {d.at(0), d.at(1), d.at(2), d.at(3), {}};
    for (const Json& c : d.at(4)) dataset.chunks.push_back({c.at(0), c.at(1), c.at(2), c.at(3), c.at(4)});
  }
  for (const auto& [name, value] : json.at("strings").items())
    out.strings[name] = {value.get_binary().begin(), value.get_binary().end()};
  return out;
}

// What `work` returns, in a process of its own that may crash or hang; nothing when it did or threw.
std::optional<std::string> isolated(const std::function<std::string()>& work) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw MachineError(cat("cannot make a pipe: ", std::strerror(errno)));
  const pid_t child = fork();
  if (child < 0) {
    close(ends[0]), close(ends[1]);
    throw MachineError(cat("cannot start a process: ", std::strerror(errno)));
  }
  if (child == 0) {
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) std::signal(signal, SIG_DFL);
    const rlimit limit{kMaxSeconds, kMaxSeconds};
    setrlimit(RLIMIT_CPU, &limit);
    std::string answer;
    try {
      answer = work();
    } catch (...) {
      _exit(1);  // the stack above is the parent's: its files in the making are not the child's to remove
    }
    for (std::size_t at = 0; at < answer.size();) {
      const ssize_t wrote = write(ends[1], answer.data() + at, answer.size() - at);
      if (wrote < 0 && errno != EINTR) _exit(1);
      if (wrote > 0) at += static_cast<std::size_t>(wrote);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string answer;
  char buffer[1 << 14];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) != 0;)
    if (got > 0)
      answer.append(buffer, static_cast<std::size_t>(got));
    else if (errno != EINTR)
      break;
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? std::optional(answer) : std::nullopt;
}

}  // namespace

Listing list(const std::filesystem::path& file) {
  Session session;
  std::error_code error;
  const std::uint64_t size = std::filesystem::file_size(file, error);
  if (error) throw FormatError(cat(file.string(), ": ", error.message()));
  const auto answer = isolated([&] {
    Json out;
    try {
      out["listing"] = to_json(Lister(file, size).run());
    } catch (const FormatError& refusal) {
      out["refusal"] = refusal.what();
    } catch (const std::bad_alloc&) {
      out["failure"] = "out of memory";
    } catch (const std::exception& failure) {
      out["failure"] = failure.what();
    }
    const auto bytes = Json::to_cbor(out);
    return std::string(bytes.begin(), bytes.end());
  });
  if (!answer) throw FormatError(cat(file.string(), ": libhdf5 crashes or hangs on it", kDamaged));
  const Json out = Json::from_cbor(*answer);
  if (out.contains("failure")) throw MachineError(cat(file.string(), ": ", out.at("failure").get<std::string>()));
  if (out.contains("refusal")) throw FormatError(out.at("refusal").get<std::string>());
  return from_json(out.at("listing"));
}

}  // namespace graft::hdf5
