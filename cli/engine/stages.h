// The stages of `graft run`, each also a command of its own. A stage looks at what is on disk and does only what is missing.
#pragma once

#include <string>
#include <vector>

#include "cli/engine.h"
#include "cli/engine/scores.h"
#include "cli/engine/session.h"
#include "data/prepare.h"
#include "export/exporter.h"
#include "train/train.h"

namespace graft::cli {

// What can be known to fail before any work is done: unknown or refused export formats, patterns that match no layer,
// rows longer than the base's context, what the servers of export.serve refuse, a place to write in that is a source of
// documents. ConfigError; MachineError when the disk has no room for the exports.
void check_plan(const Session& session, const std::vector<std::string>& formats);

// A corpus without held-out documents can train and not be scored: a warning, before the training; DataError where some were
// asked for (corpus.heldout) and quantized formats could not be judged by them (export.min_survival). Once the corpus is there.
void check_heldout(const Session& session, const std::vector<std::string>& formats);
// What exports will take of the disk: the formats that are not there yet, and for a while the largest of those whose base alone
// is written to be scored. check: MachineError when there is no such room.
struct ExportBytes {
  std::uint64_t anew = 0;       // and the largest that passes
  std::uint64_t replacing = 0;  // the largest file that may take the place of one that is there, and lies beside it for a while
};
ExportBytes export_bytes(const Session& session, const std::vector<std::string>& formats);
void check_export_room(const Session& session, const std::vector<std::string>& formats);

// Too few documents for the formats that look at some; DataError. Once the corpus is there.
void check_calibration(const Session& session, const std::vector<std::string>& formats);

// The last name of run_dir, which exported files call the model by.
std::string model_name(const Session& session);

data::PrepareReport prepare_corpus(const Session& session);
// What the run's own adapter came of (train/run_dir.h); of any other adapter nothing is known.
struct Origin {
  std::string corpus, started_from;
};
Origin origin_of(const Session& session, const lora::AdapterSet& adapter);
std::string snapshot_today(const Session& session);         // of all documents in the corpus that are trained on
train::ServedFormat served_format(const Session& session);  // of train.merge_aware
train::TrainReport train_adapter(const Session& session, Restart restart);
std::vector<exports::Artifact> export_adapter(const Session& session, const lora::AdapterSet& adapter,
                                              const std::vector<std::string>& formats, const exports::Gate& gate);
// export.signing_key, when there is one: that it can sign and that no other signature lies there (DataError), before anything is
// done; whether it has signed what lies there, which must not be signed again otherwise; and the manifest, when all is written.
void check_signing_key(const Session& session);
bool is_vouched_for(const Session& session);
void sign_export(const Session& session);
// Base and adapted model on every held-out set. adapter may be null: the base alone.
std::vector<Score> score_models(const Session& session, ScoreBook& book, LazyDecoder& decoder, lora::AdapterSet* adapter);

// The directory in `runs`, which the caller has locked, that a scheduled run works in, once the corpus is there: of the newest
// run of this config and base that was stopped, or is finished and of all documents that there are now; else a new one, named by
// the time (UTC). A run whose run.json is damaged is passed over with a warning. docs/decisions/0025.
fs::path scheduled_run(const Session& session, const fs::path& runs);

std::string text_of(const data::PrepareReport& report, const std::string& corpus);
std::string text_of(const train::TrainReport& report);
std::string text_of(const std::vector<exports::Artifact>& artifacts);

}  // namespace graft::cli
