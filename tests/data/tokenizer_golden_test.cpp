// The tokenizer families against ids that PyPI tokenizers and sentencepiece gave (tests/golden/tokenizers, made by
// scripts/make_golden_tokenizers.py). 100,000 random strings per family are compared in tests/peers/tokenizers_test.py.
#include <atomic>
#include <set>
#include <thread>

#include "core/json.h"
#include "data/text_stream.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

constexpr const char* kFamilies[] = {"gpt2",   "smollm",  "llama3", "qwen2",   "tekken",
                                     "llama2", "mistral", "gemma",  "folding", "bytes_missing"};

struct Family {
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::pair<std::string, std::vector<std::int32_t>>> golden;
};
Family family(const std::string& name) {
  const fs::path dir = golden("tokenizers/" + name);
  Family out{load_tokenizer(dir), {}};
  for (const Json& pair : read_json(dir / "golden.json"))
    out.golden.emplace_back(pair[0].get<std::string>(), pair[1].get<std::vector<std::int32_t>>());
  return out;
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

}  // namespace

TEST_CASE("ids are those of the reference libraries", "[tokenizer]") {
  for (const char* name : kFamilies) {
    INFO(name);
    const Family f = family(name);
    CHECK(f.golden.size() > 90);
    for (const auto& [text, ids] : f.golden) {
      INFO(quote(text));
      CHECK(encode(*f.tokenizer, text) == ids);
      CHECK(encode(*f.tokenizer, text) == ids);  // from the cache now
      std::vector<std::int32_t> behind{7};       // appended to what is there
      f.tokenizer->encode(text, behind);
      CHECK((behind.front() == 7 && std::equal(ids.begin(), ids.end(), behind.begin() + 1, behind.end())));
    }
  }
}

TEST_CASE("decoding gives the text back", "[tokenizer]") {
  for (const char* name : {"gpt2", "smollm", "llama3", "tekken", "llama2", "mistral", "gemma"}) {
    INFO(name);
    const Family f = family(name);
    for (const auto& [text, ids] : f.golden) {
      INFO(quote(text));
      if (f.tokenizer->kind() == "spm" && text.find("\u2581") != std::string::npos)
        continue;  // SentencePiece's spelling of a space
      CHECK(f.tokenizer->decode(ids) == text);
    }
  }
}

TEST_CASE("ids that come one by one give the text of all, and never half a character", "[tokenizer]") {
  for (const char* name : kFamilies) {
    INFO(name);
    const Family f = family(name);
    for (const auto& [text, ids] : f.golden) {
      INFO(quote(text));
      TextStream stream(*f.tokenizer);
      std::string shown;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const std::string_view more = stream.add(ids[i]);
        CHECK(is_utf8(more));
        shown += more;
        CHECK(stream.text() == f.tokenizer->decode(std::span(ids).first(i + 1)));
      }
      CHECK(shown + std::string(stream.rest()) == stream.text());
      if (is_utf8(stream.text())) CHECK(stream.rest().empty());
    }
  }
}

