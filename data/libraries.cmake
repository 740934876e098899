target_link_libraries(graft_data PRIVATE sentencepiece PkgConfig::UTF8PROC PkgConfig::HDF5 ZLIB::ZLIB
                      Threads::Threads)
