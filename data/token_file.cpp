#include "data/token_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"

namespace graft::data {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void widen(const std::byte* from, std::span<std::int32_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int32_t>(load<T>(from + i * sizeof(T)));
}

template <class T>
std::uint32_t largest(const std::byte* from, std::uint64_t count) {
  std::uint32_t result = 0;
  for (std::uint64_t i = 0; i < count; ++i) result = std::max<std::uint32_t>(result, load<T>(from + i * sizeof(T)));
  return result;
}

void check_hash(const MappedFile& map, const ShardRecord& record) {
  const auto bytes = map.bytes();
  const std::string found = sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (found == record.sha256) return;
  throw DataError(cat(map.path().string(), ": damaged: sha256 is ", found.substr(0, 16), "..., the manifest says ",
                      record.sha256.substr(0, 16), "...; restore the file, or delete the corpus and prepare it again"));
}

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& corpus, const ShardRecord& record) : map_(inside(corpus, record.file)) {
  check_hash(map_, record);
  check(hdf5::list(map_.path()), record);
}

hdf5::Dataset TokenFile::column(const hdf5::Listing& listing, const std::string& path, int element_size,
                                std::uint64_t count) const {
  const auto found = listing.datasets.find(path);
  if (found == listing.datasets.end()) throw FormatError(cat(map_.path().string(), ": has no dataset /", path));
  const hdf5::Dataset& dataset = found->second;
  if (dataset.chunk != 0 || dataset.element_size != element_size || dataset.count != count) {
    throw FormatError(cat(map_.path().string(), ": /", path, " has ", dataset.count, dataset.chunk ? " chunked" : "",
                          " elements of ", dataset.element_size, " bytes; ", count, " of ", element_size, " bytes are expected"));
  }
  return dataset;
}

std::uint64_t TokenFile::number(const hdf5::Dataset& dataset, std::int64_t index) const {
  return load<std::uint64_t>(map_.bytes().data() + dataset.address + 8 * static_cast<std::uint64_t>(index));
}

void TokenFile::check(const hdf5::Listing& listing, const ShardRecord& record) {
  const std::string file = map_.path().string();
  const auto integer = [&](const char* name) {
    const auto found = listing.integers.find(name);
    if (found == listing.integers.end()) throw FormatError(cat(file, ": has no attribute ", name, "; is it a shard of graft?"));
    return found->second;
  };
  const auto text = [&](const char* name, const std::string& expected) {
    const auto found = listing.strings.find(name);
    if (found == listing.strings.end() || found->second != expected) {
      throw FormatError(cat(file, ": attribute ", name, " is not the manifest's '", expected, "'"));
    }
  };
  if (integer("schema") != kCorpusSchema) {
    throw UnsupportedError(cat(file, ": schema ", integer("schema"), "; this program reads schema ", kCorpusSchema));
  }
  text("tokenizer", record.tokenizer_hash);
  text("split", record.split);
  if (integer("vocab_size") != record.vocab_size || record.vocab_size <= 0) {
    throw FormatError(cat(file, ": vocab_size is ", integer("vocab_size"), ", the manifest says ", record.vocab_size));
  }
  vocab_size_ = record.vocab_size;

  static const std::set<std::string> known{"tokens",          "documents/offset", "documents/id_hash", "documents/content_hash",
                                           "documents/bytes", "documents/source", "sources",           "loss/first",
                                           "loss/span"};
  for (const auto& [path, dataset] : listing.datasets) {
    if (!known.contains(path)) throw FormatError(cat(file, ": dataset /", path, " does not belong into a shard"));
  }
  const auto tokens = listing.datasets.find("tokens");
  if (tokens == listing.datasets.end()) throw FormatError(cat(file, ": has no dataset /tokens"));
  tokens_ = tokens->second;
  const int width = vocab_size_ <= (1 << 16) ? 2 : 4;
  if (tokens_.element_size != width || tokens_.count != record.tokens) {
    throw FormatError(cat(file, ": /tokens has ", tokens_.count, " elements of ", tokens_.element_size, " bytes; ", record.tokens,
                          " of ", width, " bytes are expected"));
  }
  const std::uint64_t n = record.documents;
  if (n > map_.bytes().size() / 8) throw FormatError(cat(file, ": the manifest claims ", n, " documents, too many for the file"));
  documents_ = static_cast<std::int64_t>(n);
  offset_ = column(listing, "documents/offset", 8, n + 1);
  id_hash_ = column(listing, "documents/id_hash", 8, n);
  content_hash_ = column(listing, "documents/content_hash", 8, 2 * n);
  bytes_ = column(listing, "documents/bytes", 8, n);
  column(listing, "documents/source", 2, n);
  const auto ascending = [&](const hdf5::Dataset& dataset, const char* path, std::uint64_t last) {
    for (std::uint64_t i = 0; i < dataset.count; ++i) {
      const std::uint64_t here = number(dataset, static_cast<std::int64_t>(i));
      if (here > last || (i > 0 && here < number(dataset, static_cast<std::int64_t>(i - 1)))) {
        throw FormatError(cat(file, ": ", path, "[", i, "] = ", here, " is out of order or beyond ", last));
      }
    }
  };
  ascending(offset_, "/documents/offset", tokens_.count);
  if (number(offset_, 0) != 0 || number(offset_, documents_) != tokens_.count) {
    throw FormatError(cat(file, ": /documents/offset does not cover the ", tokens_.count, " tokens"));
  }
  has_loss_ = listing.datasets.contains("loss/first");
  if (has_loss_) {
    const auto span = listing.datasets.find("loss/span");
    const std::uint64_t count = span == listing.datasets.end() ? 0 : span->second.count;
    loss_first_ = column(listing, "loss/first", 8, n + 1);
    loss_span_ = column(listing, "loss/span", 8, count);
    ascending(loss_first_, "/loss/first", count / 2);
    ascending(loss_span_, "/loss/span", tokens_.count);
  }
  if (tokens_.chunk == 0) {
    check_tokens(map_.bytes().data() + tokens_.address, tokens_.count);
  } else {
    decoded_ =
        std::make_unique_for_overwrite<std::byte[]>(tokens_.chunks.size() * tokens_.chunk * static_cast<std::size_t>(width));
    chunk_decoded_ = std::make_unique<std::once_flag[]>(tokens_.chunks.size());
  }
}

