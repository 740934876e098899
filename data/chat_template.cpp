#include "data/chat_template.h"

#include <array>

#include "core/error.h"
#include "core/file.h"

namespace graft::data {
namespace {

std::int32_t marker(const Tokenizer& tokenizer, std::string_view literal, std::string_view layout) {
  const auto id = tokenizer.find_token(literal);
  if (!id || !tokenizer.is_control(*id))
    throw UnsupportedError(cat("the ", layout, " chat layout needs the control token ", literal, ", which the tokenizer ",
                               tokenizer.origin().string(), " does not have; choose another corpus.chat_template"));
  return *id;
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

void check_role(const Message& message, std::size_t index) {
  if (message.role != "system" && message.role != "user" && message.role != "assistant")
    throw DataError(cat("message ", index + 1, " has a role other than system, user and assistant"));
  if (message.role == "system" && index != 0)
    throw DataError(cat("message ", index + 1, " is a system message; only the first may be"));
}

// Strictly user, assistant, user, ...; in layouts without a system turn the system text goes in front of the first question or of
// the last one.
enum class SystemText { own_turn, first_question, last_question };
std::vector<Message> alternating(const std::vector<Message>& messages, SystemText place, std::string_view layout) {
  std::vector<Message> turns;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    check_role(messages[i], i);
    if (messages[i].role == "system") continue;
    const char* expected = turns.size() % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != expected)
      throw DataError(
          cat("message ", i + 1, " is of the ", messages[i].role, ", but the ", layout, " layout expects the ", expected));
    turns.push_back(messages[i]);
  }
  if (place != SystemText::own_turn && !turns.empty() && messages.front().role == "system") {
    Message& question = turns[place == SystemText::first_question ? 0 : (turns.size() - 1) / 2 * 2];
    question.content = messages.front().content + "\n\n" + question.content;
  }
  return turns;
}

// For jinja(): what render() begins with.
std::string begin_of(const Tokenizer& tokenizer) { return tokenizer.special().bos >= 0 ? "{{ bos_token }}" : ""; }

// Collects ids and the spans that carry loss.
class Writer {
 public:
  explicit Writer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void token(std::int32_t id) { out_.ids.push_back(id); }
  void text(std::string_view text) { tokenizer_.encode_after(text, out_.ids); }  // it always stands behind a marker
  // The assistant's words and the token that ends them.
  void answer(std::string_view words, std::int32_t stop) {
    const auto begin = static_cast<std::uint32_t>(out_.ids.size());
    text(words);
    token(stop);
    out_.loss.emplace_back(begin, static_cast<std::uint32_t>(out_.ids.size()));
  }
  RenderedChat take() { return std::move(out_); }

