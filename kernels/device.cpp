#include "kernels/device.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "kernels/device_memory.h"
#include "kernels/launchers.h"

namespace graft::kernels {
namespace {

namespace fs = std::filesystem;

constexpr const char *kSimtLibrary = "libgraft_simt.so", *kCudaLibrary = "libgraft_cuda.so";
constexpr int kLeastMajor = 8;                    // cp.async and bf16 on tensor cores
constexpr std::uint64_t kDriversOwn = 256 << 20;  // kernels and cuBLASLt come into the GPU's memory when they are first used

Device current = Device::cpu, opened = Device::cpu;
Launchers table{};
bool busy = false;

// Beside the library or program that holds this function.
fs::path beside(const char* library) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&device_support), &info) == 0) return library;
  return fs::absolute(fs::path(info.dli_fname)).parent_path() / library;
}

template <class Function>
void find(Function*& function, void* library, const char* file, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) throw MachineError(cat(file, " is of another version: it lacks ", name));
}

Launchers open_library(const char* file) {
  void* library = dlopen(beside(file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw MachineError(dlerror());
  Launchers l{};
  find(l.open, library, file, "graft_runtime_open");
  find(l.stream, library, file, "graft_runtime_stream");
  find(l.allocate, library, file, "graft_runtime_allocate");
  find(l.release, library, file, "graft_runtime_release");
  find(l.use, library, file, "graft_runtime_use");
  find(l.prefetch, library, file, "graft_runtime_prefetch");
  find(l.error_text, library, file, "graft_runtime_error_text");
  find(l.synchronize, library, file, "graft_runtime_synchronize");
  find(l.gemm, library, file, "graft_gemm");
  find(l.copy_rows, library, file, "graft_copy_rows");
  find(l.rms_norm_forward, library, file, "graft_rms_norm_forward");
  find(l.rms_norm_backward, library, file, "graft_rms_norm_backward");
  find(l.rope, library, file, "graft_rope");
  find(l.gated_forward, library, file, "graft_gated_forward");
  find(l.gated_backward, library, file, "graft_gated_backward");
  find(l.attention_forward, library, file, "graft_attention_forward");
  find(l.attention_backward, library, file, "graft_attention_backward");
  find(l.cross_entropy_rows, library, file, "graft_cross_entropy_rows");
  find(l.shrink, library, file, "graft_shrink");
  find(l.outer_sum, library, file, "graft_outer_sum");
  find(l.dropout, library, file, "graft_dropout");
  find(l.nf4_quantize, library, file, "graft_nf4_quantize");
  find(l.nf4_dequantize, library, file, "graft_nf4_dequantize");
  find(l.gradient_norm, library, file, "graft_gradient_norm");
  find(l.adamw_step, library, file, "graft_adamw_step");
  return l;
}

Gpu ask(const Launchers& library) {
  cuda::RuntimeDevice found{};
  if (const char* why = library.open(&found)) return {.fault = why};
  return {"", found.name, found.major, found.minor, found.total_bytes, found.free_bytes};
}

Gpu ask_cuda() {
  try {
    return ask(open_library(kCudaLibrary));
  } catch (const MachineError& error) {
    return {.fault = error.what()};
  }
}

}  // namespace

const char* device_name(Device device) { return device == Device::cpu ? "cpu" : device == Device::simt ? "simt" : "cuda"; }

DeviceSupport device_support(const std::string& driver, bool ask_gpu) {
  DeviceSupport support{driver, fs::exists(beside(kCudaLibrary)), fs::exists(beside(kSimtLibrary)), {}};
  if (ask_gpu && support.cuda_library) support.gpu = ask_cuda();
  return support;
}

Device choose_device(const std::string& wanted, const DeviceSupport& support) {
  if (wanted == "simt") {
    if (!support.simt_library)
      throw MachineError(cat("device: simt needs ", kSimtLibrary,
                             " beside the program, and it is not there; build the target graft_simt, or set device: cpu"));
    return Device::simt;
  }
  if (wanted == "cuda") {
    if (!support.cuda_library)
      throw MachineError(
          cat("device: cuda needs ", kCudaLibrary, " beside the program, and it is not there",
              support.driver.empty() ? ", nor is an NVIDIA driver loaded" : "",
              "; build it with `cmake --preset release -DGRAFT_CUDA=ON && cmake --build --preset release`, or set device: cpu"));
    const Gpu& gpu = support.gpu;
    if (!gpu.fault.empty()) throw MachineError(cat("device: cuda: ", gpu.fault, "; set device: cpu"));
    if (gpu.major < kLeastMajor)
      throw MachineError(cat("device: cuda needs a GPU of compute capability ", kLeastMajor, ".0, and ", gpu.name, " has ",
                             gpu.major, ".", gpu.minor, "; set device: cpu"));
    return Device::cuda;
  }
  return Device::cpu;  // auto too, until somebody has measured cuda
}

void set_device(Device device) {
  if (device != Device::cpu && opened == Device::cpu) {
    table = open_library(device == Device::simt ? kSimtLibrary : kCudaLibrary);
    if (const Gpu gpu = ask(table); !gpu.fault.empty()) throw MachineError(cat("device: ", device_name(device), ": ", gpu.fault));
    opened = device;
  }
  if (device != Device::cpu && device != opened)
    throw MachineError(cat("this process computes on ", device_name(opened), " and cannot change to ", device_name(device)));
  wait_for_device();
  use_device_memory(device != Device::cpu);
  current = device;
}

Device device() { return current; }

std::uint64_t free_device_memory() {
  if (current != Device::cuda) return 0;
  const std::uint64_t free = ask(table).free, rounding = free / 16;  // blocks are rounded up by an eighth at most
  return std::max<std::uint64_t>(1, free - std::min(free, kDriversOwn + rounding));
}

void wait_for_device() {
  if (!busy) return;
  busy = false;
  if (const char* why = table.synchronize()) throw MachineError(cat("device: ", device_name(current), ": ", why));
}

bool device_busy() { return busy; }

const Launchers& launchers() { return table; }

cuda::Stream stream() { return table.stream(); }

void check_launch(const char* entry, int error) {
  busy = true;
  if (error != 0) throw MachineError(cat(entry, " could not be launched: ", table.error_text(error), " (", error, ")"));
}

}  // namespace graft::kernels
