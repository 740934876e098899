#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <utility>

#include "cli/engine/machine.h"
#include "cli/engine/output.h"
#include "cli/engine/servers.h"
#include "cli/engine/stages.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/document_reader.h"
#include "data/find_files.h"
#include "kernels/cpu/tile.h"
#include "kernels/device.h"
#include "model/compute_type.h"
#include "train/memory_plan.h"

namespace graft::cli {
namespace {

using exports::Finding;
using exports::State;

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "none" : out;
}

std::string gpu_text(const kernels::DeviceSupport& support) {
  const kernels::Gpu& gpu = support.gpu;
  const std::string driver = support.driver.empty() ? "no NVIDIA driver" : "NVIDIA driver " + support.driver;
  const std::string library = !support.cuda_library ? "no libgraft_cuda.so"
                              : !gpu.fault.empty()  ? "libgraft_cuda.so cannot be used: " + gpu.fault
                                                    : cat(gpu.name, ", compute capability ", gpu.major, ".", gpu.minor, ", ",
                                                          human_bytes(static_cast<double>(gpu.free)), " of ",
                                                          human_bytes(static_cast<double>(gpu.total)), " free");
  return cat(driver, ", ", library, "; device: auto is the CPU until cuda has been measured");
}

std::vector<Finding> machine() {
  std::vector<Finding> findings;
  const auto extensions = processor_extensions();
  const bool avx2 = !extensions.empty() && extensions.front() == "AVX2";
  findings.push_back({"processor", avx2 ? State::ok : State::note,
                      cat(processor_name(), ", ", processor_count(), " processors; ", joined(extensions))});
  findings.push_back({"memory", State::ok,
                      cat(human_bytes(static_cast<double>(total_memory())), ", ",
                          human_bytes(static_cast<double>(train::available_memory())), " available")});
  const std::string pages = transparent_huge_pages();
  findings.push_back({"huge pages", pages == "never" ? State::note : State::ok,
                      pages == "never" ? "never; 'madvise' would make large products faster" : pages});
  findings.push_back({"LibTorch", State::ok,
                      cat(TORCH_VERSION, ", ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads")});
  findings.push_back({"computes in", State::ok,
                      cat(model::name_of(model::fastest_compute_type()), " on the processor with train.dtype: auto (measured)")});
  const bool fast = kernels::cpu::has_int8_dot();
  findings.push_back(
      {"int8 products", fast ? State::ok : State::note,
       fast ? cat(kernels::cpu::isa() == kernels::cpu::Isa::amx ? "AMX" : "AVX512-VNNI", ", for train.base_precision: int8")
            : "neither AMX nor AVX512-VNNI: train.base_precision: int8 gives the same results, but no speed"});
  const kernels::DeviceSupport support = kernels::device_support(nvidia_driver(), /*ask_gpu=*/true);
  findings.push_back({"GPU", State::note, gpu_text(support)});
  findings.push_back({"simulator", State::ok,
                      support.simt_library ? "libgraft_simt.so: device: simt runs the CUDA kernels on the CPU, for tests"
                                           : "no libgraft_simt.so, which only device: simt needs"});
  return findings;
}

// Runs one check of the config; what it throws becomes a finding instead of the end.
void check(std::vector<Finding>& findings, const char* topic, const std::function<std::string()>& what) {
  try {
    findings.push_back({topic, State::ok, what()});
  } catch (const std::exception& error) {  // of the file system, too
    findings.push_back({topic, State::fault, error.what()});
  }
}

std::string free_space(const fs::path& directory) {
  const fs::path existing = train::existing_part(directory);
  return cat(human_bytes(static_cast<double>(fs::space(existing).available)), " free at ", existing.string());
}

std::vector<Finding> config_findings(train::RunConfig config, const std::vector<std::string>& servers) {
  std::vector<Finding> findings;
  check(findings, "device", [&] { return cat(config.device, ": ", kernels::device_name(device_of(config))); });
  config.device = "cpu";  // one finding is enough
  std::unique_ptr<Session> session;
  check(findings, "base", [&] {
    session = std::make_unique<Session>(config);
    const auto& spec = session->base->spec();
    return cat(config.base, ": ", spec.architecture, ", ", human_count(static_cast<double>(spec.parameters())),
               " parameters, context ", spec.context, "; tokenizer fits");
  });
  if (session) {
    check(findings, "plan", [&] {
      check_plan(*session, config.export_.formats);
      return cat("rows of ", config.train.length, " tokens; this base and adapter can be written as ",
                 joined(config.export_.formats), ", ",
                 human_bytes(static_cast<double>(export_bytes(*session, config.export_.formats).anew)), " to write");
    });
    for (const std::string& server : servers) {
      std::vector<Finding> found;
      try {
        found = server_findings(*session, server);
      } catch (const Error& error) {
        found = {{"formats", State::fault, error.what()}};
      }
      for (const Finding& finding : found) findings.push_back({cat(server, ": ", finding.topic), finding.state, finding.detail});
    }
  }
  for (const auto& source : config.corpus.sources) {
    bool all = true;
    check(findings, "source", [&] {
      if (source.path.empty()) throw ConfigError("corpus.sources: one has no path");
      const auto files = data::find_files(source.path);
      const auto read = std::count_if(files.begin(), files.end(),
                                      [&](const std::string& file) { return data::format_of(file, source.format).has_value(); });
      const std::string of = cat(source.path, ": ", read, " of ", files.size(), " files are of a type that is read");
      if (read == 0) throw DataError(of);
      all = read == std::ssize(files);
      return all ? cat(source.path, ": ", files.size(), " files") : of;
    });
    if (!all) findings.back().state = State::note;
  }
  check(findings, "corpus", [&] {
    std::uint64_t documents = 0, tokens = 0;
    for (const auto& record : data::read_manifest(config.corpus.dir)) documents += record.documents, tokens += record.tokens;
    if (documents == 0 && config.corpus.sources.empty()) throw ConfigError("no corpus and no corpus.sources to make one from");
    return documents == 0 ? cat(config.corpus.dir, ": not prepared yet")
                          : cat(config.corpus.dir, ": ", documents, " documents, ", tokens, " tokens");
  });
  check(findings, "disk", [&] {
    if (session)
      train::check_disk(config.run_dir, lora::parameter_count(config.lora, *session->base), config.train.keep_checkpoints);
    return free_space(config.run_dir);
  });
  return findings;
}

}  // namespace

int graft_doctor(const Context& context, const DoctorOptions& options) {
  std::vector<Finding> findings = machine();
  if (options.has_config) {
    train::RunConfig config = context.config;
    // Asked about by --for: findings, where the plan would stop at the first fault.
    std::vector<std::string> servers = std::exchange(config.export_.serve, {});
    for (const std::string& server : options.servers)
      if (std::find(servers.begin(), servers.end(), server) == servers.end()) servers.push_back(server);
    if (options.tensor_parallel > 0) config.export_.tensor_parallel = options.tensor_parallel;
    for (Finding& finding : config_findings(config, servers)) findings.push_back(std::move(finding));
  }
  bool fault = false;
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows = {{"", "", "graft " GRAFT_VERSION}};
  for (const Finding& finding : findings) {
    fault = fault || finding.state == State::fault;
    list.push_back({{"topic", finding.topic}, {"state", name_of(finding.state)}, {"detail", finding.detail}});
    rows.push_back({finding.topic, std::string(name_of(finding.state)), finding.detail});
  }
  if (context.json)
    print_json({{"version", GRAFT_VERSION}, {"findings", list}});
  else
    std::cout << columns(rows);
  return fault ? kUserFault : kDone;
}

}  // namespace graft::cli