 private:
  const Tokenizer& tokenizer_;
  RenderedChat out_;
};

// <|im_start|>role\ncontent<|im_end|>\n ...   SmolLM2, Qwen
class ChatMl : public ChatTemplate {
 public:
  explicit ChatMl(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        start_(marker(tokenizer, "<|im_start|>", name())),
        end_(marker(tokenizer, "<|im_end|>", name())),
        default_system_(system_in(tokenizer.chat_template())) {}
  std::string_view name() const override { return "chatml"; }
  std::vector<std::int32_t> stop_ids() const override { return {end_}; }
  std::string default_system() const override { return default_system_; }

  std::string jinja() const override {
    return "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
           "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  }

  RenderedChat render(const std::vector<Message>& messages, bool add_prompt) const override {
    Writer out(tokenizer_);
    const auto turn = [&](const std::string& role, const std::string& content) {
      out.token(start_);
      if (role == "assistant") {
        out.text("assistant\n");
        out.answer(content, end_);
      } else {
        out.text(role + "\n" + content);
        out.token(end_);
      }
      out.text("\n");
    };
    if (!default_system_.empty() && (messages.empty() || messages.front().role != "system")) turn("system", default_system_);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      check_role(messages[i], i);
      turn(messages[i].role, messages[i].content);
    }
    if (add_prompt) {
      out.token(start_);
      out.text("assistant\n");
    }
    return out.take();
  }

 private:
  // The system text that the shipped template puts in when a conversation has none: the literal between the markers.
  static std::string system_in(const std::string& source) {
    for (const std::string_view open : {"<|im_start|>system\n", "<|im_start|>system\\n"}) {
      for (auto at = source.find(open); at != std::string::npos; at = source.find(open, at + 1)) {
        const auto begin = at + open.size(), end = source.find("<|im_end|>", begin);
        if (end == std::string::npos) break;
        const std::string text = source.substr(begin, end - begin);
        if (!text.empty() && text.find_first_of("'\"{}\\") == std::string::npos) return text;
      }
    }
    return "";
  }

  const Tokenizer& tokenizer_;
  std::int32_t start_, end_;
  std::string default_system_;
};

// <|begin_of_text|><|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|> ...   Llama 3; from 3.1 on there always is a
// system turn, which begins with two lines of dates
class Llama3 : public ChatTemplate {
 public:
  explicit Llama3(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        start_(marker(tokenizer, "<|start_header_id|>", name())),
        end_(marker(tokenizer, "<|end_header_id|>", name())),
        eot_(marker(tokenizer, "<|eot_id|>", name())),
        dates_(tokenizer.chat_template().find("Cutting Knowledge Date: December 2023") == std::string::npos ? "" : kDates) {}
  std::string_view name() const override { return "llama3"; }
  std::vector<std::int32_t> stop_ids() const override { return {eot_}; }
  std::string default_system() const override { return dates_; }
  std::string jinja() const override {
    return begin_of(tokenizer_) +
           "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
           "(message['content'] | trim) + '<|eot_id|>' }}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
  }

  RenderedChat render(const std::vector<Message>& messages, bool add_prompt) const override {
    Writer out(tokenizer_);
    if (tokenizer_.special().bos >= 0) out.token(tokenizer_.special().bos);
    const auto header = [&](const std::string& role) {
      out.token(start_);
      out.text(role);
      out.token(end_);
    };
    const auto turn = [&](const std::string& role, const std::string& content) {
      header(role);
      out.text("\n\n" + content);
      out.token(eot_);
    };
    if (!dates_.empty() && (messages.empty() || messages.front().role != "system")) turn("system", dates_);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      check_role(messages[i], i);
      const std::string& role = messages[i].role;
      if (role == "assistant") {
        header(role);
        out.text("\n\n");
        out.answer(trimmed(messages[i].content), eot_);
      } else {
        turn(role, (role == "system" ? dates_ : "") + trimmed(messages[i].content));
      }
    }
    if (add_prompt) {
      header("assistant");
      out.text("\n\n");
    }
    return out.take();
  }

 private:
  // The date is the one in the template of 3.1; those after it ask the clock, which must not decide what a corpus holds.
  static constexpr const char* kDates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

