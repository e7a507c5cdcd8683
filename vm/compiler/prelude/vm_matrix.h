// Matrices held by a whole warp of 32 lanes. Lane l is in row g = l / 4 of a fragment, at t = l % 4.
//
//   vm_ldmatrix<Count, Transposed>(words, address)   Count (1, 2, 4) matrices of 8 x 8 16-bit elements
//        from shared memory: lane 8 i + r gives the address (16-byte aligned) of row r of matrix i; word i
//        of each lane becomes elements (g, 2 t) and (g, 2 t + 1) of matrix i, of its transpose if asked
//   vm_stmatrix<Count, Transposed>(address, words)   the reverse (sm_90)
//   vm_movmatrix(word)                               the lane's part of the transpose of one such matrix
//   vm_mma_m16n8k<K><A, B, C>(c, a, b)               c = a * b + c: a is 16 x K, b is K x 8, c is 16 x 8
//
// Fragments of elements of w bits, E = 32 / w in each word, ascending in k:
//   a: word i is row g + 8 (i % 2), k = 4 E (i / 2) + E t ...; 16 K w / 1024 words
//   b: word i is column g, k = 4 E i + E t ...; 8 K w / 1024 words
//   c: f32 and i32, word i is row g + 8 (i / 2), column 2 t + i % 2, 4 words; f16, word i is row g + 8 i,
//      columns 2 t and 2 t + 1, 2 words
// Types: k8, k16: f16 f16 (f32 or f16), bf16 bf16 f32; k4, k8: tf32 tf32 f32; k16, k32: u8 or i8, each,
// i32 (wraps); k32: f8e4m3 or f8e5m2, each, f32 (sm_89). The emulator adds the products to c in f32 in the
// order of k, rounding after each (f16: once more at the end); hardware sums groups exactly and truncates.
#pragma once

#if VM_EMULATOR
// What a lane hands over for a product, and element k of its words.
struct vm_mma_operands {
  unsigned* c;
  const unsigned* a;
  const unsigned* b;
};
template <class T> static typename T::value vm_mma_element(const unsigned* words, int k) {
  constexpr unsigned mask = (unsigned)(~0ull >> (64 - T::bits));
  return vm_decode<T>(words[k * T::bits / 32] >> (k * T::bits % 32) & mask);
}
#endif

#if VM_CUDA
template <int Count, bool Transposed>
VM_FUNCTION void vm_ldmatrix(unsigned* words, unsigned address) {
  const unsigned window = vm_shared_window(address);
#define VM_LDMATRIX(shape, targets, ...)                                                             \
  if constexpr (Transposed)                                                                          \
    asm volatile("ldmatrix.sync.aligned.m8n8." shape ".trans.shared.b16 " targets                    \
                 : __VA_ARGS__ : "r"(window) : "memory");                                            \
  else                                                                                               \
    asm volatile("ldmatrix.sync.aligned.m8n8." shape ".shared.b16 " targets                          \
                 : __VA_ARGS__ : "r"(window) : "memory")
  if constexpr (Count == 1) {
    VM_LDMATRIX("x1", "{%0}, [%1];", "=r"(words[0]));
  } else if constexpr (Count == 2) {
    VM_LDMATRIX("x2", "{%0, %1}, [%2];", "=r"(words[0]), "=r"(words[1]));
  } else {
    VM_LDMATRIX("x4", "{%0, %1, %2, %3}, [%4];", "=r"(words[0]), "=r"(words[1]), "=r"(words[2]),
                "=r"(words[3]));
  }
#undef VM_LDMATRIX
}

#if VM_ARCH >= 900
template <int Count, bool Transposed>
VM_FUNCTION void vm_stmatrix(unsigned address, const unsigned* words) {
  const unsigned window = vm_shared_window(address);
#define VM_STMATRIX(shape, sources, ...)                                                             \
  if constexpr (Transposed)                                                                          \
    asm volatile("stmatrix.sync.aligned.m8n8." shape ".trans.shared.b16 [%0], " sources              \
                 :: "r"(window), __VA_ARGS__ : "memory");                                            \
  else                                                                                               \
    asm volatile("stmatrix.sync.aligned.m8n8." shape ".shared.b16 [%0], " sources                    \
                 :: "r"(window), __VA_ARGS__ : "memory")
  if constexpr (Count == 1) {
    VM_STMATRIX("x1", "{%1};", "r"(words[0]));
  } else if constexpr (Count == 2) {
    VM_STMATRIX("x2", "{%1, %2};", "r"(words[0]), "r"(words[1]));
  } else {
    VM_STMATRIX("x4", "{%1, %2, %3, %4};", "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]));
  }
#undef VM_STMATRIX
}
#endif

VM_FUNCTION unsigned vm_movmatrix(unsigned word) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(word));
  return result;
}

