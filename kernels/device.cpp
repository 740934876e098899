#include "kernels/device.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "kernels/launchers.h"

namespace graft::kernels {
namespace {

namespace fs = std::filesystem;

constexpr const char *kSimtLibrary = "libgraft_simt.so", *kCudaLibrary = "libgraft_cuda.so";

Device current = Device::cpu;
Launchers table{};

// Beside the library or program that holds this function.
fs::path beside(const char* library) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&device_support), &info) == 0) return library;
  return fs::absolute(fs::path(info.dli_fname)).parent_path() / library;
}

template <class Function>
void find(Function*& function, void* library, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) throw MachineError(cat(kSimtLibrary, " is of another version: it lacks ", name));
}

Launchers open_simt() {
  void* library = dlopen(beside(kSimtLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw MachineError(cat("device: simt: ", dlerror()));
  Launchers l{};
  find(l.rms_norm_forward, library, "graft_rms_norm_forward");
  find(l.rms_norm_backward, library, "graft_rms_norm_backward");
  find(l.rope, library, "graft_rope");
  find(l.gated_forward, library, "graft_gated_forward");
  find(l.gated_backward, library, "graft_gated_backward");
  find(l.attention_forward, library, "graft_attention_forward");
  find(l.attention_backward, library, "graft_attention_backward");
  find(l.cross_entropy_rows, library, "graft_cross_entropy_rows");
  find(l.shrink, library, "graft_shrink");
  find(l.outer_sum, library, "graft_outer_sum");
  find(l.dropout, library, "graft_dropout");
  find(l.nf4_dequantize, library, "graft_nf4_dequantize");
  find(l.gradient_norm, library, "graft_gradient_norm");
  find(l.adamw_step, library, "graft_adamw_step");
  find(l.lend, library, "graft_simt_lend");
  find(l.take_back, library, "graft_simt_take_back");
  return l;
}

}  // namespace

const char* device_name(Device device) { return device == Device::cpu ? "cpu" : device == Device::simt ? "simt" : "cuda"; }

DeviceSupport device_support(const std::string& driver) {
  return {driver, fs::exists(beside(kCudaLibrary)), fs::exists(beside(kSimtLibrary))};
}

Device choose_device(const std::string& wanted, const DeviceSupport& support) {
  if (wanted == "simt") {
    if (!support.simt_library)
      throw MachineError(cat("device: simt needs ", kSimtLibrary,
                             " beside the program, and it is not there; build the target graft_simt, or set device: cpu"));
    return Device::simt;
  }
  if (wanted == "cuda") {
    if (support.driver.empty())
      throw MachineError("device: cuda needs an NVIDIA driver, and none is loaded on this machine; set device: cpu");
    if (!support.cuda_library)
      throw MachineError(cat("device: cuda needs ", kCudaLibrary,
                             " beside the program, and it is not there; build with -DGRAFT_CUDA=ON, or set device: cpu"));
    throw UnsupportedError(
        "device: cuda cannot train yet: its kernels are there, the model's memory on the GPU is not; set device: cpu");
  }
  return Device::cpu;  // auto too, for as long as the last of these sentences is true
}

void set_device(Device device) {
  if (device == Device::cuda) throw UnsupportedError("device: cuda cannot train yet; set device: cpu");
  if (device == Device::simt && table.rope == nullptr) table = open_simt();
  current = device;
}

Device device() { return current; }

const Launchers& launchers() { return table; }

Lent::Lent(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& x : tensors)
    if (x.defined()) add(x.storage().data(), x.storage().nbytes(), x.element_size());
}

Lent::~Lent() {
  for (const void* memory : memory_) launchers().take_back(memory);
}

void Lent::add(const void* memory, std::size_t bytes, std::size_t granule) {
  if (bytes == 0 || std::find(memory_.begin(), memory_.end(), memory) != memory_.end()) return;
  launchers().lend(memory, bytes, granule);
  memory_.push_back(memory);
}

void check_launch(const char* entry, int error) {
  if (error != 0) throw MachineError(cat(entry, " could not be launched: CUDA error ", error));
}

}  // namespace graft::kernels
