// Conversations to token ids with the spans that carry loss.
//
// Layouts: chatml (SmolLM2, Qwen), llama3, mistral, gemma, picked from the tokenizer's shipped template by its control tokens
// (a Jinja program is never executed). Content goes through Tokenizer::encode, markers are emitted as ids.
// Loss falls on each assistant turn's content and its stop token, nowhere else.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer.h"

namespace graft::data {

struct Message {
  std::string role, content;  // role: system, user, assistant
};
struct RenderedChat {
  std::vector<std::int32_t> ids;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> loss;  // [begin, end) of ids that are trained on, ascending
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  virtual std::string_view name() const = 0;
  // DataError for roles in an order the layout cannot express. add_prompt ends with the assistant's header, for generation.
  virtual RenderedChat render(const std::vector<Message>& messages, bool add_prompt) const = 0;
  virtual std::vector<std::int32_t> stop_ids() const = 0;
  // render() as a Jinja template, for servers of a base that ships none: without default_system(), which only a shipped one has,
  // and without the errors.
  virtual std::string jinja() const = 0;
  virtual std::string default_system() const { return ""; }  // the system text of a conversation that has none; or empty
};

// sha256 of what decides the tokens of a conversation: another base's shipped template may have another system text.
std::string layout_hash(const ChatTemplate& layout);

// Whether the template that the tokenizer ships writes thinking blocks ("<think>"; Qwen3, SmolLM3). No layout here has them.
bool has_thinking(const Tokenizer& tokenizer);

// name: "auto" or one of the layouts. UnsupportedError when auto finds none.
std::unique_ptr<ChatTemplate> make_chat_template(const Tokenizer& tokenizer, const std::string& name = "auto");

}  // namespace graft::data