template <int K, class A, class B, class C> struct vm_mma;
#define VM_MMA_4_4(K, A, B, C, shape)                                                                \
  template <> struct vm_mma<K, A, B, C> {                                                            \
    VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {                        \
      asm volatile("mma.sync.aligned.m16n8" shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "  \
                   "{%0, %1, %2, %3};"                                                               \
                   : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                  \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));              \
    }                                                                                                \
  };
#define VM_MMA_2_4(K, A, B, C, shape)                                                                \
  template <> struct vm_mma<K, A, B, C> {                                                            \
    VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {                        \
      asm volatile("mma.sync.aligned.m16n8" shape                                                    \
                   " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                            \
                   : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                  \
                   : "r"(a[0]), "r"(a[1]), "r"(b[0]));                                               \
    }                                                                                                \
  };
VM_MMA_2_4(8, vm_f16, vm_f16, vm_f32, "k8.row.col.f32.f16.f16.f32")
VM_MMA_4_4(16, vm_f16, vm_f16, vm_f32, "k16.row.col.f32.f16.f16.f32")
VM_MMA_2_4(8, vm_bf16, vm_bf16, vm_f32, "k8.row.col.f32.bf16.bf16.f32")
VM_MMA_4_4(16, vm_bf16, vm_bf16, vm_f32, "k16.row.col.f32.bf16.bf16.f32")
VM_MMA_2_4(4, vm_tf32, vm_tf32, vm_f32, "k4.row.col.f32.tf32.tf32.f32")
VM_MMA_4_4(8, vm_tf32, vm_tf32, vm_f32, "k8.row.col.f32.tf32.tf32.f32")
VM_MMA_2_4(16, vm_u8, vm_u8, vm_i32, "k16.row.col.s32.u8.u8.s32")
VM_MMA_2_4(16, vm_u8, vm_i8, vm_i32, "k16.row.col.s32.u8.s8.s32")
VM_MMA_2_4(16, vm_i8, vm_u8, vm_i32, "k16.row.col.s32.s8.u8.s32")
VM_MMA_2_4(16, vm_i8, vm_i8, vm_i32, "k16.row.col.s32.s8.s8.s32")
VM_MMA_4_4(32, vm_u8, vm_u8, vm_i32, "k32.row.col.s32.u8.u8.s32")
VM_MMA_4_4(32, vm_u8, vm_i8, vm_i32, "k32.row.col.s32.u8.s8.s32")
VM_MMA_4_4(32, vm_i8, vm_u8, vm_i32, "k32.row.col.s32.s8.u8.s32")
VM_MMA_4_4(32, vm_i8, vm_i8, vm_i32, "k32.row.col.s32.s8.s8.s32")
#if VM_ARCH >= 890
VM_MMA_2_4(16, vm_f8e4m3, vm_f8e4m3, vm_f32, "k16.row.col.f32.e4m3.e4m3.f32")
VM_MMA_2_4(16, vm_f8e4m3, vm_f8e5m2, vm_f32, "k16.row.col.f32.e4m3.e5m2.f32")
VM_MMA_2_4(16, vm_f8e5m2, vm_f8e4m3, vm_f32, "k16.row.col.f32.e5m2.e4m3.f32")
VM_MMA_2_4(16, vm_f8e5m2, vm_f8e5m2, vm_f32, "k16.row.col.f32.e5m2.e5m2.f32")
VM_MMA_4_4(32, vm_f8e4m3, vm_f8e4m3, vm_f32, "k32.row.col.f32.e4m3.e4m3.f32")
VM_MMA_4_4(32, vm_f8e4m3, vm_f8e5m2, vm_f32, "k32.row.col.f32.e4m3.e5m2.f32")
VM_MMA_4_4(32, vm_f8e5m2, vm_f8e4m3, vm_f32, "k32.row.col.f32.e5m2.e4m3.f32")
VM_MMA_4_4(32, vm_f8e5m2, vm_f8e5m2, vm_f32, "k32.row.col.f32.e5m2.e5m2.f32")
#endif
#undef VM_MMA_4_4
#undef VM_MMA_2_4
#define VM_MMA_1_2(A, B, types)                                                                      \
  template <> struct vm_mma_of_8_rows<A, B> {                                                        \
    VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {                        \
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." types ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};" \
                   : "+r"(c[0]), "+r"(c[1]) : "r"(a[0]), "r"(b[0]));                                 \
    }                                                                                                \
  };
template <class A, class B> struct vm_mma_of_8_rows;
VM_MMA_1_2(vm_u8, vm_u8, "u8.u8")
VM_MMA_1_2(vm_u8, vm_i8, "u8.s8")
VM_MMA_1_2(vm_i8, vm_u8, "s8.u8")
VM_MMA_1_2(vm_i8, vm_i8, "s8.s8")
#undef VM_MMA_1_2
template <> struct vm_mma<8, vm_f16, vm_f16, vm_f16> {
  VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
                 : "+r"(c[0]), "+r"(c[1]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  }
};
template <> struct vm_mma<16, vm_f16, vm_f16, vm_f16> {
  VM_FUNCTION void run(unsigned* c, const unsigned* a, const unsigned* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, "
                 "{%6, %7}, {%0, %1};"
                 : "+r"(c[0]), "+r"(c[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};
#define VM_MMA_FUNCTION(K)                                                                  \
  template <class A, class B, class C>                                                      \
  VM_FUNCTION void vm_mma_m16n8k##K(unsigned* c, const unsigned* a, const unsigned* b) {    \
    vm_mma<K, A, B, C>::run(c, a, b);                                                       \
  }
VM_MMA_FUNCTION(4)
VM_MMA_FUNCTION(8)
VM_MMA_FUNCTION(16)
VM_MMA_FUNCTION(32)
#undef VM_MMA_FUNCTION
template <class A, class B, class C>
VM_FUNCTION void vm_mma_m8n8k16(unsigned* c, const unsigned* a, const unsigned* b) {
  vm_mma_of_8_rows<A, B>::run(c, a, b);
}

#elif VM_EMULATOR && VM_WARP_WIDTH == 32
struct vm_matrix_operands {
  unsigned* words;
  unsigned short* row;
};
// Matrix by matrix between the rows in memory and the words of the lanes.
template <int Count, bool Transposed, bool Stores> static void vm_matrix_body(void** operands, int) {
  vm_matrix_operands** lanes = (vm_matrix_operands**)operands;
  for (int i = 0; i < Count; i++)
    for (int lane = 0; lane < 32; lane++)
      for (int j = 0; j < 2; j++) {
        const int first = lane / 4, second = 2 * (lane % 4) + j;
        const int row = Transposed ? second : first, column = Transposed ? first : second;
        unsigned short* element = &lanes[8 * i + row]->row[column];
        unsigned& word = lanes[lane]->words[i];
        if (Stores)
          *element = (unsigned short)(word >> (16 * j));
        else
          word = (word & ~(0xffffu << (16 * j))) | (unsigned)*element << (16 * j);
      }
}
template <int Count, bool Transposed>
VM_FUNCTION void vm_ldmatrix(unsigned* words, unsigned address VM_PLACE) {
  const bool used = VM_LANE < 8 * Count;
  unsigned result[Count] = {};
  vm_matrix_operands mine = {
      result, used ? (unsigned short*)vm_emulator_shared(address, 16, 16, place) : nullptr};
  vm_emulator_collective("ldmatrix", place, vm_matrix_body<Count, Transposed, false>, &mine);
  for (int i = 0; i < Count; i++) words[i] = result[i];
}
template <int Count, bool Transposed>
VM_FUNCTION void vm_stmatrix(unsigned address, const unsigned* words VM_PLACE) {
  const bool used = VM_LANE < 8 * Count;
  vm_matrix_operands mine = {
      (unsigned*)words, used ? (unsigned short*)vm_emulator_shared(address, 16, 16, place) : nullptr};
  vm_emulator_collective("stmatrix", place, vm_matrix_body<Count, Transposed, true>, &mine);
}

static void vm_movmatrix_body(void** lanes, int) {
  unsigned matrix[32];
  for (int lane = 0; lane < 32; lane++) matrix[lane] = *(unsigned*)lanes[lane];
  for (int lane = 0; lane < 32; lane++) {
    unsigned word = 0;
    for (int j = 0; j < 2; j++) {
      const int row = 2 * (lane % 4) + j, column = lane / 4;
      word |= (matrix[4 * row + column / 2] >> (16 * (column % 2)) & 0xffffu) << (16 * j);
    }
    *(unsigned*)lanes[lane] = word;
  }
}
VM_FUNCTION unsigned vm_movmatrix(unsigned word VM_PLACE) {
  vm_emulator_collective("movmatrix", place, vm_movmatrix_body, &word);
  return word;
}

template <int M, int K, class A, class B, class C> static void vm_mma_body(void** operands, int) {
  vm_mma_operands** lanes = (vm_mma_operands**)operands;
  constexpr int E = 32 / A::bits;
  constexpr int R = M / 8;  // groups of 8 rows
  constexpr bool pairs = C::bits == 16;
  static typename A::value a[M][K];
  static typename B::value b[8][K];
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < R * K / (4 * E); i++)
      for (int e = 0; e < E; e++)
        a[g + 8 * (i % R)][4 * E * (i / R) + E * t + e] =
            vm_mma_element<A>(lanes[lane]->a, E * i + e);
    for (int i = 0; i < K / (4 * E); i++)
      for (int e = 0; e < E; e++)
        b[g][4 * E * i + E * t + e] = vm_mma_element<B>(lanes[lane]->b, E * i + e);
  }
  for (int lane = 0; lane < 32; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2 * R; i++) {
      const typename A::value* row = a[g + 8 * (i / 2)];
      const typename B::value* column = b[2 * t + i % 2];
      unsigned& word = lanes[lane]->c[pairs ? i / 2 : i];
      if constexpr (C::kind == vm_kind_signed) {
        for (int k = 0; k < K; k++) word += (unsigned)((int)row[k] * (int)column[k]);
      } else {
        float sum = pairs ? (i % 2 ? vm_high<vm_f16>(word) : vm_low<vm_f16>(word)) : vm_float_of(word);
        for (int k = 0; k < K; k++) sum += row[k] * column[k];
        if (!pairs)
          word = vm_word_of(sum);
        else if (i % 2)
          word = (word & 0xffffu) | vm_encode<vm_f16, vm_overflow_ieee>(sum) << 16;
        else
          word = (word & 0xffff0000u) | vm_encode<vm_f16, vm_overflow_ieee>(sum);
      }
    }
  }
}
template <class T> constexpr bool vm_is_f8 = vm_is<T, vm_f8e4m3> || vm_is<T, vm_f8e5m2>;
template <class T> constexpr bool vm_is_byte = vm_is<T, vm_u8> || vm_is<T, vm_i8>;
template <int K, class A, class B, class C> constexpr bool vm_mma_exists =
    (vm_is<A, vm_f16> && vm_is<B, vm_f16> && (vm_is<C, vm_f32> || vm_is<C, vm_f16>) && (K == 8 || K == 16)) ||
    (vm_is<A, vm_bf16> && vm_is<B, vm_bf16> && vm_is<C, vm_f32> && (K == 8 || K == 16)) ||
    (vm_is<A, vm_tf32> && vm_is<B, vm_tf32> && vm_is<C, vm_f32> && (K == 4 || K == 8)) ||
    (vm_is_byte<A> && vm_is_byte<B> && vm_is<C, vm_i32> && (K == 16 || K == 32)) ||
    (vm_is_f8<A> && vm_is_f8<B> && vm_is<C, vm_f32> && (K == 16 || K == 32));
#define VM_MMA_FUNCTION(K)                                                                          \
  template <class A, class B, class C>                                                              \
  VM_FUNCTION void vm_mma_m16n8k##K(unsigned* c, const unsigned* a, const unsigned* b VM_PLACE) {   \
    static_assert(vm_mma_exists<K, A, B, C>, "no such matrix instruction");                         \
    vm_mma_operands mine = {c, a, b};                                                               \
    vm_emulator_collective("mma", place, vm_mma_body<16, K, A, B, C>, &mine);                       \
  }
VM_MMA_FUNCTION(4)
VM_MMA_FUNCTION(8)
VM_MMA_FUNCTION(16)
VM_MMA_FUNCTION(32)
#undef VM_MMA_FUNCTION
template <class A, class B, class C>
VM_FUNCTION void vm_mma_m8n8k16(unsigned* c, const unsigned* a, const unsigned* b VM_PLACE) {
  static_assert(vm_is_byte<A> && vm_is_byte<B> && vm_is<C, vm_i32>, "no such matrix instruction");
  vm_mma_operands mine = {c, a, b};
  vm_emulator_collective("mma", place, vm_mma_body<8, 16, A, B, C>, &mine);
}
#endif
