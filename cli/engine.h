// The half of the program that needs LibTorch. Loading LibTorch takes half a second, so it is a shared library of its own,
// libgraft_engine, opened by the first command that wants it; a misspelt key or --help is answered without.
//
// Each entry point is one file in cli/engine/. It returns an exit code, prints its result to stdout (one JSON object with
// context.json) and throws the errors of core/error.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/config.h"

namespace graft::cli {

struct Context {
  train::RunConfig config;
  bool json = false;  // results as one JSON object instead of text
};

enum class Restart { automatic, fresh, resume };  // continue if there is something; begin anew; insist on something to continue

struct RunOptions {
  Restart restart = Restart::automatic;
  std::string runs;  // directory of run directories, one of which takes the place of run_dir; empty: run_dir as it is
};
struct EvalOptions {
  std::string model;    // score this model instead of the config's base; a directory or GGUF file
  std::string adapter;  // PEFT directory; empty: the run's own, if it has one
  bool base_only = false;
};
struct GenerateOptions {
  std::string prompt, system, model, adapter;
  bool chat = false, base_only = false;
  std::int64_t max_tokens = 128, top_k = 0, seed = 0;
  double temperature = 0, top_p = 1;
};
struct ExportOptions {
  std::string adapter;               // PEFT directory; empty: the run's own
  std::vector<std::string> formats;  // empty: the config's
};
struct VerifyOptions {
  std::string directory;
  std::string key, run;         // public key; run directory; empty: not asked for
  std::string answers, format;  // a server's answers, and what it serves; empty: the files are verified
  double tolerance = 0.02;      // nats
};
struct SignOptions {
  std::string directory, key;
};
struct DoctorOptions {
  bool has_config = false;
  std::vector<std::string> servers;  // besides export.serve
  std::int64_t tensor_parallel = 0;  // 0: export.tensor_parallel
};
struct InspectOptions {
  std::string path;                                             // empty: the config itself
  std::int64_t batches = 0, length = 1024, rows = 1, seed = 0;  // batches > 0: print packed rows of a corpus
  std::string long_documents = "split";
  std::string document, run;  // id of a document to look for in a corpus; the run whose pins it is held against, or empty
};
struct BenchOptions {
  std::string what;  // "step" or "ops"
  std::int64_t repeat = 5, document = 256;
  bool made_up = false, profile = false;
};

extern "C" {
int graft_run(const Context&, const RunOptions&);
int graft_prepare(const Context&);
int graft_train(const Context&, const Restart&);
int graft_eval(const Context&, const EvalOptions&);
int graft_generate(const Context&, const GenerateOptions&);
int graft_export(const Context&, const ExportOptions&);
int graft_probe(const Context&);
int graft_sign(const Context&, const SignOptions&);
int graft_verify(const Context&, const VerifyOptions&);
int graft_inspect(const Context&, const InspectOptions&);
int graft_estimate(const Context&);
int graft_bench(const Context&, const BenchOptions&);
int graft_doctor(const Context&, const DoctorOptions&);
int graft_formats(const Context&);  // `graft help formats`
}

void* engine_symbol(const char* name);  // opens the engine; MachineError when it cannot be loaded

// call_engine<decltype(graft_train)>("graft_train", context, restart). The arguments are made first: a config that cannot be read
// is reported before the engine is opened.
template <class Function, class... Arguments>
int call_engine(const char* name, const Arguments&... arguments) {
  return reinterpret_cast<Function*>(engine_symbol(name))(arguments...);
}

}  // namespace graft::cli
