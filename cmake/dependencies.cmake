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
# at::parallel_for is a header: it is parallel only where OpenMP is on. One runtime: the one that libtorch_cpu brought.
# No errno from sqrt, so that loops with it are vectorised.
target_compile_options(graft_torch INTERFACE -fopenmp -fno-math-errno)
target_link_libraries(graft_torch INTERFACE "${torch_root}/lib/libgomp.so.1")
# libtorch_cpu finds libcudart and libcupti through its own RPATH beside it; the linker need not.
target_link_options(graft_torch INTERFACE -Wl,--allow-shlib-undefined)
set(CMAKE_BUILD_RPATH "${torch_root}/lib")

# ATen's headers take 6 of the 8 seconds of a source that includes them, so they are compiled once, for all targets of LibTorch.
# Sources go on including what they use; -DGRAFT_PRECOMPILED=OFF shows that they do.
option(GRAFT_PRECOMPILED "compile ATen's headers once" ON)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/aten.cpp CONTENT "// Holds what ATen's headers are compiled with.\n")
add_library(graft_aten OBJECT ${CMAKE_BINARY_DIR}/generated/aten.cpp)
target_link_libraries(graft_aten PRIVATE graft_flags graft_torch)
function(graft_precompiled target)  # as graft_aten in all options: -fPIC for programs too
  if(GRAFT_PRECOMPILED)
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC -fpch-preprocess)  # the latter for ccache
    if(target STREQUAL "graft_aten")
      target_precompile_headers(graft_aten PRIVATE <ATen/ATen.h>)
    else()
      target_precompile_headers(${target} REUSE_FROM graft_aten)
    endif()
  endif()
endfunction()
graft_precompiled(graft_aten)

add_library(sentencepiece STATIC IMPORTED)
set_target_properties(sentencepiece PROPERTIES IMPORTED_LOCATION "${GRAFT_DEPS}/sentencepiece/lib/libsentencepiece.a")
target_compile_options(sentencepiece INTERFACE "SHELL:-isystem ${GRAFT_DEPS}/sentencepiece/include")
