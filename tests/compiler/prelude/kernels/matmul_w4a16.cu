// C[M, N] = A[M, K] * ((B - zero) * scale), A f16, B u4 packed by fragment, one scale (f16) and zero
// (u4, in a byte) for each column and 64 rows of K; what the compiler is to emit, by hand.
// Tiles of 64 x 64 x 64, 4 warps side by side in N (64 x 16 each). M % 64 == 0.
// Packed B: for each tile of K and tile of N, 16 bytes for each thread: its 32 codes, 16 for each of its two
// blocks of 8 columns, 4 for each of 4 steps of 16 rows of K, in the order of the fragment of m16n8k16.
#include "vm.h"

VM_KERNEL(matmul_w4a16, 128, 2)(const unsigned char* a, const unsigned char* b, const unsigned char* scales,
                                const unsigned char* zeros, unsigned char* c, int m, int n, int k) {
  VM_SHARED(16384);
  const int block_m = VM_BLOCK_INDEX(0) * 64;
  const int block_n = VM_BLOCK_INDEX(1) * 64;
  const int thread = VM_THREAD;
  const int lane = VM_LANE;
  const int warp = VM_WARP;
  const int a_row = thread / 8;
  const int a_chunk = thread % 8;
  const unsigned a_target = a_row * 128 + (a_chunk ^ (a_row % 8)) * 16;
  const unsigned char* a_source = a + ((long long)(block_m + a_row) * k + a_chunk * 8) * 2;
  vm_register<vm_f32, 32> accumulator;
  vm_fill(accumulator, 0);
  VM_UNROLL for (int i = 0; i < 4; i++)
    vm_copy_async<16>(a_target + i * 2048, a_source + (long long)k * (i * 32));
  vm_commit_async();
  for (int step = 0; step < k / 64; step++) {
    const unsigned stage = step % 2 * 8192;
    vm_wait_async<0>();
    vm_synchronize();
    VM_UNROLL for (int i = 0; i < 4; i++)
      vm_copy_async<16>(a_target + (8192 - stage) + i * 2048, a_source + (long long)(step + 1) * 128 + (long long)k * (i * 32), step + 1 < k / 64);
    vm_commit_async();
    vm_register<vm_u8, 16> packed;
    vm_load_global<16, vm_cache_constant_stream>(packed.words, 0, b + ((long long)step * (n / 64) + VM_BLOCK_INDEX(1)) * 2048 + thread * 16);
    vm_register<vm_u4, 32> codes;
    vm_view(codes, packed);
    vm_register<vm_f16, 32> weights;
    vm_cast(weights, codes);
    VM_UNROLL for (int i = 0; i < 2; i++) {
      const int column = block_n + warp * 16 + i * 8 + lane / 4;
      vm_register<vm_f16, 1> scale;
      vm_register<vm_u8, 1> zero_code;
      vm_register<vm_f16, 1> zero;
      vm_load_global<2>(scale.words, 0, scales + ((long long)step * n + column) * 2);
      vm_load_global<1>(zero_code.words, 0, zeros + (long long)step * n + column);
      vm_cast(zero, zero_code);
      vm_register<vm_f16, 16> part;
      VM_UNROLL for (int w = 0; w < 8; w++) part.words[w] = weights.words[8 * i + w];
      vm_sub(part, part, zero);
      vm_mul(part, part, scale);
      VM_UNROLL for (int s = 0; s < 4; s++)
        VM_UNROLL for (int j = 0; j < 4; j++) {
          vm_register<vm_f16, 8> rows;
          const int row = j * 16 + lane % 16;
          vm_ldmatrix<4, false>(rows.words, stage + row * 128 + ((s * 2 + lane / 16) ^ (row % 8)) * 16);
          vm_mma_m16n8k16<vm_f16, vm_f16, vm_f32>(accumulator.words + 4 * (2 * j + i), rows.words, part.words + 2 * s);
        }
    }
  }
  vm_register<vm_f16, 32> result;
  vm_cast(result, accumulator);
  VM_UNROLL for (int j = 0; j < 4; j++)
    VM_UNROLL for (int i = 0; i < 2; i++)
      VM_UNROLL for (int h = 0; h < 2; h++) {
        const int row = block_m + j * 16 + h * 8 + lane / 4;
        const int column = block_n + warp * 16 + i * 8 + lane % 4 * 2;
        vm_store_global<4>(c + ((long long)row * n + column) * 2, result.words, 4 * (2 * (2 * j + i) + h), row < m && column < n);
      }
}
