#include "kernels/device.h"

#include "core/error.h"
#include "tests/support/catch.h"

namespace graft::kernels {
namespace {

struct Refusal {
  int code;
  std::string sentence;
};

Refusal refusal(const std::string& wanted, const DeviceSupport& support) {
  try {
    choose_device(wanted, support);
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  }
  return {0, ""};
}

const Gpu kGpu{"", "NVIDIA H100", 9, 0, 80ull << 30, 79ull << 30};

}  // namespace

TEST_CASE("auto and cpu are the processor, whatever else is there", "[device]") {
  for (const char* wanted : {"auto", "cpu"}) {
    CHECK(choose_device(wanted, {}) == Device::cpu);
    CHECK(choose_device(wanted, {"580.65.06", true, true, kGpu}) == Device::cpu);
  }
  CHECK(choose_device("simt", {"", false, true, {}}) == Device::simt);
}

TEST_CASE("a device that cannot be had is refused with what is missing", "[device]") {
  const Refusal nothing = refusal("cuda", {"", false, true, {}});
  CHECK(nothing.code == kMachineFault);
  CHECK(nothing.sentence ==
        "device: cuda needs libgraft_cuda.so beside the program, and it is not there, nor is an NVIDIA driver loaded; build it "
        "with "
        "`cmake --preset release -DGRAFT_CUDA=ON && cmake --build --preset release`, or set device: cpu");

  const Refusal no_library = refusal("cuda", {"580.65.06", false, true, {}});
  CHECK(no_library.code == kMachineFault);
  CHECK(no_library.sentence ==
        "device: cuda needs libgraft_cuda.so beside the program, and it is not there; build it with `cmake --preset release "
        "-DGRAFT_CUDA=ON && cmake --build --preset release`, or set device: cpu");

  const Refusal no_gpu = refusal("cuda", {"580.65.06", true, true, {.fault = "no CUDA-capable device is detected"}});
  CHECK(no_gpu.code == kMachineFault);
  CHECK(no_gpu.sentence == "device: cuda: no CUDA-capable device is detected; set device: cpu");

  const Refusal old = refusal("cuda", {"580.65.06", true, true, {.name = "Tesla T4", .major = 7, .minor = 5}});
  CHECK(old.code == kMachineFault);
  CHECK(old.sentence == "device: cuda needs a GPU of compute capability 8.0, and Tesla T4 has 7.5; set device: cpu");
  CHECK(refusal("cuda", {"580.65.06", true, true, kGpu}).code == 0);
  CHECK(choose_device("cuda", {"580.65.06", true, true, kGpu}) == Device::cuda);

  const Refusal no_simulator = refusal("simt", {"580.65.06", true, false, {}});
  CHECK(no_simulator.code == kMachineFault);
  CHECK(
      no_simulator.sentence ==
      "device: simt needs libgraft_simt.so beside the program, and it is not there; build the target graft_simt, or set device: "
      "cpu");
}

TEST_CASE("the libraries are looked for beside this program", "[device]") {
  const DeviceSupport support = device_support("1.2", /*ask_gpu=*/false);
  CHECK(support.driver == "1.2");
#ifndef __SANITIZE_ADDRESS__  // cmake/cuda.cmake
  CHECK(support.simt_library);
  set_device(Device::simt);
  CHECK(device() == Device::simt);
  CHECK_FALSE(device_busy());
  CHECK(free_device_memory() == 0);
  CHECK_THROWS_AS(set_device(Device::cuda), MachineError);
  CHECK(device() == Device::simt);
#endif
  set_device(Device::cpu);
  CHECK(std::string(device_name(device())) == "cpu");
}

}  // namespace graft::kernels
