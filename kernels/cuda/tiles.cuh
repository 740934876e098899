// Tiles of bf16 matrices in shared memory and products of them on tensor cores (mma.m16n8k16, f32 accumulation; sm_80 on).
// On older GPUs the kernels that use it compile, and trap.
//
// A tile holds rows of kColumns elements, kPad more apart, so that the eight rows that ldmatrix takes at once lie in different
// banks. Accumulators of 16 x 8 products: element i of a lane is row lane / 4 + 8 (i / 2), column 2 (lane % 4) + i % 2.
#pragma once

#include "kernels/cuda/rows.cuh"

#if defined(__CUDACC__)
#define GRAFT_COPY_WAIT(groups) ::graft::cuda::copy_wait<groups>()
#else
#define GRAFT_COPY_WAIT(groups) ::graft::simt::copy_async_wait(__FILE__, __LINE__, groups)
#endif

namespace graft::cuda {

constexpr int kPad = 8;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800

GRAFT_DEVICE void copy_async(void*, const void*, int) { __trap(); }
GRAFT_DEVICE void copy_commit() {}
template <int kGroups>
GRAFT_DEVICE void copy_wait() {}
template <bool kTransposed>
GRAFT_DEVICE void load_matrices(const bf16*, unsigned (&)[4]) {
  __trap();
}
GRAFT_DEVICE void multiply_accumulate(float (&)[4], const unsigned (&)[4], unsigned, unsigned) { __trap(); }

#elif defined(__CUDACC__)

// 16 bytes to shared memory, of which the first `bytes` come from `from` and the rest are zero; they have arrived after a
// GRAFT_COPY_WAIT(n) that leaves at most the n youngest groups in flight, for the thread that copied.
GRAFT_DEVICE void copy_async(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}
GRAFT_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
GRAFT_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
template <bool kTransposed>
GRAFT_DEVICE void load_matrices(const bf16* row, unsigned (&f)[4]) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(address)
                 : "memory");
}

GRAFT_DEVICE void multiply_accumulate(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else

GRAFT_DEVICE void copy_async(void* to, const void* from, int bytes) {
  simt::copy_async(to, from, static_cast<std::size_t>(bytes));
}
GRAFT_DEVICE void copy_commit() { simt::copy_async_commit(); }
template <bool kTransposed>
GRAFT_DEVICE void load_matrices(const bf16* row, unsigned (&f)[4]) {
  simt::load_matrix(row, f, kTransposed);
}
GRAFT_DEVICE void multiply_accumulate(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  simt::multiply_accumulate(c, a, {b0, b1});
}

#endif

// Starts the copy of kRows x kColumns elements; rows and columns from `rows` and `columns` on become zeros.
template <int kRows, int kColumns, int kThreads>
GRAFT_DEVICE void load_tile(bf16* tile, const bf16* from, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                            bool aligned) {
  constexpr int kChunks = kColumns / 8;
  static_assert(kColumns % 8 == 0);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8;
    const auto valid = static_cast<int>(row < rows && column < columns ? smaller<std::int64_t>(8, columns - column) : 0);
    const bf16* source = valid > 0 ? from + row * stride + column : from;
    bf16* target = tile + row * (kColumns + kPad) + column;
    if (aligned) {
      copy_async(target, source, valid * 2);
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) target[k] = k < valid ? source[k] : bf16{0};
    }
  }
}

// sum += A B^T: 16 rows of a tile A and kN rows of a tile B, both of kColumns elements.
template <int kN, int kColumns>
GRAFT_DEVICE void multiply_rows(float (&sum)[kN / 8][4], const bf16* a, const bf16* b) {
  constexpr int kStride = kColumns + kPad;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bf16* a_row = a + lane % 16 * kStride + lane / 16 * 8;
  const bf16* b_row = b + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kColumns; k += 16) {
    unsigned fa[4], fb[4];
    load_matrices<false>(a_row + k, fa);
#pragma unroll
    for (int n = 0; n < kN; n += 16) {
      load_matrices<false>(b_row + n * kStride + k, fb);
      multiply_accumulate(sum[n / 8], fa, fb[0], fb[1]);
      multiply_accumulate(sum[n / 8 + 1], fa, fb[2], fb[3]);
    }
  }
}

// sum += P B: P is 16 x kK in accumulators and rounded to bf16, B the kN columns of a tile of kK rows that begin at b.
template <int kN, int kK>
GRAFT_DEVICE void multiply_columns(float (&sum)[kN / 8][4], const float (&p)[kK / 8][4], const bf16* b, int stride) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bf16* b_row = b + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kK; k += 16) {
    const float(&low)[4] = p[k / 8], (&high)[4] = p[k / 8 + 1];
    const unsigned fa[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                            pack_bf16(high[2], high[3])};
    unsigned fb[4];
#pragma unroll
    for (int n = 0; n < kN; n += 16) {
      load_matrices<true>(b_row + k * stride + n, fb);
      multiply_accumulate(sum[n / 8], fa, fb[0], fb[1]);
      multiply_accumulate(sum[n / 8 + 1], fa, fb[2], fb[3]);
    }
  }
}

// Two neighbouring elements of a row.
GRAFT_DEVICE void store_pair(bf16* to, float low, float high, bool aligned) {
  if (aligned) {
    *reinterpret_cast<std::uint32_t*>(to) = pack_bf16(low, high);
  } else {
    to[0] = to_bf16(low);
    to[1] = to_bf16(high);
  }
}

}  // namespace graft::cuda
