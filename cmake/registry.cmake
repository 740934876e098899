# graft_registry(<module> <folder> <header> <type> [<function>]): every <module>/<folder>/x.cpp defines one `extern const <type> x`;
# this writes the table of them, which all_<folder>(), or <function>(), returns, so that adding one is adding its file. No static
# initialisers, nothing a linker can drop.
function(graft_registry module folder header type)
  file(GLOB files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${module}/${folder}/*.cpp")
  list(SORT files)
  set(declarations "")
  set(entries "")
  foreach(file ${files})
    get_filename_component(name ${file} NAME_WE)
    string(APPEND declarations "extern const ${type} ${name};\n")
    string(APPEND entries "    &${name},\n")
  endforeach()
  set(function all_${folder})
  if(ARGC GREATER 4)
    set(function ${ARGV4})
  endif()
  string(REPLACE "::" ";" parts ${type})
  list(POP_BACK parts short)
  string(REPLACE ";" "::" namespace "${parts}")
  string(REPLACE "${type}" "${short}" declarations "${declarations}")
  set(out "${CMAKE_BINARY_DIR}/generated/${module}_${folder}_table.cpp")
  file(CONFIGURE OUTPUT ${out} CONTENT "// Written by cmake/registry.cmake from ${module}/${folder}/.
#include \"${header}\"

namespace ${namespace} {

${declarations}
namespace {
const ${short}* const table[] = {
${entries}};
}

std::span<const ${short}* const> ${function}() { return table; }

}  // namespace ${namespace}
" @ONLY)
  set_property(GLOBAL APPEND PROPERTY graft_${module}_generated ${out})
endfunction()
