# at::parallel_for is a header: it is parallel only where OpenMP is on. One runtime: the one that libtorch_cpu brought.
# No errno from sqrt, so that loops with it are vectorised.
target_compile_options(graft_kernels PRIVATE -fopenmp -fno-math-errno)
target_link_libraries(graft_kernels PUBLIC "${torch_root}/lib/libgomp.so.1")
