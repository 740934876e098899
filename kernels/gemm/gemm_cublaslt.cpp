// gemm.h with cuBLASLt; compiled into libgraft_cuda.so alone. Sums are f32 (CUBLAS_COMPUTE_32F: no TF32), split sums only where
// the library adds them in a fixed order.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include "kernels/gemm/gemm.h"

namespace graft::cuda {
namespace {

constexpr int kInvalidValue = 1;
constexpr std::size_t kMostPlans = 4096;

cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 that every column of the matrix starts at a multiple of: what the heuristic may rely on.
std::uint32_t alignment(const void* data, std::int64_t ld, DType type) {
  const auto bits =
      reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(ld * (type == DType::bf16 ? 2 : 4)) | 256;
  return static_cast<std::uint32_t>(bits & -bits);
}

template <class Handle, auto destroy>
struct Destroy {
  void operator()(Handle* handle) const { destroy(handle); }
};
template <auto destroy, class Handle>
using Owned = std::unique_ptr<Handle, Destroy<Handle, destroy>>;

using Layout = Owned<cublasLtMatrixLayoutDestroy, cublasLtMatrixLayoutOpaque_t>;
using Operation = Owned<cublasLtMatmulDescDestroy, cublasLtMatmulDescOpaque_t>;
using Preference = Owned<cublasLtMatmulPreferenceDestroy, cublasLtMatmulPreferenceOpaque_t>;

Layout layout(DType type, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  cublasLtMatrixLayout_t made = nullptr;
  cublasLtMatrixLayoutCreate(&made, data_type(type), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), ld);
  return Layout(made);
}

Layout layout(const GemmOperand& x, std::int64_t rows, std::int64_t columns, DType type) {
  return x.transposed ? layout(type, columns, rows, x.ld) : layout(type, rows, columns, x.ld);
}

Operation operation(const Gemm& g) {
  cublasLtMatmulDesc_t made = nullptr;
  cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const cublasOperation_t a = g.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, b = g.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  if (made != nullptr) {
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a);
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b);
  }
  return Operation(made);
}

// What the heuristic's answer depends on.
using Problem = std::array<std::int64_t, 14>;

Problem problem(const Gemm& g, std::size_t workspace_bytes) {
  return {g.m,
          g.n,
          g.k,
          g.a.ld,
          g.b.ld,
          g.ldc,
          g.a.transposed,
          g.b.transposed,
          static_cast<std::int64_t>(g.type),
          static_cast<std::int64_t>(g.c_type),
          alignment(g.a.data, g.a.ld, g.type),
          alignment(g.b.data, g.b.ld, g.type),
          alignment(g.c, g.ldc, g.c_type),
          static_cast<std::int64_t>(workspace_bytes)};
}

Preference preference(const Gemm& g, std::size_t workspace_bytes) {
  cublasLtMatmulPreference_t made = nullptr;
  cublasLtMatmulPreferenceCreate(&made);
  if (made == nullptr) return {};
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{std::min<std::size_t>(workspace_bytes, 32u << 20)});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g.a.data, g.a.ld, g.type));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g.b.data, g.b.ld, g.type));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(g.c, g.ldc, g.c_type));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(g.c, g.ldc, g.c_type));
  return Preference(made);
}

struct Plan {
  Operation product;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

cublasStatus_t make(cublasLtHandle_t handle, const Gemm& g, std::size_t workspace_bytes, Plan& plan) {
  plan = {operation(g), layout(g.a, g.m, g.k, g.type), layout(g.b, g.k, g.n, g.type), layout(g.c_type, g.m, g.n, g.ldc), {}};
  const Preference wanted = preference(g, workspace_bytes);
  if (!plan.product || !plan.a || !plan.b || !plan.c || !wanted) return CUBLAS_STATUS_ALLOC_FAILED;
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t asked = cublasLtMatmulAlgoGetHeuristic(handle, plan.product.get(), plan.a.get(), plan.b.get(),
                                                              plan.c.get(), plan.c.get(), wanted.get(), 1, &found, &count);
  if (asked != CUBLAS_STATUS_SUCCESS) return asked;
  plan.algorithm = found.algo;
  return count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" int graft_gemm(const Gemm& g, void* workspace, std::size_t workspace_bytes, Stream stream) {
  if (gemm_fault(g) != nullptr || g.k == 0) return kInvalidValue;
  if (g.m == 0 || g.n == 0) return 0;
  static cublasLtHandle_t const handle = [] {
    cublasLtHandle_t made = nullptr;
    return cublasLtCreate(&made) == CUBLAS_STATUS_SUCCESS ? made : nullptr;
  }();
  if (handle == nullptr) return kGemmCublasError + CUBLAS_STATUS_NOT_INITIALIZED;
  // A step repeats its products; only the rows with a label differ, so that there are never many. One thread launches.
  static auto& plans = *new std::map<Problem, Plan>;  // not destroyed after the driver
  const Problem key = problem(g, workspace_bytes);
  auto known = plans.find(key);
  if (known == plans.end()) {
    Plan made;
    if (const cublasStatus_t fault = make(handle, g, workspace_bytes, made)) return kGemmCublasError + fault;
    if (plans.size() >= kMostPlans) plans.clear();
    known = plans.emplace(key, std::move(made)).first;
  }
  const Plan& plan = known->second;
  const cublasStatus_t done =
      cublasLtMatmul(handle, plan.product.get(), &g.alpha, g.a.data, plan.a.get(), g.b.data, plan.b.get(), &g.beta, g.c,
                     plan.c.get(), g.c, plan.c.get(), &plan.algorithm, workspace, workspace_bytes, stream);
  return done == CUBLAS_STATUS_SUCCESS ? 0 : kGemmCublasError + done;
}

}  // namespace graft::cuda
