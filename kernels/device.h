// Where the ops of this folder compute: one setting of the process, made once before any of them is called
// (cli/engine/session.h).
//
//   cpu    this processor
//   simt   the CUDA kernels' own source, compiled by g++ and run on this processor (kernels/simt): every access checked,
//   thousands
//          of times slower; for tests
//   cuda   not for training yet: choose_device refuses it (docs/decisions/0008-device.md)
//
// The kernels of simt and cuda are in shared libraries beside the program, opened when the setting is made (kernels/launchers.h).
// What they do not cover runs as on cpu: frozen products, attention and the low-rank products in f32, head sizes and ranks that
// attention_cuda.h and low_rank_cuda.h do not list, decoding.
#pragma once

#include <string>

namespace graft::kernels {

enum class Device { cpu, simt, cuda };
const char* device_name(Device device);  // as in the config

struct DeviceSupport {
  std::string driver;  // version of the NVIDIA driver; empty: none
  bool cuda_library = false, simt_library = false;
};
DeviceSupport device_support(const std::string& driver);  // with the libraries that lie beside the program

// `wanted` is auto, cpu, cuda or simt. MachineError: a driver or library that it takes is not there. UnsupportedError: training
// on CUDA.
Device choose_device(const std::string& wanted, const DeviceSupport& support);

// MachineError: the library cannot be opened or is of another version.
void set_device(Device device);
Device device();

}  // namespace graft::kernels
