// Chat layouts against the published Jinja templates, rendered and tokenized by the reference libraries
// (tests/golden/chat/make.py).
#include "data/chat_template.h"

#include "core/json.h"
#include "tests/data/support.h"

using namespace graft;
using namespace graft::data;

namespace {

std::vector<Message> messages_of(const Json& json) {
  std::vector<Message> out;
  for (const Json& message : json) out.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  return out;
}

// A tokenizer of tests/golden with a published template beside it, as a model directory has it.
struct Model {
  TempDir dir;
  std::unique_ptr<Tokenizer> tokenizer;
  Model(const std::string& published, const std::string& name) {
    fs::copy(golden("tokenizers/" + name), dir.path, fs::copy_options::recursive);
    if (!published.empty() && !published.starts_with("written/"))
      fs::copy_file(golden("chat/" + published + ".jinja"), dir / "chat_template.jinja");
    tokenizer = load_tokenizer(dir.path);
  }
};

std::string refusal(const char* name, const std::vector<Message>& messages) {
  const Model model("", name);
  const auto chat = make_chat_template(*model.tokenizer);
  return message_of<DataError>([&] { chat->render(messages, false); });
}

}  // namespace

TEST_CASE("conversations are laid out as templates do, published or written here, loss on answers and their end alone",
          "[chat]") {
  std::map<std::string, std::unique_ptr<Model>> models;
  const Json cases = read_json(golden("chat/golden.json"));
  CHECK(cases.size() == 99);
  for (const Json& c : cases) {
    const auto layout = c["layout"].get<std::string>(), published = c["template"].get<std::string>();
    auto& model = models[published];
    if (!model) model = std::make_unique<Model>(published, c["tokenizer"].get<std::string>());
    const auto chat = make_chat_template(*model->tokenizer);
    CHECK(chat->name() == layout);
    if (published.starts_with("written/")) CHECK(chat->jinja() == read_file(golden("chat/" + published + ".jinja")));
    INFO(published << ": " << c["text"].dump());
    const RenderedChat rendered = chat->render(messages_of(c["messages"]), false);
    CHECK(rendered.ids == c["ids"].get<std::vector<std::int32_t>>());
    CHECK(rendered.loss == c["loss"].get<std::vector<std::pair<std::uint32_t, std::uint32_t>>>());
    for (const auto& [begin, end] : rendered.loss) {
      CHECK(chat->stop_ids() == std::vector{rendered.ids[end - 1]});
      for (std::uint32_t i = begin; i + 1 < end; ++i) CHECK_FALSE(model->tokenizer->is_control(rendered.ids[i]));
    }
    if (!c["prompt_ids"].is_null())
      CHECK(chat->render(messages_of(c["messages"]), true).ids == c["prompt_ids"].get<std::vector<std::int32_t>>());
  }
}

TEST_CASE("the system text comes from the shipped template, or there is none", "[chat]") {
  const std::vector<Message> question = {{"user", "hi"}};
  const Model with("chatml", "smollm"), without("", "smollm");
  const auto text = [&](const Model& model) {
    return model.tokenizer->decode(make_chat_template(*model.tokenizer)->render(question, true).ids, true);
  };
  CHECK(text(with) ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(text(without) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  const Model llama3("", "llama3");
  CHECK(text(llama3) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
        "\n\n");
  const Model tekken("", "tekken");  // no spaces beside the markers
  CHECK(text(tekken) == "<s>[INST]hi[/INST]");
}

TEST_CASE("a Mistral tokenizer has a system turn when its template has, or when it ships none", "[chat]") {
  const std::vector<Message> messages = {{"system", "short"}, {"user", "hi"}};
  const auto text = [&](const std::string& published) {
    const Model model(published, "tekken");
    return model.tokenizer->decode(make_chat_template(*model.tokenizer)->render(messages, true).ids, true);
  };
  CHECK(text("mistral-v7") == "<s>[SYSTEM_PROMPT]short[/SYSTEM_PROMPT][INST]hi[/INST]");
  CHECK(text("") == text("mistral-v7"));
  CHECK(text("mistral") == "<s>[INST]short\n\nhi[/INST]");  // v3, whose tokenizer has the token unused
  CHECK(refusal("tekken", {{"system", "s"}, {"assistant", "a"}}) ==
        "message 2 is of the assistant, but the mistral layout expects the user");
}

TEST_CASE("a shipped template with thinking blocks is known", "[chat]") {
  const auto thinks = [](const std::string& shipped) {
    Model model("", "qwen2");
    put(model.dir / "chat_template.jinja", shipped);
    return has_thinking(*load_tokenizer(model.dir.path));
  };
  CHECK_FALSE(thinks(get(golden("chat/chatml-qwen.jinja"))));
  // Lines of Qwen3's and SmolLM3's.
  CHECK(thinks("{%- if enable_thinking is defined and enable_thinking is false %}"));
  CHECK(thinks("{{ \"<|im_start|>assistant\\n<think>\\n\\n</think>\\n\" }}"));
}

TEST_CASE("markers inside of messages stay text", "[chat]") {
  for (const char* name : {"smollm", "qwen2", "llama3", "tekken", "mistral", "gemma"}) {
    const Model model("", name);
    const auto chat = make_chat_template(*model.tokenizer);
    std::string content = "x";
    for (const std::string& literal : model.tokenizer->control_literals()) content += literal + " ";
    const auto control = [&](const std::string& user, const std::string& assistant) {
      const RenderedChat rendered = chat->render({{"user", user}, {"assistant", assistant}}, false);
      return std::count_if(rendered.ids.begin(), rendered.ids.end(),
                           [&](std::int32_t id) { return model.tokenizer->is_control(id); });
    };
    CHECK(control(content, content) == control("x", "x"));
  }
}

TEST_CASE("roles that a layout cannot express are named", "[chat]") {
  const Message user{"user", "u"}, assistant{"assistant", "a"}, system{"system", "s"};
  CHECK(refusal("smollm", {user, {"tool", "t"}}) == "message 2 has a role other than system, user and assistant");
  for (const char* name : {"smollm", "llama3", "mistral", "gemma"})
    CHECK(refusal(name, {user, system}) == "message 2 is a system message; only the first may be");
  CHECK(refusal("mistral", {user, user}) == "message 2 is of the user, but the mistral layout expects the assistant");
  CHECK(refusal("gemma", {assistant}) == "message 1 is of the assistant, but the gemma layout expects the user");
  CHECK(refusal("gemma", {system, assistant}) == "message 2 is of the assistant, but the gemma layout expects the user");
  CHECK(refusal("smollm", {user, user, assistant, assistant}) == "");
}

TEST_CASE("a tokenizer without chat markers has no layout", "[chat]") {
  const Model gpt2("", "gpt2");
  CHECK(message_of<UnsupportedError>([&] { make_chat_template(*gpt2.tokenizer); }) ==
        cat("no chat layout fits the tokenizer ", (gpt2.dir / "tokenizer.json").string(),
            ": it has none of the control tokens <|im_start|>, <|start_header_id|>, <start_of_turn>, [INST]"));
}
