# Programs of bench/, built on request only: ninja -C build/test training_step.
function(graft_bench name)
  cmake_parse_arguments(ARG "" "" "LINKS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL bench/${name}.cpp)
  target_link_libraries(${name} PRIVATE ${ARG_LINKS})
endfunction()

graft_bench(training_step LINKS graft_lora)
