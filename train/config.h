// Everything a run needs; one YAML file. Each field's default, range and meaning stand here and nowhere else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/prepare.h"
#include "lora/config.h"

namespace graft::train {

struct MergeAwareConfig {
  std::string format;
  double share = 0.3;

  template <class V>
  void visit(V& v) {
    v.field(format, "format",
            "a quantized export format: the last steps run on the merged weights rounded as in that file; empty: none do");
    v.field(share, "share", 0.001, 1.0, "share of the steps that do, one at least");
  }
};

struct TrainConfig {
  std::int64_t length = 1024, rows = 4, micro_rows = 1, steps = 0;
  double epochs = 1;
  double learning_rate = 2e-4;
  std::string schedule = "cosine";
  double warmup = 0.03, min_lr = 0.1;
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, clip = 1;
  double label_smoothing = 0, z_loss = 0;
  std::string dtype = "auto", base_precision = "full", long_documents = "split", recompute = "none";
  std::int64_t seed = 0, eval_every = 0, checkpoint_every = 100, keep_checkpoints = 3, max_bad_steps = 5;
  double checkpoint_minutes = 15;
  MergeAwareConfig merge_aware;

  template <class V>
  void visit(V& v) {
    v.field(length, "length", 8, 1 << 20, "tokens of a packed row");
    v.field(rows, "rows", 1, 1 << 20, "rows of one optimizer step (the global batch)");
    v.field(micro_rows, "micro_rows", 1, 1 << 20,
            "rows per forward pass; memory grows with it, results do not change beyond rounding without dropout");
    v.field(steps, "steps", 0, std::int64_t{1} << 40, "optimizer steps; 0: as many as epochs needs");
    v.field(epochs, "epochs", 0.001, 1e4, "passes over the corpus, when steps is 0");
    v.field(learning_rate, "learning_rate", 0.0, 10.0, "peak learning rate");
    v.field(schedule, "schedule", {"cosine", "linear", "constant"}, "learning rate after warmup");
    v.field(warmup, "warmup", 0.0, 1.0, "share of the steps in which the learning rate rises linearly");
    v.field(min_lr, "min_lr", 0.0, 1.0, "final learning rate as a share of the peak (cosine, linear)");
    v.field(weight_decay, "weight_decay", 0.0, 10.0, "decoupled weight decay of AdamW");
    v.field(beta1, "beta1", 0.0, 0.99999, "AdamW");
    v.field(beta2, "beta2", 0.0, 0.99999999, "AdamW");
    v.field(epsilon, "epsilon", 1e-30, 1.0, "AdamW");
    v.field(clip, "clip", 0.0, 1e9, "global gradient norm above which gradients are scaled down; 0: off");
    v.field(
        label_smoothing, "label_smoothing", 0.0, 0.5,
        "share of the target that is spread over the whole vocabulary; the loss of training includes it, held-out scores do not");
    v.field(z_loss, "z_loss", 0.0, 1.0,
            "weight of the squared log of the softmax's normaliser, added to the loss of training (1e-4 is usual)");
    v.field(dtype, "dtype", {"auto", "bf16", "fp32"},
            "auto: bf16 base, computed in bf16 where that is fast, else in fp32; fp32: weights as in the file");
    v.field(base_precision, "base_precision", {"full", "int8", "nf4"},
            "of the layers' frozen weights while training: full: as dtype; int8: products in 8 bits, faster on CPUs with "
            "AVX512-VNNI; nf4: held in 4 bits (QLoRA), a quarter of bf16's memory");
    v.field(long_documents, "long_documents", {"split", "truncate", "drop"}, "documents longer than a row");
    v.field(recompute, "recompute", {"none", "layers"}, "layers: less memory, about a third more time");
    v.field(seed, "seed", 0, std::int64_t{1} << 62, "of initialisation, order and dropout");
    v.field(eval_every, "eval_every", 0, std::int64_t{1} << 40, "steps between held-out evaluations; 0: at the end only");
    v.field(checkpoint_every, "checkpoint_every", 1, std::int64_t{1} << 40, "steps between checkpoints");
    v.field(checkpoint_minutes, "checkpoint_minutes", 0.0, 1e6,
            "minutes after which a checkpoint is written at the end of a step in any case; 0: never");
    v.field(keep_checkpoints, "keep_checkpoints", 1, 1000, "newest checkpoints kept");
    v.field(max_bad_steps, "max_bad_steps", 1, 1000000, "non-finite steps in a row after which the run stops");
    v.section(merge_aware, "merge_aware", "learning to live with the rounding of an export format");
  }
};

struct EvalConfig {
  std::int64_t length = 1024, max_tokens = 0;
  std::vector<std::string> prompts;
  std::int64_t prompt_tokens = 64;

  template <class V>
  void visit(V& v) {
    v.field(length, "length", 8, 1 << 20, "context window in tokens");
    v.field(max_tokens, "max_tokens", 0, std::int64_t{1} << 40, "held-out tokens per evaluation; 0: all");
    v.field(prompts, "prompts", "answered by base and adapted model in the report");
    v.field(prompt_tokens, "prompt_tokens", 1, 1 << 16, "length of those answers");
  }
};

struct CalibrationConfig {
  std::int64_t rows = 128;

  template <class V>
  void visit(V& v) {
    v.field(rows, "rows", 1, 1 << 20,
            "packed rows of train.length training tokens for the formats that look at documents (graft help formats)");
  }
};

struct ExportConfig {
  std::string dir = "export";
  std::vector<std::string> formats = {"peft"}, serve;
  std::int64_t tensor_parallel = 1;
  double min_survival = 0.8;
  CalibrationConfig calibration;
  std::string signing_key;

  template <class V>
  void visit(V& v) {
    v.field(dir, "dir", "directory of the exported artifacts, one folder or file each; relative to run_dir");
    v.field(formats, "formats", "what to write; `graft help formats` lists them");
    v.field(serve, "serve",
            "servers that must read these formats, checked before training: vllm, llama.cpp, ollama, tensorrt-llm, triton");
    v.field(tensor_parallel, "tensor_parallel", 1, 1024, "devices over which those servers cut each matrix");
    v.field(min_survival, "min_survival", 0.0, 1.0,
            "a quantized file that keeps less of the adapter's gain on the held-out documents is not kept; 0: any is");
    v.section(calibration, "calibration", "documents for quantizers that look at some");
    v.field(signing_key, "signing_key", "private Ed25519 key (PEM) that signs manifest.json; empty: not signed");
  }
};

struct RunConfig {
  std::string base, run_dir = "run", device = "auto";
  std::int64_t threads = 0;
  data::CorpusConfig corpus;
  lora::LoraConfig lora;
  TrainConfig train;
  EvalConfig eval;
  ExportConfig export_;

  template <class V>
  void visit(V& v) {
    v.field(base, "base", "the open-weight model: a Hugging Face directory or a GGUF file");
    v.field(run_dir, "run_dir", "directory of checkpoints, metrics, report and exports");
    v.field(
        device, "device", {"auto", "cpu", "cuda", "simt"},
        "where kernels run; auto: the CPU, until cuda has been measured; simt: the CUDA kernels simulated on the CPU, for tests");
    v.field(threads, "threads", 0, 1024, "CPU threads; 0: all. Part of a run's identity: the same number gives the same bits");
    v.section(corpus, "corpus", "documents and their tokenized form");
    v.section(lora, "lora", "the adapter");
    v.section(train, "train", "training");
    v.section(eval, "eval", "held-out evaluation");
    v.section(export_, "export", "files for serving");
  }
};

}  // namespace graft::train
