// Best-fit-decreasing packing of pieces into rows.
//
// Pieces are taken longest first; each goes into the fullest row that still has room (Johnson 1974: at most 11/9 of the
// optimal number of rows). Counting sort and a bit tree over the free capacities make it O(pieces * log64(length)).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/corpus.h"

namespace graft::data {

struct Piece {
  std::int64_t document = 0;
  std::int64_t begin = 0;  // first token within the document
  std::int32_t length = 0;
};

struct PackedRows {
  std::vector<Piece> pieces;         // row by row
  std::vector<std::int64_t> starts;  // (rows + 1) row r holds pieces [starts[r], starts[r + 1])
  std::int64_t tokens = 0;
  std::map<std::string, std::int64_t> dropped;  // tokens by reason
};

// `length` >= every piece's length. Equal input gives equal rows.
PackedRows best_fit(const std::vector<Piece>& pieces, std::int64_t length);

struct CutDocuments {
  std::vector<Piece> pieces;
  std::map<std::string, std::int64_t> dropped;  // tokens by reason
  std::int64_t conversations = 0;               // of more than `length` tokens, split
  std::int64_t cut_turns = 0;                   // of these, with a turn that was itself too long, and cut
};

// Pieces of at most `length` tokens of all documents. A document that loss does not fall on everywhere is a conversation: it is
// split where an answer ends, so that no answer loses its question, as long as question and answer fit into a row. A piece of one
// token at a document's end is left out ("last token of a split document": it is only ever a target), as are documents of one
// token ("single token") and what the policy drops.
CutDocuments cut_documents(const Corpus& corpus, std::int64_t length, LongDocuments policy);

}  // namespace graft::data
