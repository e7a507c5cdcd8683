// Matrix products held by a whole warp of 64 lanes (AMD CDNA). With P = 64 / M, lane l is at part l / M.
//
//   vm_mfma_<M>x<M>x<K><A, B, C>(c, a, b)   c = a * b + c: a is M x K, b is K x M, c is M x M
//
// Fragments, E = K / P elements of a and b in each lane, ascending in k from bit 0 of word 0 up:
//   a: row l % M, k = E (l / M) ...           b: column l % M, k = E (l / M) ...
//   c: word 4 i + j is row 4 P i + 4 (l / M) + j, column l % M; M * M / 64 words
// Types: 16x16x16, 32x32x8: f16 f16 f32, bf16 bf16 f32 (gfx90a); 16x16x32, 32x32x16: i8 i8 i32, wraps
// (gfx940). The emulator adds the products to c in f32 in the order of k, rounding after each.
// Source: AMD, "AMD Instinct MI300 Instruction Set Architecture", on matrix arithmetic.
#pragma once

#if VM_HIP && (defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__))
typedef _Float16 vm_mfma_f16 __attribute__((ext_vector_type(4)));
typedef short vm_mfma_bf16 __attribute__((ext_vector_type(4)));
template <class T, int N> using vm_mfma_vector = T __attribute__((ext_vector_type(N)));

template <int M, int K, class A, class B, class C> struct vm_mfma;
#define VM_MFMA(M, K, type, operand, sum, name)                                                      \
  template <> struct vm_mfma<M, K, type, type, sum> {                                                \
    VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {                        \
      operand x, y;                                                                                  \
      vm_mfma_vector<typename sum::value, M * M / 64> z;                                             \
      __builtin_memcpy(&x, a, sizeof x);                                                             \
      __builtin_memcpy(&y, b, sizeof y);                                                             \
      __builtin_memcpy(&z, c, sizeof z);                                                             \
      z = __builtin_amdgcn_mfma_##name(x, y, z, 0, 0, 0);                                            \
      __builtin_memcpy(c, &z, sizeof z);                                                             \
    }                                                                                                \
  };
VM_MFMA(16, 16, vm_f16, vm_mfma_f16, vm_f32, f32_16x16x16f16)
VM_MFMA(32, 8, vm_f16, vm_mfma_f16, vm_f32, f32_32x32x8f16)
VM_MFMA(16, 16, vm_bf16, vm_mfma_bf16, vm_f32, f32_16x16x16bf16_1k)
VM_MFMA(32, 8, vm_bf16, vm_mfma_bf16, vm_f32, f32_32x32x8bf16_1k)
#if !defined(__gfx90a__)
VM_MFMA(16, 32, vm_i8, long, vm_i32, i32_16x16x32_i8)
VM_MFMA(32, 16, vm_i8, long, vm_i32, i32_32x32x16_i8)
#endif
#undef VM_MFMA
#define VM_MFMA_FUNCTION(M, K)                                                              \
  template <class A, class B, class C>                                                      \
  VM_FUNCTION void vm_mfma_##M##x##M##x##K(unsigned* c, const unsigned* a,                  \
                                           const unsigned* b) {                             \
    vm_mfma<M, K, A, B, C>::run(c, a, b);                                                   \
  }

#elif VM_EMULATOR && VM_WARP_WIDTH == 64
template <int M, int K, class A, class B, class C> static void vm_mfma_body(void** operands, int) {
  vm_mma_operands** lanes = (vm_mma_operands**)operands;
  constexpr int P = 64 / M, E = K / P;
  static typename A::value a[M][K];
  static typename B::value b[M][K];
  for (int lane = 0; lane < 64; lane++)
    for (int e = 0; e < E; e++) {
      a[lane % M][E * (lane / M) + e] = vm_mma_element<A>(lanes[lane]->a, e);
      b[lane % M][E * (lane / M) + e] = vm_mma_element<B>(lanes[lane]->b, e);
    }
  for (int lane = 0; lane < 64; lane++)
    for (int i = 0; i < M * M / 64; i++) {
      const typename A::value* row = a[4 * P * (i / 4) + 4 * (lane / M) + i % 4];
      const typename B::value* column = b[lane % M];
      unsigned& word = lanes[lane]->c[i];
      if constexpr (C::kind == vm_kind_signed) {
        for (int k = 0; k < K; k++) word += (unsigned)((int)row[k] * (int)column[k]);
      } else {
        float sum = vm_float_of(word);
        for (int k = 0; k < K; k++) sum += row[k] * column[k];
        word = vm_word_of(sum);
      }
    }
}
// Each lane has 8 bytes of a and of b, or it is no instruction.
template <int M, int K, class A, class B, class C> constexpr bool vm_mfma_exists =
    vm_is<A, B> && M * K * A::bits == 64 * 64 &&
    (((vm_is<A, vm_f16> || vm_is<A, vm_bf16>) && vm_is<C, vm_f32>) ||
     (vm_is<A, vm_i8> && vm_is<C, vm_i32>));
#define VM_MFMA_FUNCTION(M, K)                                                              \
  template <class A, class B, class C>                                                      \
  VM_FUNCTION void vm_mfma_##M##x##M##x##K(unsigned* c, const unsigned* a,                  \
                                           const unsigned* b VM_PLACE) {                    \
    static_assert(vm_mfma_exists<M, K, A, B, C>, "no such matrix instruction"); \
    vm_mma_operands mine = {c, a, b};                                                       \
    vm_emulator_collective("mfma", place, vm_mfma_body<M, K, A, B, C>, &mine);              \
  }
#endif

#ifdef VM_MFMA_FUNCTION
VM_MFMA_FUNCTION(16, 16)
VM_MFMA_FUNCTION(16, 32)
VM_MFMA_FUNCTION(32, 8)
VM_MFMA_FUNCTION(32, 16)
#undef VM_MFMA_FUNCTION
#endif
