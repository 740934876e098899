# No traps: comparisons of floats are vectorised.
file(GLOB loops CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/export/quantize/*.cpp")
set_source_files_properties(${loops} "${CMAKE_SOURCE_DIR}/export/compare.cpp" PROPERTIES COMPILE_OPTIONS "-O3;-fno-trapping-math")
