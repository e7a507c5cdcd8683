// Instructions on a thread's words.
//
//   vm_lop3<Table>(a, b, c)         any function of three bits (vm_packed.h)
//   vm_prmt(a, b, selector)         bytes; unlike vm_byte_permute, a digit of 8 or more gives the sign
//                                   of the byte that it names
//   vm_shift_left<Bits>(a), vm_shift_right<Bits, Signed>(a), vm_funnel_shift<Bits>(low, high)
//   vm_half2_add<T>(a, b), vm_half2_mul<T>(a, b)    pairs of f16 or bf16
//   vm_half2_fma<T, Negated>(a, b, c)               a b + c, or a b - c
//   vm_half2_exceeds<T>(a, b)                       of f16: all ones where |a| > b
//   vm_look_up<Address, Entries>(a)                 an entry of a table, the lane's own copy
//   vm_cvt_pack<T, Mode>(target, low, high)    of two f32; registers of as many, or one for all
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
template <class T, bool Negated> VM_FUNCTION unsigned vm_half2_fma(unsigned a, unsigned b, unsigned c) {
  return vm_pair_fma<T>(a, b, Negated ? vm_pair_negated<T>(c) : c);
}
template <class T> VM_FUNCTION unsigned vm_half2_exceeds(unsigned a, unsigned b) {
#if VM_CUDA
  unsigned result;
  asm("{.reg .b32 m; abs.f16x2 m, %1; set.gt.u32.f16x2 %0, m, %2;}" : "=r"(result) : "r"(a), "r"(b));
  return result;
#else
  const unsigned magnitudes = a & 0x7fff7fffu;
  return (vm_low<T>(magnitudes) > vm_low<T>(b) ? 0xffffu : 0) |
         (vm_high<T>(magnitudes) > vm_high<T>(b) ? 0xffff0000u : 0);
#endif
}
// What lies in a table of which each lane has a copy, 4 bytes from lane to lane.
template <int Address, int Entries> VM_FUNCTION unsigned vm_look_up(unsigned a VM_PLACE) {
  const unsigned entry = vm_lop3<0xea>(a, 128u * (Entries - 1), 4u * (VM_THREAD % 32u));
  unsigned word;
  vm_load_shared<4>(&word, 0, Address + entry, true VM_AT);
  return word;
}
template <class T> VM_FUNCTION unsigned vm_cvt_f8x2_to_half2(unsigned a) { return vm_unpack_f8<T>(a); }
template <class T> VM_FUNCTION unsigned vm_cvt_half2_to_f8x2(unsigned a) { return vm_pack_f8<T>(a); }

// Word i of an operand.
VM_FUNCTION unsigned vm_word_at(unsigned word, int) { return word; }
template <class T, int N> VM_FUNCTION unsigned vm_word_at(const vm_register<T, N>& source, int i) {
  return source.words[N == 1 ? 0 : i];
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
