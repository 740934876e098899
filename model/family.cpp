#include "model/family.h"

#include <algorithm>

#include "core/error.h"

namespace graft::model {
namespace {

std::string known(std::vector<std::string_view> Family::*names) {
  std::string list;
  for (const Family* family : all_families())
    for (std::string_view name : family->*names) list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

const Family* find(std::vector<std::string_view> Family::*names, const std::string& wanted) {
  for (const Family* family : all_families())
    if (std::count((family->*names).begin(), (family->*names).end(), wanted) > 0) return family;
  return nullptr;
}

}  // namespace

const Family& family_of_architecture(const std::string& architecture) {
  if (const Family* family = find(&Family::architectures, architecture)) return *family;
  const std::string refusal = cat("architecture ", quote(architecture), " is not supported");
  if (architecture.ends_with("ForConditionalGeneration"))  // Gemma 3 from 4B on
    throw UnsupportedError(cat(refusal,
                               ": it takes images or sound too, and graft reads models of text; a GGUF file of it holds ",
                               "the text part alone"));
  throw UnsupportedError(cat(refusal, "; known: ", known(&Family::architectures)));
}

const Family& family_of_gguf(const std::string& architecture) {
  if (const Family* family = find(&Family::gguf_architectures, architecture)) return *family;
  throw UnsupportedError(
      cat("GGUF architecture ", quote(architecture), " is not supported; known: ", known(&Family::gguf_architectures)));
}

const Family& family_named(const std::string& name) {
  for (const Family* family : all_families())
    if (family->name == name) return *family;
  throw std::logic_error("no model family is named " + name);
}

}  // namespace graft::model
