// Names by which model families end a turn of a conversation, where a tokenizer's files do not say which token does.
#pragma once

namespace graft::data {

inline constexpr const char* kEndOfTurn[] = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>"};

}  // namespace graft::data
