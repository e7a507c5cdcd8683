// Packed numbers of few bits as f16 or bf16, several of a word at once.
//
//   vm_dequantize<vm_groups<G...>, vm_results<R...>, Words, Steps...>(target, source)
//
// runs a straight-line program on each group of `Words` words of the source: these words are its
// values 0, 1, .., each step makes the next value, and values R.. are the words of the target. The steps
// are written by vm/compiler/casts.py; each is one machine instruction.
//
//   vm_pick_and_cast<Code, Slots...>(target, source)      the general path: slot k of `target` becomes
//                                                         slot Slots[k] of `source` less the number
//                                                         of that code
#pragma once

template <int...> struct vm_groups {};
template <int...> struct vm_results {};

// Operands of steps: an earlier value, or a word that is known.
template <int Index> struct vm_at {
  VM_FUNCTION unsigned of(const unsigned* values) { return values[Index]; }
};
template <unsigned Word> struct vm_word {
  VM_FUNCTION unsigned of(const unsigned*) { return Word; }
};

template <int Table, class A, class B, class C> struct vm_step_logic {
  VM_FUNCTION unsigned run(const unsigned* v) { return vm_lop3<Table>(A::of(v), B::of(v), C::of(v)); }
};
// To the right; to the left where the number is negative.
template <int Bits, class A> struct vm_step_shift {
  VM_FUNCTION unsigned run(const unsigned* v) {
    return Bits < 0 ? A::of(v) << (-Bits & 31) : A::of(v) >> (Bits & 31);
  }
};
template <int Bits, class A> struct vm_step_arithmetic {
  VM_FUNCTION unsigned run(const unsigned* v) { return (unsigned)((int)A::of(v) >> Bits); }
};
template <int Bits, class Low, class High> struct vm_step_funnel {
  VM_FUNCTION unsigned run(const unsigned* v) { return vm_funnel(Low::of(v), High::of(v), Bits); }
};
// Unlike vm_byte_permute, a digit of 8 or more gives the sign of the byte that it names.
template <class A, class B, class Selector> struct vm_step_permute {
  VM_FUNCTION unsigned run(const unsigned* v) {
    const unsigned a = A::of(v), b = B::of(v), selector = Selector::of(v);
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
};
template <class T, class A, class B> struct vm_step_add {
  VM_FUNCTION unsigned run(const unsigned* v) { return vm_pair_add<T>(A::of(v), B::of(v)); }
};
template <class T, class A, class B> struct vm_step_mul {
  VM_FUNCTION unsigned run(const unsigned* v) { return vm_pair_mul<T>(A::of(v), B::of(v)); }
};
template <class T, class A, class B, class C> struct vm_step_fma {
  VM_FUNCTION unsigned run(const unsigned* v) {
    return vm_pair_fma<T>(A::of(v), B::of(v), C::of(v));
  }
};

template <class Groups, class Results, int Words, class... Steps> struct vm_dequantizer;
template <int... Groups, int... Results, int Words, class... Steps>
struct vm_dequantizer<vm_groups<Groups...>, vm_results<Results...>, Words, Steps...> {
  VM_FUNCTION void one(unsigned* target, const unsigned* source) {
    unsigned values[Words + sizeof...(Steps)];
    VM_UNROLL for (int i = 0; i < Words; i++) values[i] = source[i];
    int next = Words, part = 0;
    ((values[next] = Steps::run(values), next++), ...);
    ((target[part++] = values[Results]), ...);
  }
  VM_FUNCTION void run(unsigned* target, const unsigned* source) {
    int part = 0;
    ((one(target + part, source + Groups * Words), part += (int)sizeof...(Results)), ...);
  }
};

template <class Groups, class Results, int Words, class... Steps, class To, class From, int N, int M>
VM_FUNCTION void vm_dequantize(vm_register<To, M>& target, const vm_register<From, N>& source) {
  vm_dequantizer<Groups, Results, Words, Steps...>::run(target.words, source.words);
}

template <unsigned long long Code, int... Slots, class To, class From, int N, int M>
VM_FUNCTION void vm_pick_and_cast(vm_register<To, M>& target, const vm_register<From, N>& source) {
  vm_register<From, M> picked;
  vm_pick<Slots...>(picked, source);
  vm_cast(target, picked);
  if constexpr (Code != 0) vm_sub(target, target, vm_constant<To>(Code));
}
