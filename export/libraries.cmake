# No traps: comparisons of floats are vectorised. No contraction: the same bits on every instruction set. Vectors are not passed
# between files, so their ABI is nobody's concern.
file(GLOB loops CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/export/quantize/*.cpp")
list(APPEND loops "${CMAKE_SOURCE_DIR}/export/compare.cpp" "${CMAKE_SOURCE_DIR}/export/fingerprint.cpp")
set_source_files_properties(${loops} PROPERTIES COMPILE_OPTIONS
                            "-O3;-fno-trapping-math;-ffp-contract=off;-Wno-psabi")
