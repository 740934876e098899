# Nothing but loops in these, each for one instruction set; kernels/cpu/tile.cpp chooses at run time. The warnings are about g++ 12's own
# header of intrinsics.
function(graft_instruction_set pattern)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/cpu/*_${pattern}.cpp" "${CMAKE_SOURCE_DIR}/kernels/attention/*_${pattern}.cpp")
  set_source_files_properties(${sources} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "${ARGN};-Wno-maybe-uninitialized;-Wno-uninitialized")
endfunction()
graft_instruction_set(avx2 -mavx2 -mfma)
graft_instruction_set(avx512 -mavx512f)
graft_instruction_set(avx512_bf16 -mavx512f -mavx512bw -mavx512vl -mavx512bf16)
graft_instruction_set(avx512_vnni -mavx512f -mavx512vnni)
graft_instruction_set(amx -mavx512f -mavx512bw -mavx512vl -mavx512bf16 -mprfchw -mamx-tile -mamx-bf16 -mamx-int8)
