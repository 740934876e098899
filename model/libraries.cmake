# at::parallel_for is a header: it is parallel only where OpenMP is on (kernels/libraries.cmake).
set_source_files_properties("${CMAKE_SOURCE_DIR}/model/weights_gguf.cpp" "${CMAKE_SOURCE_DIR}/model/compressed_tensors.cpp"
                            PROPERTIES COMPILE_OPTIONS "-fopenmp;-O3;-fno-trapping-math")