  const Tokenizer& tokenizer_;
  std::int32_t start_, end_, eot_;
  std::string dates_;  // or empty
};

// <s>[INST] question[/INST] answer</s> ...   Mistral v3 (SentencePiece); without the spaces in Tekken.
// <s>[SYSTEM_PROMPT] system[/SYSTEM_PROMPT][INST] ...   from v7 on
class Mistral : public ChatTemplate {
 public:
  explicit Mistral(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        open_(marker(tokenizer, "[INST]", name())),
        close_(marker(tokenizer, "[/INST]", name())),
        system_(has_system_turn(tokenizer)),
        space_(tokenizer.kind() == "bpe" ? "" : " ") {}
  std::string_view name() const override { return "mistral"; }
  std::vector<std::int32_t> stop_ids() const override { return {tokenizer_.special().eos}; }

  std::string jinja() const override {
    const std::string question = cat("{{ '[INST]", space_, "' + ");
    const std::string system = system_ ? cat("{{ '[SYSTEM_PROMPT]", space_, "' + message['content'] + '[/SYSTEM_PROMPT]' }}")
                                       : "{% set ns.system = message['content'] + '\\n\\n' %}";
    return cat(begin_of(tokenizer_), system_ ? "" : "{% set ns = namespace(system='') %}",
               "{% for message in messages %}{% if message['role'] == 'system' %}", system,
               "{% elif message['role'] == 'user' %}", question,
               system_ ? "" : "(ns.system if loop.length - loop.index < 2 else '') + ", "message['content'] + '[/INST]' }}",
               "{% else %}{{ '", space_, "' + (message['content'] | trim) + eos_token }}{% endif %}{% endfor %}");
  }

  RenderedChat render(const std::vector<Message>& messages, bool) const override {  // [/INST] is the prompt
    Writer out(tokenizer_);
    if (tokenizer_.special().bos >= 0) out.token(tokenizer_.special().bos);
    if (system_ && !messages.empty() && messages.front().role == "system") {
      out.token(marker(tokenizer_, "[SYSTEM_PROMPT]", name()));
      out.text(space_ + messages.front().content);
      out.token(marker(tokenizer_, "[/SYSTEM_PROMPT]", name()));
    }
    for (const auto& turn : alternating(messages, system_ ? SystemText::own_turn : SystemText::last_question, name())) {
      if (turn.role == "user") {
        out.token(open_);
        out.text(space_ + turn.content);
        out.token(close_);
      } else {
        out.answer(space_ + trimmed(turn.content), tokenizer_.special().eos);
      }
    }
    return out.take();
  }

 private:
  // The token alone does not say it: tokenizers of before v7 may have it unused.
  static bool has_system_turn(const Tokenizer& tokenizer) {
    const std::string& shipped = tokenizer.chat_template();
    const auto id = tokenizer.find_token("[SYSTEM_PROMPT]");
    return id && tokenizer.is_control(*id) && (shipped.empty() || shipped.find("[SYSTEM_PROMPT]") != std::string::npos);
  }

  const Tokenizer& tokenizer_;
  std::int32_t open_, close_;
  bool system_;
  std::string space_;
};

// <bos><start_of_turn>user\nquestion<end_of_turn>\n<start_of_turn>model\nanswer<end_of_turn>\n ...   Gemma
class Gemma : public ChatTemplate {
 public:
  explicit Gemma(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        start_(marker(tokenizer, "<start_of_turn>", name())),
        end_(marker(tokenizer, "<end_of_turn>", name())) {}
  std::string_view name() const override { return "gemma"; }
  std::vector<std::int32_t> stop_ids() const override { return {end_}; }
  std::string jinja() const override {
    return begin_of(tokenizer_) +
           "{% set ns = namespace(system='') %}{% for message in messages %}{% if message['role'] == 'system' %}"
           "{% set ns.system = message['content'] + '\\n\\n' %}{% else %}"
           "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + "
           "((ns.system + message['content']) | trim) + '<end_of_turn>\\n' }}{% set ns.system = '' %}{% endif %}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";
  }

  RenderedChat render(const std::vector<Message>& messages, bool add_prompt) const override {
    Writer out(tokenizer_);
    if (tokenizer_.special().bos >= 0) out.token(tokenizer_.special().bos);
    for (const auto& turn : alternating(messages, SystemText::first_question, name())) {
      out.token(start_);
      if (turn.role == "user") {
        out.text("user\n" + trimmed(turn.content));
        out.token(end_);
      } else {
        out.text("model\n");
        out.answer(trimmed(turn.content), end_);
      }
      out.text("\n");
    }
    if (add_prompt) {
      out.token(start_);
      out.text("model\n");
    }
    return out.take();
  }

 private:
  const Tokenizer& tokenizer_;
  std::int32_t start_, end_;
};

struct Layout {
  std::string_view name, sign;  // sign: the control token that tells the layout
  std::unique_ptr<ChatTemplate> (*make)(const Tokenizer&);
};
template <class T>
std::unique_ptr<ChatTemplate> make(const Tokenizer& tokenizer) {
  return std::make_unique<T>(tokenizer);
}
constexpr std::array kLayouts = {Layout{"chatml", "<|im_start|>", make<ChatMl>},
                                 Layout{"llama3", "<|start_header_id|>", make<Llama3>},
                                 Layout{"gemma", "<start_of_turn>", make<Gemma>}, Layout{"mistral", "[INST]", make<Mistral>}};

}  // namespace

bool has_thinking(const Tokenizer& tokenizer) {
  const std::string& shipped = tokenizer.chat_template();
  return shipped.find("enable_thinking") != std::string::npos || shipped.find("<think>") != std::string::npos;
}

std::string layout_hash(const ChatTemplate& layout) {
  return sha256_hex(cat(layout.name(), "\n", layout.jinja(), "\n", layout.default_system()));
}

std::unique_ptr<ChatTemplate> make_chat_template(const Tokenizer& tokenizer, const std::string& name) {
  for (const auto& layout : kLayouts) {
    const auto id = tokenizer.find_token(layout.sign);
    if (name == "auto" ? id && tokenizer.is_control(*id) : name == layout.name) return layout.make(tokenizer);
  }
  throw UnsupportedError(cat("no chat layout fits the tokenizer ", tokenizer.origin().string(),
                             ": it has none of the control tokens <|im_start|>, <|start_header_id|>, <start_of_turn>, [INST]"));
}

}  // namespace graft::data
