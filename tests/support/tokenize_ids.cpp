// tokenize_ids <tokenizer>: reads strings (u32 length, bytes) on stdin, writes for each its ids (u32 count, i32 each) on stdout.
// tokenize_ids <tokenizer> --time FILE: encodes the file's strings (same format) and prints bytes, ids and seconds.
// tokenize_ids --extract PATH: writes the texts of the documents that prepare would read (same format) on stdout.
// The program's side of the comparisons in tests/peers; not installed.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iostream>
#include <iterator>

#include "core/error.h"
#include "core/file.h"
#include "data/document_reader.h"
#include "data/tokenizer.h"

namespace {

bool read_exactly(void* out, std::size_t size) { return std::fread(out, 1, size, stdin) == size; }

template <class T>
void put(const T* values, std::size_t count) {
  const auto n = static_cast<std::uint32_t>(count);
  std::fwrite(&n, sizeof n, 1, stdout);
  std::fwrite(values, sizeof(T), count, stdout);
}

int extract_documents(const char* path) {
  using namespace graft::data;
  const CorpusConfig config;
  SourceConfig source;
  source.path = path;
  DocumentReader reader({source});
  for (RawDocument raw; reader.next(raw);)
    if (const Extracted document = extract(raw, source, config); document.dropped.empty())
      put(document.text.data(), document.text.size());
  return 0;
}

int answer(const graft::data::Tokenizer& tokenizer) {
  std::string text;
  std::vector<std::int32_t> ids;
  std::uint32_t size = 0;
  while (read_exactly(&size, sizeof size)) {
    text.resize(size);
    if (!read_exactly(text.data(), size)) return 2;
    ids.clear();
    tokenizer.encode(text, ids);
    put(ids.data(), ids.size());
  }
  return 0;
}

int time_file(const graft::data::Tokenizer& tokenizer, const char* file) {
  const std::string content = graft::read_file(file);
  std::vector<std::string_view> texts;
  for (std::size_t at = 0; at + 4 <= content.size();) {
    std::uint32_t size = 0;
    std::memcpy(&size, content.data() + at, sizeof size);
    texts.push_back(std::string_view(content).substr(at + 4, size));
    at += 4 + size;
  }
  for (int round = 0; round < 3; ++round) {
    const std::clock_t begin = std::clock();  // of the processor: the machine may be busy
    std::size_t bytes = 0, total = 0;
    std::vector<std::int32_t> ids;
    for (const std::string_view text : texts) {
      ids.clear();
      tokenizer.encode(text, ids);
      bytes += text.size();
      total += ids.size();
    }
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    std::printf("%zu bytes, %zu ids, %.4f s, %.1f MB/s\n", bytes, total, seconds, 1e-6 * static_cast<double>(bytes) / seconds);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) return 2;
  try {
    if (argc == 3) return extract_documents(argv[2]);
    const auto tokenizer = graft::data::load_tokenizer(argv[1]);
    return argc == 2 ? answer(*tokenizer) : time_file(*tokenizer, argv[3]);
  } catch (const graft::Error& error) {
    std::cerr << "tokenize_ids: " << error.what() << "\n";
    return error.exit_code();
  }
}