TEST_CASE("many threads get the same ids", "[tokenizer]") {
  for (const char* name : {"qwen2", "llama2"}) {
    const Family f = family(name);
    std::vector<std::thread> threads;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int round = 0; round < 5; ++round)
          for (const auto& [text, ids] : f.golden) wrong += encode(*f.tokenizer, text) != ids;
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("control tokens are found by name, and what is put around a text is known", "[tokenizer]") {
  const auto smollm = load_tokenizer(golden("tokenizers/smollm"));
  CHECK(smollm->find_token("<|im_end|>") == smollm->special().eos);
  CHECK(smollm->special().eos == smollm->special().eot);
  CHECK((smollm->kind() == "bpe" && !smollm->special().add_bos));
  CHECK_FALSE(smollm->find_token("<|no_such|>"));
  CHECK_FALSE(smollm->find_token(""));
  const auto llama3 = load_tokenizer(golden("tokenizers/llama3"));
  CHECK((llama3->special().add_bos && llama3->find_token("<|begin_of_text|>") == llama3->special().bos));
  CHECK(llama3->special().eot == llama3->find_token("<|eot_id|>"));
  const auto llama2 = load_tokenizer(golden("tokenizers/llama2"));
  CHECK((llama2->kind() == "spm" && llama2->special().add_bos && llama2->find_token("<s>") == llama2->special().bos));
  const auto ids = std::vector<std::int32_t>{llama2->special().bos, *llama2->find_token("\u2581the"), llama2->special().eos};
  CHECK(llama2->decode(ids) == "the");
  CHECK(llama2->decode(ids, true) == "<s>the</s>");
}

TEST_CASE("the hash tells tokenizers apart and does not depend on where they lie", "[tokenizer]") {
  std::set<std::string> hashes;
  for (const char* name : kFamilies) hashes.insert(load_tokenizer(golden(cat("tokenizers/", name)))->hash());
  CHECK(hashes.size() == std::size(kFamilies));
  TempDir dir;
  fs::copy(golden("tokenizers/qwen2"), dir.path, fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  const std::string hash = load_tokenizer(dir.path)->hash();
  CHECK(hashes.contains(hash));
  // A merge less is another tokenizer; another chat template is not.
  put(dir / "chat_template.jinja", "{{ messages }}");
  CHECK(load_tokenizer(dir.path)->hash() == hash);
  Json json = read_json(dir / "tokenizer.json");
  json["model"]["merges"].erase(json["model"]["merges"].size() - 1);
  put(dir / "tokenizer.json", json.dump());
  CHECK(load_tokenizer(dir.path)->hash() != hash);
}

TEST_CASE("tokenizers differ when an id means other text, whatever their hashes say", "[tokenizer]") {
  for (const char* a : kFamilies)
    for (const char* b : kFamilies) {
      INFO(a << " and " << b);
      CHECK(differing_id(*load_tokenizer(golden(cat("tokenizers/", a))), *load_tokenizer(golden(cat("tokenizers/", b))))
                .has_value() == (a != b));
    }
  const auto qwen2 = load_tokenizer(golden("tokenizers/qwen2"));
  const Json json = read_json(golden("tokenizers/qwen2/tokenizer.json"));
  TempDir dir;
  const auto with = [&](auto change) {
    Json changed = json;
    change(changed);
    put(dir / "tokenizer.json", changed.dump());
    auto tokenizer = load_tokenizer(dir / "tokenizer.json");
    CHECK(tokenizer->hash() != qwen2->hash());
    CHECK(differing_id(*tokenizer, *qwen2) == differing_id(*qwen2, *tokenizer));
    return differing_id(*qwen2, *tokenizer);
  };
  const auto swap_ids = [](Json& vocabulary) { std::swap(vocabulary["e"], vocabulary["t"]); };
  const std::int32_t e = json["model"]["vocab"]["e"], t = json["model"]["vocab"]["t"];
  CHECK(with([&](Json& j) { swap_ids(j["model"]["vocab"]); }) == std::min(e, t));
  CHECK(with([](Json& j) { j["added_tokens"][3]["content"] = "<|other|>"; }) ==
        json["added_tokens"][3]["id"].get<std::int32_t>());
  CHECK_FALSE(with([](Json& j) { j["model"]["merges"].erase(j["model"]["merges"].size() - 1); }));
  CHECK_FALSE(with([](Json& j) { j["added_tokens"][3]["special"] = true; }));  // as GGUF files have it of some
  CHECK_FALSE(with([](Json& j) {
    j["added_tokens"].push_back(j["added_tokens"][3]);
    j["added_tokens"].back().update({{"id", 2700}, {"content", "<|more|>"}});
  }));
}

TEST_CASE("what is no tokenizer is named", "[tokenizer]") {
  TempDir dir;
  CHECK(message_of<UserError>([&] { load_tokenizer(dir.path); }) ==
        dir.path.string() + ": neither tokenizer.json nor tokenizer.model is in this directory");
  CHECK(message_of<UserError>([&] { load_tokenizer(dir / "x.json"); }) ==
        (dir / "x.json").string() + ": there is no such file or directory");
  put(dir / "vocab.txt", "a");
  CHECK(message_of<UnsupportedError>([&] { load_tokenizer(dir / "vocab.txt"); }) ==
        (dir / "vocab.txt").string() + ": a tokenizer is read from a .gguf, tokenizer.json or tokenizer.model");
}

TEST_CASE("a directory with both a SentencePiece model and what transformers made of it", "[tokenizer]") {
  testing::TempDir dir;
  const auto both = [&](const char* json, const std::string& model_of) {
    fs::remove(dir / "tokenizer.model");
    put(dir / "tokenizer.json", json);
    if (!model_of.empty()) put(dir / "tokenizer.model", get(golden("tokenizers/" + model_of + "/tokenizer.model")));
    return load_tokenizer(dir.path);
  };
  const char* const converted = R"({"model":{"type":"BPE","byte_fallback":true,"vocab":{},"merges":[]}})";
  CHECK(both(converted, "llama2")->hash() == load_tokenizer(golden("tokenizers/llama2"))->hash());
  CHECK(message_of<UnsupportedError>([&] {
          both(converted, "");
        }).find("put the tokenizer.model of the same repository beside it") != std::string::npos);
  // A byte-level tokenizer.json is the tokenizer, whatever lies beside it (Llama 3's tokenizer.model is tiktoken's).
  const std::string json = get(golden("tokenizers/qwen2/tokenizer.json"));
  CHECK(both(json.c_str(), "llama2")->kind() == "bpe");
}
