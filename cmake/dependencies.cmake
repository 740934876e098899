# Debian packages and the two things scripts/setup puts under .deps: LibTorch (unpacked wheel) and SentencePiece (static).
find_package(PkgConfig REQUIRED)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

set(torch_root "${GRAFT_DEPS}/libtorch/torch")
if(NOT EXISTS "${torch_root}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch is not under ${GRAFT_DEPS}; run scripts/setup first")
endif()
# The wheel's own CMake package demands a CUDA toolkit; the CPU program needs these two libraries and nothing else.
foreach(name c10 torch_cpu)
  add_library(${name} SHARED IMPORTED)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${torch_root}/lib/lib${name}.so")
endforeach()
add_library(graft_torch INTERFACE)
# After the system's headers: the wheel carries an fmt of its own that must not shadow others.
target_compile_options(graft_torch INTERFACE
  "SHELL:-idirafter ${torch_root}/include" "SHELL:-idirafter ${torch_root}/include/torch/csrc/api/include")
target_link_libraries(graft_torch INTERFACE torch_cpu c10)
# libtorch_cpu finds libcudart and libcupti through its own RPATH beside it; the linker need not.
target_link_options(graft_torch INTERFACE -Wl,--allow-shlib-undefined)
set(CMAKE_BUILD_RPATH "${torch_root}/lib")

add_library(sentencepiece STATIC IMPORTED)
set_target_properties(sentencepiece PROPERTIES IMPORTED_LOCATION "${GRAFT_DEPS}/sentencepiece/lib/libsentencepiece.a")
target_compile_options(sentencepiece INTERFACE "SHELL:-isystem ${GRAFT_DEPS}/sentencepiece/include")
