// Small kernels that simt_test.cpp runs by name, most of them wrong in one way.
#pragma once

#include <string>

namespace graft::cuda {

void run_named(const std::string& name, unsigned blocks, unsigned threads, const float* in, float* out);

}  // namespace graft::cuda
