# No contraction: a merged weight has the same bits on every instruction set.
set_source_files_properties("${CMAKE_SOURCE_DIR}/lora/adapter.cpp" PROPERTIES COMPILE_OPTIONS "-ffp-contract=off")
