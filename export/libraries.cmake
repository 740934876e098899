# at::parallel_for is a header: it is parallel only where OpenMP is on (kernels/libraries.cmake). No traps: comparisons of floats
# are vectorised.
file(GLOB loops CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/export/quantize/*.cpp")
set_source_files_properties(${loops} "${CMAKE_SOURCE_DIR}/export/compare.cpp" PROPERTIES COMPILE_OPTIONS
                            "-fopenmp;-O3;-fno-trapping-math")
