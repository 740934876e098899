# As in export/libraries.cmake.
foreach(file awq_words compressed_tensors fp8_layout scaled_codes weights_gguf)
  set_source_files_properties("${CMAKE_SOURCE_DIR}/model/${file}.cpp" PROPERTIES COMPILE_OPTIONS "-O3;-fno-trapping-math")
endforeach()
