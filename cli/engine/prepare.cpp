#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"

int graft::cli::graft_prepare(const Context& context) {
  const Session session(context.config);
  const data::PrepareReport report = prepare_corpus(session);
  check_heldout(session, {});
  if (context.json)
    print_json(report.json());
  else
    std::cout << text_of(report, context.config.corpus.dir);
  return kDone;
}
