// Packed batches from HDF5, in tokens per second of one core: data_test '[bench]'. Not part of the tests.
#include <random>

#include "data/token_file.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

TEST_CASE("packed batches per second", "[.][bench]") {
  for (const bool deflate : {false, true}) {
    TempDir dir;
    std::mt19937 random(1);
    std::uint64_t tokens = 0;
    for (std::size_t shard = 1; shard <= 2; ++shard) {
      TokenFileWriter writer(49152);
      while (writer.tokens() < 16 << 20) {
        TokenizedDocument document;
        document.id_hash = random();
        document.ids.resize(100 + random() % 3000);  // the manual's pages have 1,500 tokens on average
        for (auto& id : document.ids) id = static_cast<std::int32_t>(random() % 49152);
        writer.add(document);
      }
      append_manifest(dir.path, writer.seal(dir.path, "train", shard, sha256_hex("x"), {"docs"}, deflate));
      tokens += writer.tokens();
    }
    double begin = cpu_seconds();
    const auto corpus = Corpus::open(dir.path, "train", "");
    const double opened = cpu_seconds() - begin;
    begin = cpu_seconds();
    const auto source = pack(*corpus, 2048, LongDocuments::split);
    const double packed = cpu_seconds() - begin;
    for (int epoch = 0; epoch < 2; ++epoch) {  // chunks are inflated in the first
      begin = cpu_seconds();
      Cursor cursor{1, epoch, 0};
      std::int64_t read = 0;
      while (cursor.epoch == epoch)
        read += static_cast<std::int64_t>(
            source->read(cursor, std::min<std::int64_t>(8, source->rows_per_epoch() - cursor.row)).tokens.size());
      const double seconds = cpu_seconds() - begin;
      WARN((deflate ? "deflated" : "plain") << ": " << tokens << " tokens, opened and verified in " << opened << " s, packed in "
                                            << packed << " s; epoch " << epoch << ": " << read << " tokens in " << seconds
                                            << " s of one core, " << static_cast<double>(read) / seconds * 1e-6 << " M tokens/s");
    }
  }
}
