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

}  // namespace

TEST_CASE("auto and cpu are the processor, whatever else is there", "[device]") {
  for (const char* wanted : {"auto", "cpu"}) {
    CHECK(choose_device(wanted, {}) == Device::cpu);
    CHECK(choose_device(wanted, {"580.65.06", true, true}) == Device::cpu);
  }
  CHECK(choose_device("simt", {"", false, true}) == Device::simt);
}

TEST_CASE("a device that cannot be had is refused with what is missing", "[device]") {
  const Refusal no_driver = refusal("cuda", {"", true, true});
  CHECK(no_driver.code == kMachineFault);
  CHECK(no_driver.sentence == "device: cuda needs an NVIDIA driver, and none is loaded on this machine; set device: cpu");

  const Refusal no_library = refusal("cuda", {"580.65.06", false, true});
  CHECK(no_library.code == kMachineFault);
  CHECK(no_library.sentence ==
        "device: cuda needs libgraft_cuda.so beside the program, and it is not there; build with -DGRAFT_CUDA=ON, or set device: "
        "cpu");

  const Refusal not_yet = refusal("cuda", {"580.65.06", true, true});
  CHECK(not_yet.code == kUserFault);
  CHECK(not_yet.sentence ==
        "device: cuda cannot train yet: its kernels are there, the model's memory on the GPU is not; set device: cpu");

  const Refusal no_simulator = refusal("simt", {"580.65.06", true, false});
  CHECK(no_simulator.code == kMachineFault);
  CHECK(
      no_simulator.sentence ==
      "device: simt needs libgraft_simt.so beside the program, and it is not there; build the target graft_simt, or set device: "
      "cpu");

  CHECK_THROWS_AS(set_device(Device::cuda), UnsupportedError);
  CHECK(device() == Device::cpu);
}

TEST_CASE("the libraries are looked for beside this program", "[device]") {
  const DeviceSupport support = device_support("1.2");
  CHECK(support.driver == "1.2");
#ifndef __SANITIZE_ADDRESS__  // cmake/cuda.cmake
  CHECK(support.simt_library);
  set_device(Device::simt);
  CHECK(device() == Device::simt);
#endif
  set_device(Device::cpu);
  CHECK(std::string(device_name(device())) == "cpu");
}

}  // namespace graft::kernels
