// Proof that a written model is the one that was meant: it is opened by the reader that training uses, and every tensor is
// compared with its source, element by element, against what rounding to the stored type may change (export/compare.h). Where
// scales come of a search (Q4_K, Q5_K, Q6_K) or of a format's own grid, no bound of a single value is tight: the file must hold
// exactly what its writer noted of the values it stands for (export/fingerprint.h).
#pragma once

#include "export/fingerprint.h"
#include "export/merge.h"
#include "model/weights.h"

namespace graft::exports {

// Compares names, shapes, the numbers of the spec and every value. made: of the tensors that no bound is for. Returns the largest
// |written - source| / max |source| over tensors. FormatError naming the tensor, and the two values that disagree.
double verify_model(const MergedModel& source, const model::WeightSource& written, const Fingerprints& made = {});

}  // namespace graft::exports
