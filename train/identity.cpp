#include "train/identity.h"

#include <set>

#include "core/error.h"
#include "core/file.h"
#include "model/family.h"

namespace graft::train {
namespace {

// A visitor of config structs (core/config_reader.h) that writes each field into a flat object.
class Flatten {
 public:
  Flatten(Json& out, std::string prefix) : out_(out), prefix_(std::move(prefix)) {}
  template <class T, class... Rest>
  void field(const T& value, const char* name, const Rest&...) {
    out_[prefix_ + name] = value;
  }
  template <class T>
  void field(const T& value, const char* name, std::initializer_list<const char*>, const char*) {  // one of several words
    out_[prefix_ + name] = value;
  }
  template <class T>
  void section(T& value, const char* name, const char*) {
    Flatten inner(out_, prefix_ + name + ".");
    value.visit(inner);
  }

 private:
  Json& out_;
  std::string prefix_;
};

}  // namespace

std::string config_hash(const model::WeightSource& base) {
  // By way of the spec, so that keys which change nothing are free to change.
  Json json = model::family_named(base.spec().family).to_hf(base.spec());
  if (base.hf_config().contains("quantization_config")) json["quantization_config"] = base.hf_config()["quantization_config"];
  return sha256_hex(json.dump());
}

Json run_identity(const RunConfig& config, const IdentityParts& parts) {
  RunConfig copy = config;  // visit() is made for readers and takes no const
  Json all = Json::object();
  Flatten lora(all, "lora."), train(all, "train.");
  copy.lora.visit(lora);
  copy.train.visit(train);
  static const std::set<std::string> free = {"train.eval_every",       "train.checkpoint_every", "train.checkpoint_minutes",
                                             "train.keep_checkpoints", "train.max_bad_steps",    "train.dtype",
                                             "train.base_precision",   "lora.start_from"};
  // Left out at 0, so that runs begun before they existed go on.
  static const std::set<std::string> newer = {"train.label_smoothing", "train.z_loss"};
  Json identity = Json::object();
  for (const auto& [key, value] : all.items())
    if (!free.count(key) && !(newer.count(key) && value == 0) &&
        !(key.starts_with("train.merge_aware.") && config.train.merge_aware.format.empty()))
      identity[key] = value;
  identity["base"] = parts.base;
  identity["tokenizer"] = parts.tokenizer;
  identity["corpus"] = parts.corpus;
  identity["device"] = parts.device;  // not the config's: auto may come to another one elsewhere
  identity["threads"] = parts.threads;
  identity["storage_dtype"] = parts.storage;  // what train.dtype and train.base_precision came to on this machine
  identity["compute_dtype"] = parts.compute;
  if (!parts.base_config.empty()) identity["base_config"] = parts.base_config;
  if (!parts.started_from.empty()) identity["lora.start_from"] = parts.started_from;
  if (parts.calibration_rows > 0) identity["export.calibration.rows"] = parts.calibration_rows;  // else training sees none
  return identity;
}

std::vector<std::string> differences(const Json& then, const Json& now) {
  std::vector<std::string> lines;
  std::set<std::string> keys;
  for (const Json* side : {&then, &now})
    for (const auto& [key, value] : side->items()) keys.insert(key);
  const auto text = [](const Json& side, const std::string& key) {
    if (!side.contains(key)) return std::string("nothing");
    const std::string dump = side[key].is_string() ? side[key].get<std::string>() : side[key].dump();
    return dump.size() > 72 ? cat(dump.substr(0, 69), "...") : dump;
  };
  for (const auto& key : keys)
    if (!then.contains(key) || !now.contains(key) || then[key] != now[key])
      lines.push_back(cat(key, ": ", text(then, key), " then, ", text(now, key), " now"));
  return lines;
}

}  // namespace graft::train
