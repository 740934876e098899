target_link_libraries(graft_core PUBLIC nlohmann_json::nlohmann_json PRIVATE yaml-cpp OpenSSL::Crypto Threads::Threads
                      PkgConfig::HDF5 ZLIB::ZLIB)
