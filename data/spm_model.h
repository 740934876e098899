// A SentencePiece BPE model as plain data: read from the protobuf of tokenizer.model or from GGUF metadata, checked, and written
// as the protobuf that the SentencePiece library loads. The library never sees a byte of a file that was not checked here.
//
//   ModelProto      { repeated SentencePiece pieces = 1; TrainerSpec trainer_spec = 2; NormalizerSpec normalizer_spec = 3; }
//   SentencePiece   { string piece = 1; float score = 2; Type type = 3 [NORMAL]; }
//   TrainerSpec     { model_type = 3; treat_whitespace_as_suffix = 24; byte_fallback = 35; unk_id = 40; bos_id = 41; eos_id = 42;
//                     pad_id = 43; unk_surface = 44; }
//   NormalizerSpec  { precompiled_charsmap = 2; add_dummy_prefix = 3; remove_extra_whitespaces = 4; escape_whitespaces = 5; }
//   Numbers and defaults: sentencepiece_model.proto of SentencePiece.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/gguf_vocabulary.h"
#include "data/hf_settings.h"

namespace graft::data {

using PieceType = GgufTokenType;  // GGUF took its numbers from SentencePiece

struct SpmPiece {
  std::string text;  // a space is U+2581
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SpmModel {
  std::string origin;  // file, for messages
  std::vector<SpmPiece> pieces;
  bool treat_whitespace_as_suffix = false, byte_fallback = false;
  std::int32_t unk = 0, bos = 1, eos = 2, pad = -1;
  std::string unk_surface = " \xE2\x81\x87 ";
  std::string charsmap;  // compiled normalization rules; empty: text stays as it is
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// FormatError for malformed bytes, UnsupportedError for a model that is not BPE.
SpmModel parse_spm_model(std::string_view bytes, const std::string& origin);
SpmModel spm_model_from_gguf(const GgufFile& file);
// FormatError or UnsupportedError for what would make the library read outside its tables, or content come out as a control id.
void check(const SpmModel& model);
std::string serialize(const SpmModel& model);

}  // namespace graft::data