void TokenFile::check_tokens(const std::byte* bytes, std::uint64_t count) const {
  const std::uint32_t top =
      tokens_.element_size == 2 ? largest<std::uint16_t>(bytes, count) : largest<std::uint32_t>(bytes, count);
  if (count > 0 && top >= static_cast<std::uint32_t>(vocab_size_)) {
    throw FormatError(cat(map_.path().string(), ": holds token id ", top, ", outside the vocabulary of ", vocab_size_));
  }
}

void TokenFile::decode(std::size_t index) const {
  const hdf5::Chunk& chunk = tokens_.chunks[index];
  const std::size_t width = static_cast<std::size_t>(tokens_.element_size), size = tokens_.chunk * width;
  std::byte* const out = decoded_.get() + index * size;
  const std::byte* from = map_.bytes().data() + chunk.address;
  std::vector<std::byte> inflated;
  if (chunk.deflated) {
    inflated.resize(size);
    uLongf length = size;
    const int status =
        uncompress(reinterpret_cast<Bytef*>(inflated.data()), &length, reinterpret_cast<const Bytef*>(from), chunk.size);
    if (status != Z_OK || length != size) {
      throw FormatError(cat(map_.path().string(), ": the chunk at token ", chunk.first, " does not inflate to ", size, " bytes"));
    }
    from = inflated.data();
  }
  if (chunk.shuffled) {  // byte k of every element is stored together
    for (std::size_t k = 0; k < width; ++k) {
      for (std::size_t i = 0; i < tokens_.chunk; ++i) out[i * width + k] = from[k * tokens_.chunk + i];
    }
  } else {
    std::memcpy(out, from, size);
  }
  check_tokens(out, std::min(tokens_.chunk, tokens_.count - chunk.first));
}

const std::byte* TokenFile::stored_tokens(std::uint64_t begin, std::uint64_t end) const {
  const std::uint64_t width = static_cast<std::uint64_t>(tokens_.element_size);
  if (tokens_.chunk == 0) return map_.bytes().data() + tokens_.address + begin * width;
  for (std::uint64_t i = begin / tokens_.chunk; i * tokens_.chunk < end; ++i) {
    std::call_once(chunk_decoded_[i], [&] { decode(i); });
  }
  return decoded_.get() + begin * width;
}

Document TokenFile::document(std::int64_t index) const {
  return {number(id_hash_, index), number(bytes_, index),
          static_cast<std::int64_t>(number(offset_, index + 1) - number(offset_, index))};
}

Hash128 TokenFile::content_hash(std::int64_t index) const {
  return {number(content_hash_, 2 * index), number(content_hash_, 2 * index + 1)};
}

void TokenFile::read(std::int64_t index, std::int64_t begin, std::span<std::int32_t> out, std::span<std::uint8_t> loss) const {
  const std::uint64_t first = number(offset_, index) + static_cast<std::uint64_t>(begin);
  const std::byte* from = stored_tokens(first, first + out.size());
  if (tokens_.element_size == 2)
    widen<std::uint16_t>(from, out);
  else
    widen<std::uint32_t>(from, out);
  if (loss.empty()) return;
  const std::uint64_t span_begin = has_loss_ ? number(loss_first_, index) : 0;
  const std::uint64_t span_end = has_loss_ ? number(loss_first_, index + 1) : 0;
  std::ranges::fill(loss, span_begin == span_end ? 1 : 0);
  for (std::uint64_t i = span_begin; i < span_end; ++i) {
    const std::uint64_t low = std::max(number(loss_span_, static_cast<std::int64_t>(2 * i)), first);
    const std::uint64_t high = std::min(number(loss_span_, static_cast<std::int64_t>(2 * i + 1)), first + loss.size());
    for (std::uint64_t t = low; t < high; ++t) loss[t - first] = 1;
  }
}

}  // namespace graft::data
