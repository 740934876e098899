#include "cli/engine/inspect.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "cli/engine/output.h"
#include "core/config_reader.h"
#include "core/error.h"
#include "core/log.h"

namespace graft::cli {
namespace {

Json look_into(const fs::path& path) {
  if (!fs::exists(path))
    throw DataError(
        cat(path.string(), " does not exist", path.is_relative() ? cat("; looked up from ", fs::current_path().string()) : ""));
  if (fs::is_directory(path)) {
    if (fs::exists(path / "manifest.jsonl")) return inspect_corpus(path);
    if (fs::exists(path / "adapter_config.json")) return inspect_adapter(path);
    if (fs::exists(path / "config.json")) return inspect_model(path);
    if (fs::exists(path / "state.json")) return inspect_checkpoint(path);
    if (fs::exists(path / "run.json")) return inspect_run(path);
    if (fs::exists(path / "manifest.json")) return inspect_exports(path);
  } else if (path.extension() == ".gguf") {
    return inspect_model(path);
  } else if (path.extension() == ".safetensors") {
    return inspect_safetensors(path);
  }
  throw UnsupportedError(
      cat(path.string(),
          " is nothing that graft knows: a corpus has manifest.jsonl, a run run.json, a checkpoint state.json, "
          "an adapter adapter_config.json, a model config.json; files are .gguf or .safetensors. A config is shown with -c"));
}

std::string shown(const Json& value) {
  if (value.is_string()) {
    const std::string text = quote(value.get<std::string>());  // without control bytes
    return text.substr(1, text.size() - 2);
  }
  if (value.is_number_float()) {  // all digits are in --json
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value.get<double>());
    return text;
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// "name  value" lines; lists of objects as tables; objects indented below their name.
void print_text(const Json& object, const std::string& indent) {
  std::vector<std::vector<std::string>> rows;
  const auto flush = [&] {
    std::string lines = columns(rows);
    rows.clear();
    for (std::size_t at = 0, end; (end = lines.find('\n', at)) != std::string::npos; at = end + 1)
      std::cout << indent << lines.substr(at, end - at) << "\n";
  };
  for (const auto& [name, value] : object.items()) {
    if (value.is_object()) {
      flush();
      std::cout << indent << log::printable(name) << "\n";
      print_text(value, indent + "  ");
    } else if (value.is_array() && !value.empty() && value[0].is_object()) {
      flush();
      std::cout << indent << log::printable(name) << "\n";
      std::vector<std::string> head;
      for (const Json& item : value)
        for (const auto& [key, each] : item.items())
          if (std::find(head.begin(), head.end(), key) == head.end()) head.push_back(key);
      rows.emplace_back();
      for (const std::string& key : head) rows.back().push_back(log::printable(key));
      for (const Json& item : value) {
        rows.emplace_back();
        for (const std::string& key : head) rows.back().push_back(item.contains(key) ? shown(item[key]) : "");
      }
      const std::string outer = indent;
      std::string lines = columns(rows);
      rows.clear();
      for (std::size_t at = 0, end; (end = lines.find('\n', at)) != std::string::npos; at = end + 1)
        std::cout << indent << "  " << lines.substr(at, end - at) << "\n";
    } else {
      rows.push_back({log::printable(name), shown(value)});
    }
  }
  flush();
}

}  // namespace

int graft_inspect(const Context& context, const InspectOptions& options) {
  if (options.path.empty()) {
    if (context.json)
      print_json({{"config", config_json(context.config)}});
    else
      std::cout << dump_config(context.config);
    return kDone;
  }
  if (options.batches > 0) {
    print_batches(options);
    return kDone;
  }
  Json found = options.document.empty() ? look_into(options.path) : inspect_document(options);
  if (context.json) {
    print_json(found);
    return kDone;
  }
  if (const auto tensors = found.find("tensors"); tensors != found.end() && tensors->is_array())
    *tensors = cat(tensors->size(), ", listed by --json");
  print_text(found, "");
  return kDone;
}

}  // namespace graft::cli
