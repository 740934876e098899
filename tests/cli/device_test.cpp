// The key `device`: what is refused and how; training on the CUDA kernels simulated on the host.
#include <array>
#include <cmath>
#include <cstring>
#include <set>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

namespace {

// All values of an adapter, tensors in order of their names.
std::vector<float> adapter(const fs::path& run) {
  const SafetensorsFile file(run / "adapter/adapter_model.safetensors");
  std::vector<float> all;
  for (const auto& [name, info] : file.tensors()) {
    const auto bytes = file.data(info);
    const std::size_t count = bytes.size() / sizeof(float), before = all.size();
    REQUIRE(info.dtype == DType::f32);
    all.resize(before + count);
    std::memcpy(all.data() + before, bytes.data(), bytes.size());
  }
  return all;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(sum);
}

// The kernels that ran, as the simulator logs them.
std::set<std::string> kernels_of(const fs::path& log) {
  std::set<std::string> names;
  for (const std::string& line : read_lines(log)) names.insert(parse_json(line, log.string())["entry"]);
  return names;
}

const fs::path kBuild = fs::path(GRAFT_PROGRAM).parent_path();

// The engine in a folder where a test says which libraries lie beside it.
struct EngineFolder {
  explicit EngineFolder(fs::path folder) : path(std::move(folder)) {
    fs::create_directories(path);
    add("libgraft_engine.so", "libgraft_engine.so");
  }
  void add(const char* name, const char* library) const {
    fs::remove(path / name);
    fs::create_symlink(kBuild / library, path / name);
  }
  testing::Launch launch(const Workshop& workshop) const {
    return {.directory = workshop.path(), .environment = {{"LD_LIBRARY_PATH", path.string()}}};
  }
  fs::path path;
};

}  // namespace

TEST_CASE("device: cuda is refused before any work where its library is not there", "[device]") {
  const Workshop workshop;
  const EngineFolder folder(workshop / "lib");
  const auto graft = [&](const std::string& command, const std::vector<std::string>& set) {
    return run_program(workshop.command(command, set), folder.launch(workshop));
  };
  for (const char* command : {"run", "prepare", "train"}) {
    const Outcome done = graft(command, {"device=cuda"});
    INFO(done.err);
    CHECK(done.out.empty());
    CHECK(done.code == 4);
    CHECK(done.err.find("graft: device: cuda needs libgraft_cuda.so beside the program, and it is not there") !=
          std::string::npos);
    CHECK(!fs::exists(workshop / "corpus"));
    CHECK(!fs::exists(workshop / "run"));
  }
  const Outcome unknown = graft("train", {"device=gpu"});
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("device") != std::string::npos);

  const Outcome doctor = graft("doctor", {"device=cuda"});
  CHECK(doctor.code == 2);
  CHECK(doctor.out.find("device: cuda needs ") != std::string::npos);
  CHECK(doctor.out.find("no libgraft_cuda.so; device: auto is the CPU until cuda has been measured") != std::string::npos);
  CHECK(graft("doctor", {}).code == 0);
}

#ifndef __SANITIZE_ADDRESS__  // the simulator is not built then (cmake/cuda.cmake)

