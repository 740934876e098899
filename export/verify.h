// Proof that a written model is the one that was meant: it is opened by the reader that training uses, and every tensor must
// hold exactly what its writer noted, who compared it with its source (export/fingerprint.h). A tensor that nobody noted, or that
// does not read back so, is compared with its source here, element by element, against what rounding to the stored type may
// change (export/compare.h).
#pragma once

#include "export/fingerprint.h"
#include "export/merge.h"
#include "model/weights.h"

namespace graft::exports {

// Compares names, shapes, the numbers of the spec and every value. made: what was noted. Returns the largest
// |written - source| / max |source| over tensors. FormatError naming the tensor, and the two values that disagree.
double verify_model(const MergedModel& source, const model::WeightSource& written, const Fingerprints& made = {});

}  // namespace graft::exports
