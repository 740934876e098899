// The vocabulary inside a SentencePiece model file, read from its protobuf (sentencepiece_model.proto):
//
//   ModelProto { repeated SentencePiece pieces = 1; ... }   SentencePiece { string piece = 1; float score = 2; Type type = 3; }
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace graft::exports {

struct SpmPiece {
  std::string text;
  float score = 0;
  std::int64_t type = 1;  // NORMAL 1, UNKNOWN 2, CONTROL 3, USER_DEFINED 4, UNUSED 5, BYTE 6
};

// FormatError naming the file and the byte when it is malformed.
std::vector<SpmPiece> read_spm_pieces(const std::filesystem::path& tokenizer_model);

}  // namespace graft::exports
