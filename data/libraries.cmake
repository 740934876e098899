target_link_libraries(graft_data PRIVATE sentencepiece PkgConfig::UTF8PROC PkgConfig::GUMBO PkgConfig::HDF5 ZLIB::ZLIB
                      Threads::Threads)