TEST_CASE("device: simt trains through every CUDA kernel of a training step to the CPU's adapter", "[device]") {
  const Workshop workshop({.head_dim = 64, .bf16_values = true});
  REQUIRE(workshop.graft("prepare").code == 0);
  const auto train = [&](const std::string& run, const std::string& device, const std::string& dtype,
                         const std::vector<std::string>& rest = {}) {
    std::vector<std::string> set = {"run_dir=" + run,     "device=" + device, "train.dtype=" + dtype, "train.steps=3",
                                    "train.eval_every=0", "lora.dropout=0.1", "eval.max_tokens=300"};
    return run_program(workshop.command("train", set, rest),
                       {.directory = workshop.path(), .environment = {{"GRAFT_SIMT_LOG", (workshop / run).string() + ".log"}}});
  };
  for (const auto& [run, device, dtype] :
       {std::array{"exact", "cpu", "fp32"}, {"cpu", "cpu", "bf16"}, {"simt", "simt", "bf16"}}) {
    const Outcome done = train(run, device, dtype);
    INFO(run << "\n" << done.err);
    REQUIRE(done.code == 0);
  }
  const auto exact = adapter(workshop / "exact"), cpu = adapter(workshop / "cpu"), simt = adapter(workshop / "simt");
  // As tests/lora/device_test.cpp: twice as far from f32 on the same weights as the CPU's bf16 may be.
  CHECK(distance(simt, exact) > 0);
  CHECK(distance(simt, exact) <= 2 * distance(cpu, exact));
  CHECK(!fs::exists(workshop / "cpu.log"));
  CHECK(kernels_of(workshop / "simt.log") == std::set<std::string>{"graft_adamw_update",
                                                                   "graft_attention_backward_keys_64",
                                                                   "graft_attention_backward_queries_64",
                                                                   "graft_attention_dot_bf16",
                                                                   "graft_attention_forward_64",
                                                                   "graft_copy_rows_bf16",
                                                                   "graft_copy_rows_f32",
                                                                   "graft_cross_entropy_rows_bf16",
                                                                   "graft_round_rows_bf16",
                                                                   "graft_dropout_bf16",
                                                                   "graft_gated_backward_bf16",
                                                                   "graft_gated_forward_bf16",
                                                                   "graft_norm_final",
                                                                   "graft_norm_partial",
                                                                   "graft_outer_sum_16",
                                                                   "graft_outer_sum_final",
                                                                   "graft_rms_norm_backward_bf16",
                                                                   "graft_rms_norm_forward_bf16",
                                                                   "graft_rope_bf16",
                                                                   "graft_shrink_16"});

  // The same bits again, and no going on elsewhere.
  REQUIRE(train("again", "simt", "bf16").code == 0);
  CHECK(adapter(workshop / "again") == simt);
  CHECK(read_file(workshop / "again/loss.jsonl") == read_file(workshop / "simt/loss.jsonl"));

  // What is rounded on several threads at once does not go to the device, which one thread may use: the CPU's file.
  std::map<std::string, std::string> exported;
  for (const char* device : {"simt", "cpu"}) {
    fs::remove_all(workshop / "simt/export");
    const Outcome done = workshop.graft("export",
                                        {"run_dir=simt", cat("device=", device), "train.dtype=bf16", "train.steps=3",
                                         "lora.dropout=0.1", "export.min_survival=0"},
                                        {"-f", "bnb-nf4"});
    INFO(device << "\n" << done.err);
    REQUIRE(done.code == 0);
    const auto files = workshop.files("simt/export/bnb-nf4");
    if (exported.empty()) exported = files;
    CHECK(files.contains("model.safetensors"));
    CHECK(files == exported);
  }
  const Outcome int8 = workshop.graft("train", {"run_dir=int8", "device=simt", "train.base_precision=int8"});
  CHECK(int8.code == 2);
  CHECK(int8.err.find("graft: train.base_precision: int8 is for the CPU, and device is simt; set device: cpu, or "
                      "train.base_precision: full") != std::string::npos);
  CHECK(!fs::exists(workshop / "int8"));
  const Outcome elsewhere = train("simt", "auto", "bf16");
  INFO(elsewhere.err);
  CHECK(elsewhere.code == 2);
  CHECK(elsewhere.err.find("device: simt then, cpu now") != std::string::npos);
}

// No GPU here: the simulator's library under the name of CUDA's, in a folder of the engine's own.
TEST_CASE("device: cuda runs all commands over whatever library has its name, to the bits of device: simt", "[device]") {
  const Workshop workshop({.head_dim = 64, .bf16_values = true});
  const EngineFolder folder(workshop / "lib");
  folder.add("libgraft_simt.so", "libgraft_simt.so");
  const auto graft = [&](const std::string& command, const std::string& run, const std::string& device,
                         const std::vector<std::string>& rest = {}) {
    std::vector<std::string> set = {"run_dir=" + run,   "device=" + device,   "train.dtype=bf16",    "train.steps=2",
                                    "lora.dropout=0.1", "train.eval_every=0", "eval.max_tokens=300", "eval.prompt_tokens=2"};
    set.insert(set.end(), rest.begin(), rest.end());
    return run_program(workshop.command(command, set), folder.launch(workshop));
  };
  REQUIRE(graft("prepare", "cpu", "cpu").code == 0);

  folder.add("libgraft_cuda.so", "libgraft_core.so");
  const Outcome other = graft("train", "other", "cuda");
  INFO(other.err);
  CHECK(other.code == 4);
  CHECK(other.err.find(
            "graft: device: cuda: libgraft_cuda.so is of another version: it lacks graft_runtime_open; set device: cpu") !=
        std::string::npos);

  folder.add("libgraft_cuda.so", "libgraft_simt.so");
  const Outcome doctor = graft("doctor", "cuda", "cuda");
  INFO(doctor.out);
  CHECK(doctor.code == 0);
  CHECK(doctor.out.find("simulated on the host, compute capability 8.0, ") != std::string::npos);
  const Outcome cuda = graft("run", "cuda", "cuda"), simt = graft("run", "simt", "simt");
  INFO(cuda.err << simt.err);
  REQUIRE(cuda.code == 0);
  REQUIRE(simt.code == 0);
  CHECK(cuda.err.find("cuda: nobody has run this on a GPU yet") != std::string::npos);
  CHECK(adapter(workshop / "cuda") == adapter(workshop / "simt"));
  const auto losses = [&](const char* run) {
    std::vector<double> nll;
    const Json book = read_json(workshop / run / "scores.json");
    for (const Json& score : book["scores"]) nll.push_back(score["nll"]);
    return nll;
  };
  CHECK(losses("cuda").size() >= 2);
  CHECK(losses("cuda") == losses("simt"));
  const Outcome int8 = graft("train", "int8", "cuda", {"train.base_precision=int8"});
  CHECK(int8.code == 2);
  CHECK(int8.err.find("train.base_precision: int8 is for the CPU, and device is cuda") != std::string::npos);
}

#endif
