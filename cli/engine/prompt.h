// A prompt as token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "train/config.h"

namespace graft::cli {

struct Prompt {
  std::vector<std::int32_t> ids, stop_ids;
};

// The model's conversation layout; null when it has none that graft knows.
std::unique_ptr<data::ChatTemplate> chat_layout(const data::Tokenizer& tokenizer, const train::RunConfig& config);

// With a layout: the conversation up to where the assistant begins. Without: the plain text, to be continued.
Prompt make_prompt(const data::Tokenizer& tokenizer, const std::string& text, const std::string& system,
                   const std::unique_ptr<data::ChatTemplate>& layout);

}  // namespace graft::cli
