#include "cli/engine/prompt.h"

#include "core/error.h"

namespace graft::cli {

std::unique_ptr<data::ChatTemplate> chat_layout(const data::Tokenizer& tokenizer, const train::RunConfig& config) {
  try {
    return data::make_chat_template(tokenizer, config.corpus.chat_template);
  } catch (const UnsupportedError&) {
    return nullptr;  // a base model without conversations: prompts are continued
  }
}

Prompt make_prompt(const data::Tokenizer& tokenizer, const std::string& text, const std::string& system,
                   const std::unique_ptr<data::ChatTemplate>& layout) {
  Prompt prompt;
  if (layout) {
    std::vector<data::Message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", text});
    prompt.ids = layout->render(messages, /*add_prompt=*/true).ids;
    prompt.stop_ids = layout->stop_ids();
  } else {
    if (tokenizer.special().add_bos && tokenizer.special().bos >= 0) prompt.ids.push_back(tokenizer.special().bos);
    tokenizer.encode(text, prompt.ids);
  }
  for (const std::int32_t id : {tokenizer.special().eos, tokenizer.special().eot})
    if (id >= 0) prompt.stop_ids.push_back(id);
  if (prompt.ids.empty()) throw DataError("the prompt is empty; give some text to continue");
  return prompt;
}

}  // namespace graft::cli
