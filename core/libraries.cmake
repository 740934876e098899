target_link_libraries(graft_core PUBLIC nlohmann_json::nlohmann_json PRIVATE yaml-cpp OpenSSL::Crypto Threads::Threads
                      PkgConfig::HDF5 ZLIB::ZLIB)
# The reference's bits need products rounded before they are added.
set_source_files_properties("${CMAKE_SOURCE_DIR}/core/gguf_dequantize.cpp" "${CMAKE_SOURCE_DIR}/core/gguf_quantize.cpp"
                            PROPERTIES COMPILE_OPTIONS "-O3;-fopenmp-simd;-ffp-contract=off;-fno-trapping-math")
