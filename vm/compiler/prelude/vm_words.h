// Instructions on words, of a thread's own (C++ numbers) and of registers, word by word: an operand is
// a register with as many words as the target, or one word for all of them.
//
//   vm_lop3<Table>(a, b, c)         any function of three bits (vm_packed.h)
//   vm_prmt(a, b, selector)         bytes; unlike vm_byte_permute, a digit of 8 or more gives the sign
//                                   of the byte that it names
//   vm_shift_left<Bits>(a), vm_shift_right<Bits, Signed>(a), vm_funnel_shift<Bits>(low, high)
//   vm_half2_add<T>(a, b), vm_half2_mul<T>(a, b), vm_half2_fma<T>(a, b, c)    pairs of f16 or bf16
//   vm_cvt_pack<T, Mode>(target, low, high)                                   of two f32
//   vm_cvt_f8x2_to_half2<T>(a), vm_cvt_half2_to_f8x2<T>(a)                    the f8 in the lower half
#pragma once

VM_FUNCTION unsigned vm_prmt(unsigned a, unsigned b, unsigned selector) {
  unsigned result;
#if VM_CUDA
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
#else
  result = 0;
  const unsigned bytes = vm_byte_permute(a, b, selector & 0x7777u);
  for (int i = 0; i < 4; i++) {
    const unsigned byte = bytes >> (8 * i) & 0xff;
    const bool sign = (selector >> (4 * i) & 8) != 0;
    result |= (sign ? (byte >> 7) * 0xff : byte) << (8 * i);
  }
#endif
  return result;
}
template <int Bits> VM_FUNCTION unsigned vm_shift_left(unsigned a) { return a << Bits; }
template <int Bits, bool Signed> VM_FUNCTION unsigned vm_shift_right(unsigned a) {
  return Signed ? (unsigned)((int)a >> Bits) : a >> Bits;
}
template <int Bits> VM_FUNCTION unsigned vm_funnel_shift(unsigned low, unsigned high) {
  return vm_funnel(low, high, Bits);
}
template <class T> VM_FUNCTION unsigned vm_half2_add(unsigned a, unsigned b) {
  return vm_pair_add<T>(a, b);
}
template <class T> VM_FUNCTION unsigned vm_half2_mul(unsigned a, unsigned b) {
  return vm_pair_mul<T>(a, b);
}
template <class T> VM_FUNCTION unsigned vm_half2_fma(unsigned a, unsigned b, unsigned c) {
  return vm_pair_fma<T>(a, b, c);
}
template <class T> VM_FUNCTION unsigned vm_cvt_f8x2_to_half2(unsigned a) { return vm_unpack_f8<T>(a); }
template <class T> VM_FUNCTION unsigned vm_cvt_half2_to_f8x2(unsigned a) { return vm_pack_f8<T>(a); }

// Word i of an operand.
VM_FUNCTION unsigned vm_word_at(unsigned word, int) { return word; }
template <class T, int N> VM_FUNCTION unsigned vm_word_at(const vm_register<T, N>& source, int i) {
  return source.words[N == 1 ? 0 : i];
}

template <int Table, int N, class A, class B, class C>
VM_FUNCTION void vm_lop3(vm_register<vm_u32, N>& target, const A& a, const B& b, const C& c) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_lop3<Table>(vm_word_at(a, i), vm_word_at(b, i), vm_word_at(c, i));
}
template <int N, class A, class B, class C>
VM_FUNCTION void vm_prmt(vm_register<vm_u32, N>& target, const A& a, const B& b, const C& c) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_prmt(vm_word_at(a, i), vm_word_at(b, i), vm_word_at(c, i));
}
template <int Bits, int N, class A>
VM_FUNCTION void vm_shift_left(vm_register<vm_u32, N>& target, const A& a) {
  VM_UNROLL for (int i = 0; i < N; i++) target.words[i] = vm_shift_left<Bits>(vm_word_at(a, i));
}
template <int Bits, bool Signed, int N, class A>
VM_FUNCTION void vm_shift_right(vm_register<vm_u32, N>& target, const A& a) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_shift_right<Bits, Signed>(vm_word_at(a, i));
}
template <int Bits, int N, class A, class B>
VM_FUNCTION void vm_funnel_shift(vm_register<vm_u32, N>& target, const A& a, const B& b) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_funnel_shift<Bits>(vm_word_at(a, i), vm_word_at(b, i));
}
template <class T, int N, class A, class B>
VM_FUNCTION void vm_half2_add(vm_register<vm_u32, N>& target, const A& a, const B& b) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_half2_add<T>(vm_word_at(a, i), vm_word_at(b, i));
}
template <class T, int N, class A, class B>
VM_FUNCTION void vm_half2_mul(vm_register<vm_u32, N>& target, const A& a, const B& b) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_half2_mul<T>(vm_word_at(a, i), vm_word_at(b, i));
}
template <class T, int N, class A, class B, class C>
VM_FUNCTION void vm_half2_fma(vm_register<vm_u32, N>& target, const A& a, const B& b, const C& c) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_half2_fma<T>(vm_word_at(a, i), vm_word_at(b, i), vm_word_at(c, i));
}
template <class T, int N, class A>
VM_FUNCTION void vm_cvt_f8x2_to_half2(vm_register<vm_u32, N>& target, const A& a) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_cvt_f8x2_to_half2<T>(vm_word_at(a, i));
}
template <class T, int N, class A>
VM_FUNCTION void vm_cvt_half2_to_f8x2(vm_register<vm_u32, N>& target, const A& a) {
  VM_UNROLL for (int i = 0; i < N; i++)
    target.words[i] = vm_cvt_half2_to_f8x2<T>(vm_word_at(a, i));
}
template <class T, vm_overflow Mode, int N, class A, class B>
VM_FUNCTION void vm_cvt_pack(vm_register<vm_u32, N>& target, const A& low, const B& high) {
  VM_UNROLL for (int i = 0; i < N; i++) {
    const float x = vm_float_of(vm_word_at(low, i)), y = vm_float_of(vm_word_at(high, i));
    if constexpr (T::bits == 8)
      target.words[i] = vm_pack_f8<T>(x, y);
    else
      target.words[i] = vm_pack<T, Mode>(x, y);
  }
}
