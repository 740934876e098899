// Shards: written, sealed, read back by random access; what they hold is what went in.
#include "data/token_file.h"

#include <random>

#include "core/hdf5.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

const std::string kTokenizer = sha256_hex("tokenizer");

std::vector<TokenizedDocument> some_documents(std::int32_t vocab, int count, bool with_loss, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<TokenizedDocument> out(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    TokenizedDocument& document = out[static_cast<std::size_t>(i)];
    document.id_hash = hash128(cat("id", i)).high;
    document.content = hash128(cat("content", i));
    document.bytes = random() % 1000;
    document.source = static_cast<std::uint16_t>(i % 2);
    document.ids.resize(i == 3 ? 0 : random() % 700);
    for (auto& id : document.ids) id = static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab));
    if (document.ids.size() > 40 && with_loss && i % 3 == 0)
      document.loss = {{0, 3}, {10, 11}, {20, static_cast<std::uint32_t>(document.ids.size())}};
  }
  return out;
}

ShardRecord seal(const fs::path& dir, const std::vector<TokenizedDocument>& documents, std::int32_t vocab, bool deflate) {
  TokenFileWriter writer(vocab);
  for (const auto& document : documents) writer.add(document);
  return writer.seal(dir, "train", 1, kTokenizer, {"one", "two, with a comma"}, deflate);
}

}  // namespace

TEST_CASE("a shard gives back what was written, narrow and wide, plain and deflated", "[token_file]") {
  TempDir dir;
  for (const std::int32_t vocab : {2, 65536, 65537, 1 << 20}) {
    for (const bool deflate : {false, true}) {
      for (const bool with_loss : {false, true}) {
        const auto documents = some_documents(vocab, 100, with_loss, static_cast<unsigned>(vocab));
        const ShardRecord record = seal(dir.path, documents, vocab, deflate);
        CHECK(record.sha256 == sha256_file(dir / record.file));
        CHECK(record.file == cat("train-0001-", record.sha256.substr(0, 8), ".h5"));
        CHECK(record.source == "one, two, with a comma");
        const TokenFile shard(dir.path, record);
        REQUIRE(shard.documents() == 100);
        std::uint64_t bytes = 0, tokens = 0;
        for (std::int64_t i = 99; i >= 0; --i) {
          const TokenizedDocument& wrote = documents[static_cast<std::size_t>(i)];
          const Document document = shard.document(i);
          CHECK((document.id_hash == wrote.id_hash && document.bytes == wrote.bytes && shard.content_hash(i) == wrote.content));
          REQUIRE(document.tokens == static_cast<std::int64_t>(wrote.ids.size()));
          bytes += wrote.bytes;
          tokens += wrote.ids.size();
          std::vector<std::uint8_t> expected(wrote.ids.size(), wrote.loss.empty());
          for (const auto& [begin, end] : wrote.loss) std::fill(expected.begin() + begin, expected.begin() + end, 1);
          const std::size_t from = wrote.ids.size() / 3;
          for (const auto& [begin, end] :
               {std::pair<std::size_t, std::size_t>{0, wrote.ids.size()}, {from, wrote.ids.size() / 2 + 1}}) {
            if (end > wrote.ids.size()) continue;
            std::vector<std::int32_t> ids(end - begin);
            std::vector<std::uint8_t> loss(ids.size(), 9);
            shard.read(i, static_cast<std::int64_t>(begin), ids, loss);
            CHECK(std::equal(ids.begin(), ids.end(), wrote.ids.begin() + static_cast<std::ptrdiff_t>(begin)));
            CHECK(std::equal(loss.begin(), loss.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin)));
          }
        }
        CHECK((record.bytes == bytes && record.tokens == tokens && shard.tokens() == static_cast<std::int64_t>(tokens)));
      }
    }
  }
}

TEST_CASE("deflated tokens span many chunks", "[token_file]") {
  TempDir dir;
  const auto documents = some_documents(50000, 3000, false, 5);  // a million tokens: four chunks
  const ShardRecord record = seal(dir.path, documents, 50000, true);
  const TokenFile shard(dir.path, record);
  CHECK(hdf5::list(dir / record.file).datasets.at("tokens").chunks.size() == (record.tokens + (1 << 18) - 1) / (1 << 18));
  for (std::int64_t i = 2999; i >= 0; i -= 7) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.document(i).tokens));
    shard.read(i, 0, ids, {});
    CHECK(ids == documents[static_cast<std::size_t>(i)].ids);
  }
}

TEST_CASE("equal documents make equal files, an id outside the vocabulary none", "[token_file]") {
  TempDir a, b;
  const auto documents = some_documents(300, 20, true, 1);
  CHECK(seal(a.path, documents, 300, true).sha256 == seal(b.path, documents, 300, true).sha256);
  TokenFileWriter writer(10);
  TokenizedDocument bad;
  bad.ids = {1, 10};
  CHECK(message_of<FormatError>([&] { writer.add(bad); }) == "the tokenizer gave id 10, outside its 10 ids");
}

TEST_CASE("hash128 is the start of sha256", "[token_file]") {
  // printf abc | sha256sum
  CHECK(hash128("abc") == Hash128{0xba7816bf8f01cfea, 0x414140de5dae2223});
}

TEST_CASE("a snapshot pins the shards a run began with", "[token_file]") {
  Corpora corpora;
  corpora.source(corpora.document("a.txt", "first document"));
  corpora.prepare();
  const std::string snapshot = Corpus::open(corpora.config.dir, "train", "")->snapshot();
  corpora.source(corpora.document("b.txt", "second document"));
  corpora.prepare();
  CHECK(Corpus::open(corpora.config.dir, "train", "")->documents() == 2);
  const auto pinned = Corpus::open(corpora.config.dir, "train", "", snapshot);
  CHECK((pinned->documents() == 1 && pinned->snapshot() == snapshot));
  const std::string other(64, 'a');
  CHECK(message_of<DataError>([&] { Corpus::open(corpora.config.dir, "train", "", other); }) ==
        corpora.config.dir + ": its 'train' shards are not those of snapshot aaaaaaaaaaaaaaaa... that the run was started with");
}
