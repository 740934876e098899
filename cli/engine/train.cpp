#include <iostream>

#include "cli/engine/output.h"
#include "cli/engine/stages.h"
#include "core/error.h"

int graft::cli::graft_train(const Context& context, const Restart& restart) {
  const Session session(context.config);
  check_plan(session, context.config.export_.formats);
  if (const std::string& format = context.config.train.merge_aware.format; !format.empty()) check_calibration(session, {format});
  const train::TrainReport report = train_adapter(session, restart);
  if (context.json)
    print_json(report.json());
  else
    std::cout << text_of(report);
  return kDone;
}
