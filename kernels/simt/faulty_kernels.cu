// Kernels with a fault each, and some without: what simt_test.cpp expects the simulator to report. Declared in faulty_kernels.h.
#include "kernels/simt/faulty_kernels.h"

#include "kernels/cuda/tiles.cuh"

namespace graft::cuda {
namespace {

constexpr int kThreads = 64;

void reverse(const float* in, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  held[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = held[kThreads - 1 - threadIdx.x];
}

void reverse_in_warp(const float* in, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  held[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = held[threadIdx.x ^ 31];
}

void across_blocks(const float*, float* out) { out[threadIdx.x] = static_cast<float>(blockIdx.x); }

void read_across_blocks(const float*, float* out) {
  if (blockIdx.x == 0)
    out[threadIdx.x] = 1;
  else
    out[kThreads + threadIdx.x] = out[threadIdx.x] + 1;
}

void past_the_end(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x + 1]; }

void past_shared(const float* in, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  held[threadIdx.x + 1] = in[threadIdx.x];
  out[threadIdx.x] = 0;
}

void never_written(const float*, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  out[threadIdx.x] = held[threadIdx.x];
}

void misaligned(const float* in, float* out) {
  const uint4 v = load16(in + 1);
  out[threadIdx.x] = bits_to_float(v.x);
}

void divergent_barrier(const float*, float* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 0;
}

void exited_before_barrier(const float*, float* out) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 0;
}

void lane_exited(const float* in, float* out) {
  if (threadIdx.x == 40) return;
  out[threadIdx.x] = __shfl_xor_sync(kFullWarp, in[threadIdx.x], 1);
}

void lane_at_barrier(const float* in, float* out) {
  if (threadIdx.x == 3) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(kFullWarp, in[threadIdx.x], 1);
}

void not_in_mask(const float* in, float* out) { out[threadIdx.x] = __shfl_xor_sync(0x7fffffffu, in[threadIdx.x], 1); }

void copy(const float* in, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  if (threadIdx.x < kThreads / 4) copy_async(held + 4 * threadIdx.x, in + 4 * threadIdx.x, threadIdx.x == 15 ? 8 : 16);
  copy_commit();
  GRAFT_COPY_WAIT(0);
  __syncthreads();
  out[threadIdx.x] = held[threadIdx.x];
}

void copy_never_waited(const float* in, float* out) {
  GRAFT_SHARED(float, held, kThreads);
  copy_async(held, in, 16);
  copy_commit();
  out[threadIdx.x] = 0;
}

void votes(const float* in, float* out) {
  const unsigned even = __ballot_sync(kFullWarp, threadIdx.x % 2 == 0);
  const bool any = __any_sync(kFullWarp, in[threadIdx.x] > 62), all = __all_sync(kFullWarp, in[threadIdx.x] >= 0);
  const float half = threadIdx.x % 32 < 16 ? __shfl_xor_sync(0x0000ffffu, in[threadIdx.x], 15)
                                           : __shfl_xor_sync(0xffff0000u, in[threadIdx.x], 15);
  out[threadIdx.x] = half + (even == 0x55555555u ? 100.f : 0.f) + (any ? 1000.f : 0.f) + (all ? 10000.f : 0.f);
}

void atomics(const float*, float* out) {
  atomicAdd(out, 1.f);
  atomicMax(out + 1, static_cast<float>(threadIdx.x));
}

void product(const float* a, float* out) {  // (16 x 16) (8 x 16)^T, rows of a: first A, then B
  GRAFT_SHARED(bf16, held, 24 * (16 + kPad));
  for (int i = static_cast<int>(threadIdx.x); i < 24 * 16; i += 32) held[i / 16 * (16 + kPad) + i % 16] = to_bf16(a[i]);
  __syncwarp();
  float c[1][4] = {};
  unsigned fa[4], fb[4];
  const int lane = static_cast<int>(threadIdx.x);
  load_matrices<false>(held + lane % 16 * (16 + kPad) + lane / 16 * 8, fa);
  load_matrices<false>(held + (16 + lane % 8) * (16 + kPad) + lane / 8 % 2 * 8, fb);
  multiply_accumulate(c[0], fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = c[0][i];
}

void transposed(const float* a, float* out) {  // the four 8 x 8 quarters of a 16 x 16 tile, each transposed
  GRAFT_SHARED(bf16, held, 16 * (16 + kPad));
  for (int i = static_cast<int>(threadIdx.x); i < 16 * 16; i += 32) held[i / 16 * (16 + kPad) + i % 16] = to_bf16(a[i]);
  __syncwarp();
  const int lane = static_cast<int>(threadIdx.x);
  unsigned f[4];
  load_matrices<true>(held + lane % 16 * (16 + kPad) + lane / 16 * 8, f);
  for (int m = 0; m < 4; ++m) {
    const int row = lane / 4 + m / 2 * 8, column = 2 * (lane % 4) + m % 2 * 8;
    out[row * 16 + column] = bits_to_float(f[m] << 16);
    out[row * 16 + column + 1] = bits_to_float(f[m] & 0xffff0000u);
  }
}

struct Named {
  const char* name;
  void (*kernel)(const float*, float*);
};
#define GRAFT_NAMED(kernel) \
  Named { #kernel, kernel }
const Named kernels[] = {GRAFT_NAMED(reverse),           GRAFT_NAMED(reverse_in_warp),
                         GRAFT_NAMED(across_blocks),     GRAFT_NAMED(read_across_blocks),
                         GRAFT_NAMED(past_the_end),      GRAFT_NAMED(past_shared),
                         GRAFT_NAMED(never_written),     GRAFT_NAMED(misaligned),
                         GRAFT_NAMED(divergent_barrier), GRAFT_NAMED(exited_before_barrier),
                         GRAFT_NAMED(lane_exited),       GRAFT_NAMED(lane_at_barrier),
                         GRAFT_NAMED(not_in_mask),       GRAFT_NAMED(copy),
                         GRAFT_NAMED(copy_never_waited), GRAFT_NAMED(votes),
                         GRAFT_NAMED(atomics),           GRAFT_NAMED(product),
                         GRAFT_NAMED(transposed)};

}  // namespace

void run_named(const std::string& name, unsigned blocks, unsigned threads, const float* in, float* out) {
  for (const Named& named : kernels) {
    if (name != named.name) continue;
    simt::launch(nullptr, named.name, dim3(blocks), dim3(threads), 0, named.kernel, in, out);
    return;
  }
  throw std::invalid_argument("no kernel " + name);
}

}  // namespace graft::cuda
