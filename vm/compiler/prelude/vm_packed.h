// Operations on whole words: bits, bytes, and pairs of f16 or bf16 (T below), the lower half first.
// Each rounds once, to nearest even, and overflows to infinity. min and max give the other operand
// where one is NaN, and -0 is less than +0.
#pragma once

// Any function of three bits, bit by bit: bit 4a + 2b + c of `Table` is the result.
template <int Table> VM_FUNCTION unsigned vm_lop3(unsigned a, unsigned b, unsigned c) {
#if VM_CUDA
  unsigned result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(Table));
  return result;
#else
  unsigned result = 0;
  if constexpr ((Table & 1) != 0) result |= ~a & ~b & ~c;
  if constexpr ((Table & 2) != 0) result |= ~a & ~b & c;
  if constexpr ((Table & 4) != 0) result |= ~a & b & ~c;
  if constexpr ((Table & 8) != 0) result |= ~a & b & c;
  if constexpr ((Table & 16) != 0) result |= a & ~b & ~c;
  if constexpr ((Table & 32) != 0) result |= a & ~b & c;
  if constexpr ((Table & 64) != 0) result |= a & b & ~c;
  if constexpr ((Table & 128) != 0) result |= a & b & c;
  return result;
#endif
}
// (a & b) | c: fields into a word of constants.
VM_FUNCTION unsigned vm_and_or(unsigned a, unsigned b, unsigned c) { return vm_lop3<0xea>(a, b, c); }
// The bits of a where the mask is 1, else those of b.
VM_FUNCTION unsigned vm_merge(unsigned a, unsigned b, unsigned mask) { return vm_lop3<0xe4>(a, b, mask); }

// Byte i of the result is the byte of (b:a) that digit i of the selector names: 0..3 in a, 4..7 in b.
VM_FUNCTION unsigned vm_byte_permute(unsigned a, unsigned b, unsigned selector) {
#if VM_CUDA
  return __byte_perm(a, b, selector);
#else
  const unsigned long long both = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++)
    result |= (unsigned)(both >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return result;
#endif
}

// 32 bits of (high:low) from bit `shift` on, 0 to 31.
VM_FUNCTION unsigned vm_funnel(unsigned low, unsigned high, int shift) {
#if VM_CUDA
  return __funnelshift_r(low, high, shift);
#else
  return (unsigned)(((unsigned long long)high << 32 | low) >> shift);
#endif
}

