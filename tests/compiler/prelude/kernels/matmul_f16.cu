// C[M, N] = A[M, K] * B[K, N], all f16, f32 accumulators; what the compiler is to emit, by hand.
// Tiles of 64 x 64 x 32, 4 warps of 32 x 32, 3 stages. K % 32 == 0, N % 8 == 0.
#include "vm.h"

VM_KERNEL(matmul_f16, 128, 2)(const unsigned char* a, const unsigned char* b, unsigned char* c, int m,
                              int n, int k) {
  VM_SHARED(24576);
  const int block_m = VM_BLOCK_INDEX(0) * 64;
  const int block_n = VM_BLOCK_INDEX(1) * 64;
  const int thread = VM_THREAD;
  const int lane = VM_LANE;
  const int warp = VM_WARP;
  // a: 64 rows of 4 chunks of 16 bytes, 2 chunks a thread; b: 32 rows of 8 chunks, 2 chunks a thread
  const int a_row = thread / 4;
  const int a_chunk = thread % 4;
  const unsigned a_target = a_row * 64 + (a_chunk ^ (a_row / 2 % 4)) * 16;
  const unsigned char* a_source = a + ((long long)(block_m + a_row) * k + a_chunk * 8) * 2;
  const bool a_inside_0 = block_m + a_row < m;
  const bool a_inside_1 = block_m + a_row + 32 < m;
  const int b_row = thread / 8;
  const int b_chunk = thread % 8;
  const unsigned b_target = 4096 + b_row * 128 + (b_chunk ^ (b_row % 8)) * 16;
  const unsigned char* b_source = b + ((long long)b_row * n + block_n + b_chunk * 8) * 2;
  const bool b_inside = block_n + b_chunk * 8 < n;
  VM_UNROLL for (int stage = 0; stage < 2; stage++) {
    const bool more = stage * 32 < k;
    vm_copy_async<16>(a_target + stage * 8192, a_source + stage * 64, more && a_inside_0);
    vm_copy_async<16>(a_target + stage * 8192 + 2048, a_source + stage * 64 + (long long)k * 64, more && a_inside_1);
    vm_copy_async<16>(b_target + stage * 8192, b_source + (long long)n * (stage * 64), more && b_inside);
    vm_copy_async<16>(b_target + stage * 8192 + 2048, b_source + (long long)n * (stage * 64 + 32), more && b_inside);
    vm_commit_async();
  }
  vm_register<vm_f32, 32> accumulator;
  vm_fill(accumulator, 0);
  const int warp_m = warp / 2 * 32;
  const int warp_n = warp % 2 * 32;
  const int a_fragment_row = warp_m + lane % 16;
  const unsigned a_fragment = a_fragment_row * 64;
  const int a_fragment_swizzle = a_fragment_row / 2 % 4;
  const int b_fragment_row = lane % 16;
  const unsigned b_fragment = 4096 + b_fragment_row * 128;
  const int b_fragment_chunk = warp_n / 8 + lane / 16;
  const int b_fragment_swizzle = b_fragment_row % 8;
  int stage = 0;
  for (int step = 0; step < k / 32; step++) {
    vm_wait_async<1>();
    vm_synchronize();
    const int next = step + 2;
    const unsigned next_stage = stage == 0 ? 2 : stage - 1;
    const bool more = next < k / 32;
    vm_copy_async<16>(a_target + next_stage * 8192, a_source + (long long)next * 64, more && a_inside_0);
    vm_copy_async<16>(a_target + next_stage * 8192 + 2048, a_source + (long long)next * 64 + (long long)k * 64, more && a_inside_1);
    vm_copy_async<16>(b_target + next_stage * 8192, b_source + (long long)n * (next * 64), more && b_inside);
    vm_copy_async<16>(b_target + next_stage * 8192 + 2048, b_source + (long long)n * (next * 64 + 32), more && b_inside);
    vm_commit_async();
    VM_UNROLL for (int half = 0; half < 2; half++) {
      vm_register<vm_f16, 16> a_part;
      vm_register<vm_f16, 16> b_part;
      VM_UNROLL for (int i = 0; i < 2; i++)
        vm_ldmatrix<4, false>(a_part.words + 4 * i, stage * 8192 + a_fragment + i * 1024 + (((half * 2 + lane / 16) ^ a_fragment_swizzle) * 16));
      VM_UNROLL for (int j = 0; j < 2; j++)
        vm_ldmatrix<4, true>(b_part.words + 4 * j, stage * 8192 + b_fragment + half * 2048 + (((b_fragment_chunk + j * 2) ^ b_fragment_swizzle) * 16));
      VM_UNROLL for (int i = 0; i < 2; i++)
        VM_UNROLL for (int j = 0; j < 4; j++)
          vm_mma_m16n8k16<vm_f16, vm_f16, vm_f32>(accumulator.words + 4 * (4 * i + j), a_part.words + 4 * i, b_part.words + 2 * j);
    }
    stage = stage == 2 ? 0 : stage + 1;
  }
  vm_register<vm_f16, 32> result;
  vm_cast(result, accumulator);
  VM_UNROLL for (int i = 0; i < 2; i++)
    VM_UNROLL for (int j = 0; j < 4; j++)
      VM_UNROLL for (int h = 0; h < 2; h++) {
        const int row = block_m + warp_m + i * 16 + h * 8 + lane / 4;
        const int column = block_n + warp_n + j * 8 + lane % 4 * 2;
        vm_store_global<4>(c + ((long long)row * n + column) * 2, result.words, 4 * (2 * (4 * i + j) + h), row < m && column < n);
      }
}
