# Warnings, sanitizers, a fast linker and a compiler cache where the machine has them.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "graft needs g++ 12 or newer, this is ${CMAKE_CXX_COMPILER_VERSION}")
endif()
find_program(CCACHE ccache)
if(CCACHE)
  # Paths relative to the checkout: another build folder and another clone find what this one compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_SLOPPINESS=pch_defines,time_macros
      ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(graft_flags INTERFACE)
target_compile_options(graft_flags INTERFACE -Wall -Wextra -Werror)
target_include_directories(graft_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(graft_flags INTERFACE GRAFT_VERSION="${PROJECT_VERSION}")
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # static modules end up in libgraft_engine
add_compile_options(-fno-semantic-interposition)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
if(GRAFT_SANITIZE)
  # The instrumented code makes g++ see uninitialised memory where there is none.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=address,undefined)
endif()