// Two floats as a pair.
template <class T, vm_overflow Mode> VM_FUNCTION unsigned vm_pack(float low, float high) {
#if VM_CUDA
  unsigned pair;
  if constexpr (vm_is<T, vm_f16>) {
    if constexpr (Mode == vm_overflow_saturate)
      asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    if constexpr (Mode == vm_overflow_saturate)
      asm("cvt.rn.satfinite.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#else
  return vm_encode<T, Mode>(low) | vm_encode<T, Mode>(high) << 16;
#endif
}
template <class T> VM_FUNCTION float vm_low(unsigned pair) { return vm_decode<T>(pair & 0xffff); }
template <class T> VM_FUNCTION float vm_high(unsigned pair) { return vm_decode<T>(pair >> 16); }

// a * b + c of floats of type T (at most f32), rounded once.
template <class T> VM_FUNCTION float vm_fma_value(float a, float b, float c) {
  if constexpr (vm_is<T, vm_f32>) {
#if VM_CUDA
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
  } else {
    return vm_to_odd(vm_fma_to_odd(a, b, c));
  }
}

#if VM_HIP
typedef _Float16 vm_halves __attribute__((ext_vector_type(2)));
VM_FUNCTION vm_halves vm_halves_of(unsigned pair) { return __builtin_bit_cast(vm_halves, pair); }
VM_FUNCTION unsigned vm_word_of_halves(vm_halves pair) { return __builtin_bit_cast(unsigned, pair); }
#endif

template <class T> VM_FUNCTION unsigned vm_pair_fma(unsigned a, unsigned b, unsigned c) {
#if VM_CUDA
  unsigned result;
  if constexpr (vm_is<T, vm_f16>)
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
#else
#if VM_HIP
  if constexpr (vm_is<T, vm_f16>)
    return vm_word_of_halves(
        __builtin_elementwise_fma(vm_halves_of(a), vm_halves_of(b), vm_halves_of(c)));
#endif
  return vm_pack<T, vm_overflow_ieee>(vm_fma_value<T>(vm_low<T>(a), vm_low<T>(b), vm_low<T>(c)),
                                      vm_fma_value<T>(vm_high<T>(a), vm_high<T>(b), vm_high<T>(c)));
#endif
}

template <class T> VM_FUNCTION unsigned vm_pair_negated(unsigned a) {
#if VM_CUDA  // which ptxas makes part of an instruction of f16 that takes it
  unsigned result;
  if constexpr (vm_is<T, vm_f16>)
    asm("neg.f16x2 %0, %1;" : "=r"(result) : "r"(a));
  else
    asm("neg.bf16x2 %0, %1;" : "=r"(result) : "r"(a));
  return result;
#else
  return a ^ 0x80008000u;
#endif
}

// Adding, subtracting and multiplying in f32 and rounding again is right for 11 bits and fewer: f32
// has more than twice as many (Figueroa, "When is double rounding innocuous?", 1995). bf16 has no
// such instructions before sm_90: a + b = a * 1 + b, a * b = a * b + -0.
#if VM_CUDA
#define VM_PAIR(name, instruction, before_sm_90)                                            \
  template <class T> VM_FUNCTION unsigned vm_pair_##name(unsigned a, unsigned b) {          \
    unsigned result;                                                                        \
    if constexpr (vm_is<T, vm_f16>)                                                         \
      asm(instruction ".f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));                \
    else if constexpr (VM_ARCH >= 900 || before_sm_90 == 0)                                 \
      asm(instruction ".bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));               \
    else                                                                                    \
      result = before_sm_90 == 1   ? vm_pair_fma<T>(a, 0x3f803f80u, b)                      \
               : before_sm_90 == 2 ? vm_pair_fma<T>(b, 0xbf80bf80u, a)                      \
                                   : vm_pair_fma<T>(a, b, 0x80008000u);                     \
    return result;                                                                          \
  }
VM_PAIR(add, "add.rn", 1)
VM_PAIR(sub, "sub.rn", 2)
VM_PAIR(mul, "mul.rn", 3)
VM_PAIR(min, "min", 0)
VM_PAIR(max, "max", 0)
#undef VM_PAIR
#else
VM_FUNCTION float vm_min_value(float a, float b);
VM_FUNCTION float vm_max_value(float a, float b);
#if VM_HIP
#define VM_PAIR_NATIVE(halves) if constexpr (vm_is<T, vm_f16>) return vm_word_of_halves(halves);
#else
#define VM_PAIR_NATIVE(halves)
#endif
#define VM_PAIR(name, value, native)                                               \
  template <class T> VM_FUNCTION unsigned vm_pair_##name(unsigned x, unsigned y) { \
    native float a = vm_low<T>(x), b = vm_low<T>(y);                               \
    const float low = value;                                                       \
    a = vm_high<T>(x), b = vm_high<T>(y);                                          \
    return vm_pack<T, vm_overflow_ieee>(low, value);                               \
  }
VM_PAIR(add, a + b, VM_PAIR_NATIVE(vm_halves_of(x) + vm_halves_of(y)))
VM_PAIR(sub, a - b, VM_PAIR_NATIVE(vm_halves_of(x) - vm_halves_of(y)))
VM_PAIR(mul, a* b, VM_PAIR_NATIVE(vm_halves_of(x) * vm_halves_of(y)))
VM_PAIR(min, vm_min_value(a, b), )
VM_PAIR(max, vm_max_value(a, b), )
#undef VM_PAIR
#undef VM_PAIR_NATIVE
#endif
