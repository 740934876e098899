// A merged model as one GGUF file, in each kind of file of llama.cpp (docs/formats.md). "-imatrix": its importance weights, from
// the training documents; "-awq-gptq": AWQ's scales, then GPTQ's codes in its blocks.
#include "export/gguf_model.h"

namespace graft::exports {
namespace {

constexpr Quantizer kImportance = Quantizer::importance;

constexpr Exporter kFormats[] = {
    gguf_exporter<GgufFileType::f32>("gguf-f32", "merged model as one GGUF file, matrices in f32"),
    gguf_exporter<GgufFileType::f16>("gguf-f16", "merged model as one GGUF file, matrices in f16"),
    gguf_exporter<GgufFileType::bf16>("gguf-bf16", "merged model as one GGUF file, matrices in bf16"),
    gguf_exporter<GgufFileType::q8_0>("gguf-q8_0", "merged model as one GGUF file, matrices in Q8_0 (8.5 bits per weight)"),
    gguf_exporter<GgufFileType::q4_0>("gguf-q4_0", "merged model as one GGUF file, matrices in Q4_0 (4.5 bits per weight)"),
    gguf_exporter<GgufFileType::q4_1>("gguf-q4_1", "merged model as one GGUF file, matrices in Q4_1 (5 bits per weight)"),
    gguf_exporter<GgufFileType::q5_0>("gguf-q5_0", "merged model as one GGUF file, matrices in Q5_0 (5.5 bits per weight)"),
    gguf_exporter<GgufFileType::q5_1>("gguf-q5_1", "merged model as one GGUF file, matrices in Q5_1 (6 bits per weight)"),
    gguf_exporter<GgufFileType::q4_k_s>(
        "gguf-q4_k_s", "merged model as one GGUF file, matrices in Q4_K, a few in Q5_K (about 4.6 bits per weight)"),
    gguf_exporter<GgufFileType::q4_k_m>(
        "gguf-q4_k_m", "merged model as one GGUF file, matrices in Q4_K, sensitive ones in Q6_K (about 4.9 bits per weight)"),
    gguf_exporter<GgufFileType::q5_k_m>(
        "gguf-q5_k_m", "merged model as one GGUF file, matrices in Q5_K, sensitive ones in Q6_K (about 5.7 bits per weight)"),
    gguf_exporter<GgufFileType::q6_k>("gguf-q6_k", "merged model as one GGUF file, matrices in Q6_K (6.6 bits per weight)"),
    gguf_exporter<GgufFileType::q4_0, kImportance>("gguf-q4_0-imatrix",
                                                   "as gguf-q4_0, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q4_0, Quantizer::awq_gptq>(
        "gguf-q4_0-awq-gptq", "as gguf-q4_0, scaled by AWQ, then rounded by GPTQ with the training documents"),
    gguf_exporter<GgufFileType::q4_1, kImportance>("gguf-q4_1-imatrix",
                                                   "as gguf-q4_1, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q5_0, kImportance>("gguf-q5_0-imatrix",
                                                   "as gguf-q5_0, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q5_1, kImportance>("gguf-q5_1-imatrix",
                                                   "as gguf-q5_1, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q4_k_s, kImportance>(
        "gguf-q4_k_s-imatrix", "as gguf-q4_k_s, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q4_k_m, kImportance>(
        "gguf-q4_k_m-imatrix", "as gguf-q4_k_m, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q5_k_m, kImportance>(
        "gguf-q5_k_m-imatrix", "as gguf-q5_k_m, rounded with importance weights from the training documents"),
    gguf_exporter<GgufFileType::q6_k, kImportance>("gguf-q6_k-imatrix",
                                                   "as gguf-q6_k, rounded with importance weights from the training documents"),
};

}  // namespace

extern const FormatFamily gguf;
const FormatFamily gguf = kFormats;

}  // namespace graft::exports
