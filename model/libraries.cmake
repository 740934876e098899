# As in export/libraries.cmake.
set_source_files_properties("${CMAKE_SOURCE_DIR}/model/weights_gguf.cpp" "${CMAKE_SOURCE_DIR}/model/awq_words.cpp" "${CMAKE_SOURCE_DIR}/model/fp8_layout.cpp" "${CMAKE_SOURCE_DIR}/model/compressed_tensors.cpp"
                            PROPERTIES COMPILE_OPTIONS "-O3;-fno-trapping-math")
