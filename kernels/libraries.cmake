# at::parallel_for is a header: it is parallel only where OpenMP is on. One runtime: the one that libtorch_cpu brought.
# No errno from sqrt, so that loops with it are vectorised.
target_compile_options(graft_kernels PRIVATE -fopenmp -fno-math-errno)
target_link_libraries(graft_kernels PUBLIC "${torch_root}/lib/libgomp.so.1")
# Nothing but loops in these, each for one instruction set; kernels/cpu/tile.cpp chooses at run time.
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/tile_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/tile_avx512.cpp PROPERTIES COMPILE_OPTIONS "-mavx512f")
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/tile_avx512_bf16.cpp PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bf16")
