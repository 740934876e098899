// In what a run's frozen weights are held and its products computed.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>

#include "train/config.h"
#include "train/run_dir.h"

namespace graft::train {

struct Dtypes {
  at::ScalarType storage, compute;  // bf16 or f32
};

// train.dtype. Its "auto" computes in what the run with the pins `began` settled on, so that a resume does not depend on a
// timing; before there is one, in what this machine does fastest. FormatError when the pins do not say.
Dtypes dtypes_of(const TrainConfig& config, const std::optional<Pins>& began);

}  // namespace graft::train
