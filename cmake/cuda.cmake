# CUDA kernels: kernels/**/*_cuda.cu, without LibTorch. GRAFT_CUDA builds libgraft_cuda.so of them with nvcc; libgraft_simt.so and
# simt_test run the same sources on the host (kernels/simt) and need no CUDA at all.
option(GRAFT_CUDA "build libgraft_cuda.so" OFF)
set(GRAFT_CUDA_ARCHITECTURES "80;90;120" CACHE STRING "of libgraft_cuda.so; scripts/check-cuda compiles for all")
file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/*_cuda.cu")

# nvcc is called as the compiler that it is: Debian's CMake does not know version 13.
function(graft_cuda_library)
  find_program(NVCC nvcc HINTS /usr/local/cuda/bin)
  if(NVCC)
    file(REAL_PATH "${NVCC}" compiler)
    cmake_path(GET compiler PARENT_PATH bin)
    set(hints "${bin}/../lib64" "${bin}/../lib" "${bin}/../targets/x86_64-linux/lib")
    find_library(CUDART cudart_static HINTS ${hints})
    find_library(CUBLASLT cublasLt HINTS ${hints})
  endif()
  if(NOT NVCC OR NOT CUDART OR NOT CUBLASLT)
    message(FATAL_ERROR "no nvcc (found: ${NVCC}), libcudart_static (${CUDART}) or libcublasLt (${CUBLASLT})")
  endif()
  set(code "")
  foreach(arch ${GRAFT_CUDA_ARCHITECTURES})
    list(APPEND code "-gencode=arch=compute_${arch},code=sm_${arch}")
  endforeach()
  # As PTX too: the oldest for what lies between (10.0, 10.3 and 11.0 run none of the images above), the newest for what is to come.
  list(GET GRAFT_CUDA_ARCHITECTURES 0 oldest)
  list(GET GRAFT_CUDA_ARCHITECTURES -1 newest)
  foreach(arch ${oldest} ${newest})
    list(APPEND code "-gencode=arch=compute_${arch},code=compute_${arch}")
  endforeach()
  list(REMOVE_DUPLICATES code)
  set(objects "")
  foreach(source ${cuda_sources})
    get_filename_component(name ${source} NAME_WE)
    set(object "${CMAKE_BINARY_DIR}/cuda/${name}.o")
    add_custom_command(OUTPUT ${object}
      COMMAND ${NVCC} -std=c++20 -O3 -Xcompiler=-fPIC,-Wall -Werror all-warnings ${code} -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d
              -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building CUDA object ${name}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/cuda")
  add_library(graft_cuda SHARED ${objects} kernels/nf4/nf4.cpp kernels/gemm/gemm_cublaslt.cpp kernels/gemm/gemm_fault.cpp
              kernels/cuda/runtime.cpp)
  target_include_directories(graft_cuda SYSTEM PRIVATE "${bin}/../include")
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  target_link_libraries(graft_cuda PRIVATE graft_flags ${CUDART} ${CUBLASLT} ${CMAKE_DL_LIBS} Threads::Threads rt)
  cmake_path(GET CUBLASLT PARENT_PATH libraries)
  set_target_properties(graft_cuda PROPERTIES INSTALL_RPATH "${libraries}")
  install(TARGETS graft_cuda)
  if(TARGET graft)  # which looks for it beside itself
    add_dependencies(graft graft_cuda)
  endif()
  if(GRAFT_KERNELS_ONLY)
    file(GLOB_RECURSE tests CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/*_simt_test.cpp")
    add_executable(kernels_gpu_test ${tests} core/rng.cpp tests/support/gpu_main.cpp)
    target_include_directories(kernels_gpu_test SYSTEM PRIVATE "${bin}/../include")
    target_link_libraries(kernels_gpu_test PRIVATE graft_flags graft_cuda ${CUDART} ${CMAKE_DL_LIBS} Threads::Threads rt)
    add_test(NAME kernels_gpu COMMAND kernels_gpu_test)
    set_tests_properties(kernels_gpu PROPERTIES SKIP_RETURN_CODE 77)
  endif()
endfunction()

if(GRAFT_CUDA OR GRAFT_KERNELS_ONLY)
  find_package(Threads REQUIRED)
  enable_testing()
  graft_cuda_library()
endif()
if(GRAFT_KERNELS_ONLY)
  return()
endif()

# Every load and store of the kernels calls a hook of kernels/simt/shadow.cpp: TSan's instrumentation without TSan (simt.h).
function(graft_simt_kernels name)
  add_library(${name} OBJECT ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  target_link_libraries(${name} PRIVATE graft_flags)
  target_compile_options(${name} PRIVATE -x c++ -fno-sanitize=all -fsanitize=thread
    -fsanitize=alignment,bounds,shift,signed-integer-overflow -fno-sanitize-recover=all -fno-strict-aliasing
    -Wno-unknown-pragmas -Wconversion)  # an offset that loses its upper half is an error
endfunction()

# kernels/**/*_cuda.cu on the host: libgraft_simt.so beside the program, for `device: simt`, and simt_test. Under other sanitizers
# neither is built: they do not know fibres.
if(NOT GRAFT_SANITIZE)
  file(GLOB simt CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/simt/*.cpp")
  list(FILTER simt EXCLUDE REGEX "_test\\.cpp$")
  graft_simt_kernels(simt_kernels ${cuda_sources})
  add_library(simt_machine OBJECT ${simt} kernels/nf4/nf4.cpp kernels/gemm/gemm.cpp kernels/gemm/gemm_fault.cpp)
  target_link_libraries(simt_machine PRIVATE graft_flags)
  add_library(graft_simt SHARED $<TARGET_OBJECTS:simt_machine> $<TARGET_OBJECTS:simt_kernels>)
  set_target_properties(graft_simt PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(graft_simt PRIVATE -fsanitize=undefined)
  if(GRAFT_TESTS)  # for users it is a target to ask for: a minute of compiling
    add_dependencies(graft graft_simt)
  endif()
endif()

if(GRAFT_TESTS AND NOT GRAFT_SANITIZE)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/*simt_test.cpp")
  graft_simt_kernels(simt_faulty_kernels "${CMAKE_SOURCE_DIR}/kernels/simt/faulty_kernels.cu")
  add_executable(simt_test ${tests} core/rng.cpp $<TARGET_OBJECTS:simt_machine> $<TARGET_OBJECTS:simt_kernels>
                 $<TARGET_OBJECTS:simt_faulty_kernels> $<TARGET_OBJECTS:graft_test_main>)
  target_link_libraries(simt_test PRIVATE graft_flags)
  target_link_options(simt_test PRIVATE -fsanitize=undefined)
  add_test(NAME simt COMMAND simt_test)
  foreach(module kernels lora)  # their tests open it
    add_dependencies(${module}_test graft_simt)
  endforeach()
endif()
