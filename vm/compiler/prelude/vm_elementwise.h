// Elementwise instructions on registers: vm_add(target, a, b) and so on. Operands have the target's
// type; each has as many elements, or one, which is broadcast. Pairs of f16 and bf16 are computed two
// at a time where the hardware can.
//
//   floats and integers  vm_add vm_sub vm_mul vm_div vm_min vm_max vm_neg vm_abs vm_fma
//                        (integers wrap, and divide rounding down; min and max give the other operand
//                        where one is NaN)
//   floats               vm_exp vm_exp2 vm_log vm_log2 vm_sqrt vm_rsqrt vm_tanh vm_sin vm_cos
//                        vm_floor vm_ceil vm_round
//   integers             vm_floordiv (as vm_div) vm_mod vm_ceil_div vm_shl vm_shr (the remainder has
//                        the divisor's sign; shifting by the number of bits or more leaves nothing, or
//                        the sign)
//   integers and bool    vm_and vm_or vm_xor vm_not
//   any type, into bool  vm_eq vm_ne vm_lt vm_le vm_gt vm_ge (all but `ne` are false with NaN)
//   any type             vm_where(target, condition, a, b): a where the condition holds, else b
//   one number           vm_get<k>(register), vm_set<k>(register, value)
#pragma once

// Element k as a C++ number (integers, bool, f32 and f64; a narrower float as a float), and back: a
// float is rounded and saturates, an integer wraps.
template <int K, class T, int N>
VM_FUNCTION typename T::value vm_get(const vm_register<T, N>& source) {
  static_assert(K < N, "an element that is not there");
  return vm_decode<T>(vm_get_code(source, K));
}
template <class T, vm_overflow Mode = vm_overflow_ieee>
VM_FUNCTION typename T::code vm_code(typename T::value value) {
  if constexpr (T::kind == vm_kind_bool)
    return value != 0;
  else if constexpr (vm_is_integer<T>)
    return (typename T::code)value & (typename T::code)(~0ull >> (64 - T::bits));
  else if constexpr (T::bits == 64)
    return vm_words_of(value);
  else
    return vm_encode<T, Mode>(value);
}
template <int K, class T, int N>
VM_FUNCTION void vm_set(vm_register<T, N>& target, typename T::value value) {
  static_assert(K < N, "an element that is not there");
  vm_set_code(target, K, vm_code<T, vm_overflow_saturate>(value));
}

template <class T> constexpr bool vm_has_pairs = vm_is<T, vm_f16> || vm_is<T, vm_bf16>;

// Element k, or the only one.
template <class T, int N>
VM_FUNCTION typename T::value vm_operand(const vm_register<T, N>& source, int k) {
  return vm_decode<T>(vm_get_code(source, N == 1 ? 0 : k));
}
// Word i of pairs, or the only element twice.
template <class T, int N>
VM_FUNCTION unsigned vm_operand_pair(const vm_register<T, N>& source, int i) {
  return N == 1 ? vm_byte_permute(source.words[0], 0, 0x1010) : source.words[i];
}

#define VM_UNARY(name)                                                                        \
  template <class T, int N>                                                                   \
  VM_FUNCTION void vm_##name(vm_register<T, N>& target, const vm_register<T, N>& a) {         \
    vm_register<T, N> result = vm_zero<T, N>();                                               \
    VM_UNROLL for (int k = 0; k < N; k++)                                                     \
      vm_set_code(result, k, vm_code<T>(vm_operation_##name::template run<T>(vm_operand(a, k)))); \
    target = result;                                                                          \
  }
VM_UNARY(exp)
VM_UNARY(exp2)
VM_UNARY(log)
VM_UNARY(log2)
VM_UNARY(sqrt)
VM_UNARY(rsqrt)
VM_UNARY(tanh)
VM_UNARY(sin)
VM_UNARY(cos)
VM_UNARY(floor)
VM_UNARY(ceil)
VM_UNARY(round)
#undef VM_UNARY

template <class Operation, bool Pairs, class T, int N, int A, int B>
VM_FUNCTION void vm_binary(vm_register<T, N>& target, const vm_register<T, A>& a,
                           const vm_register<T, B>& b) {
  static_assert((A == N || A == 1) && (B == N || B == 1), "as many elements, or one");
  if constexpr (Pairs && vm_has_pairs<T>) {
    VM_UNROLL for (int i = 0; i < target.count; i++)
      target.words[i] = Operation::template pair<T>(vm_operand_pair(a, i), vm_operand_pair(b, i));
  } else {
    vm_register<T, N> result = vm_zero<T, N>();
    VM_UNROLL for (int k = 0; k < N; k++) {
      const typename T::value x = vm_operand(a, k), y = vm_operand(b, k);
      vm_set_code(result, k, vm_code<T>(Operation::template run<T>(x, y)));
    }
    target = result;
  }
}
#define VM_BINARY(name, pairs)                                                              \
  template <class T, int N, int A, int B>                                                   \
  VM_FUNCTION void vm_##name(vm_register<T, N>& target, const vm_register<T, A>& a,         \
                             const vm_register<T, B>& b) {                                  \
    vm_binary<vm_operation_##name, pairs>(target, a, b);                                    \
  }
VM_BINARY(add, true)
VM_BINARY(sub, true)
VM_BINARY(mul, true)
VM_BINARY(min, true)
VM_BINARY(max, true)
VM_BINARY(and, false)
VM_BINARY(or, false)
VM_BINARY(xor, false)
VM_BINARY(shl, false)
VM_BINARY(shr, false)
#undef VM_BINARY

#define VM_DIVISION(name, function)                                                       \
  template <class T, int N, int A, int B>                                                 \
  VM_FUNCTION void vm_##name(vm_register<T, N>& target, const vm_register<T, A>& a,       \
                             const vm_register<T, B>& b VM_PLACE) {                       \
    static_assert((A == N || A == 1) && (B == N || B == 1), "as many elements, or one");  \
    vm_register<T, N> result = vm_zero<T, N>();                                           \
    VM_UNROLL for (int k = 0; k < N; k++)                                                 \
      vm_set_code(result, k, vm_code<T>(function(vm_operand(a, k), vm_operand(b, k) VM_AT))); \
    target = result;                                                                      \
  }
VM_DIVISION(div, vm_floor_divide)
VM_DIVISION(floordiv, vm_floor_divide)
VM_DIVISION(mod, vm_floor_modulo)
VM_DIVISION(ceil_div, vm_ceil_divide)
#undef VM_DIVISION

// target = a * b + c, rounded once.
template <class T, int N, int A, int B, int C>
VM_FUNCTION void vm_fma(vm_register<T, N>& target, const vm_register<T, A>& a,
                        const vm_register<T, B>& b, const vm_register<T, C>& c) {
  static_assert((A == N || A == 1) && (B == N || B == 1) && (C == N || C == 1),
                "as many elements, or one");
  if constexpr (vm_has_pairs<T>) {
    VM_UNROLL for (int i = 0; i < target.count; i++)
      target.words[i] =
          vm_pair_fma<T>(vm_operand_pair(a, i), vm_operand_pair(b, i), vm_operand_pair(c, i));
  } else {
    vm_register<T, N> result = vm_zero<T, N>();
    VM_UNROLL for (int k = 0; k < N; k++)
      vm_set_code(result, k, vm_code<T>(vm_operation_fma::template run<T>(
                                 vm_operand(a, k), vm_operand(b, k), vm_operand(c, k))));
    target = result;
  }
}

// The sign bit is inverted, of a NaN or zero too; integers wrap.
template <class T, int N>
VM_FUNCTION void vm_neg(vm_register<T, N>& target, const vm_register<T, N>& a) {
  if constexpr (vm_has_pairs<T>) {
    VM_UNROLL for (int i = 0; i < a.count; i++) target.words[i] = a.words[i] ^ 0x80008000u;
  } else {
    vm_register<T, N> result = vm_zero<T, N>();
    VM_UNROLL for (int k = 0; k < N; k++) {
      if constexpr (vm_is_float<T>)
        vm_set_code(result, k, vm_get_code(a, k) ^ (typename T::code)1 << (T::bits - 1));
      else
        vm_set_code(result, k, vm_code<T>(0 - (typename T::code)vm_operand(a, k)));
    }
    target = result;
  }
}

// The sign bit is cleared; the least integer stays itself.
template <class T, int N>
VM_FUNCTION void vm_abs(vm_register<T, N>& target, const vm_register<T, N>& a) {
  if constexpr (vm_has_pairs<T>) {
    VM_UNROLL for (int i = 0; i < a.count; i++) target.words[i] = a.words[i] & 0x7fff7fffu;
  } else {
    vm_register<T, N> result = vm_zero<T, N>();
    VM_UNROLL for (int k = 0; k < N; k++) {
      if constexpr (vm_is_float<T>) {
        vm_set_code(result, k, vm_get_code(a, k) & ~((typename T::code)1 << (T::bits - 1)));
      } else if constexpr (T::kind == vm_kind_signed) {
        const typename T::value value = vm_operand(a, k);
        vm_set_code(result, k, vm_code<T>(value < 0 ? 0 - (typename T::code)value : value));
      } else {
        vm_set_code(result, k, vm_get_code(a, k));
      }
    }
    target = result;
  }
}

// Every bit of an integer inverted; a bool negated.
template <class T, int N>
VM_FUNCTION void vm_not(vm_register<T, N>& target, const vm_register<T, N>& a) {
  vm_register<T, N> result = vm_zero<T, N>();
  VM_UNROLL for (int k = 0; k < N; k++) {
    if constexpr (T::kind == vm_kind_bool)
      vm_set_code(result, k, vm_get_code(a, k) == 0);
    else
      vm_set_code(result, k, vm_code<T>(~vm_operand(a, k)));
  }
  target = result;
}

#define VM_COMPARISON(name)                                                                      \
  template <class T, int N, int A, int B>                                                        \
  VM_FUNCTION void vm_##name(vm_register<vm_bool, N>& target, const vm_register<T, A>& a,        \
                             const vm_register<T, B>& b) {                                       \
    static_assert((A == N || A == 1) && (B == N || B == 1), "as many elements, or one");         \
    vm_register<vm_bool, N> result = vm_zero<vm_bool, N>();                                      \
    VM_UNROLL for (int k = 0; k < N; k++)                                                        \
      vm_set_code(result, k, vm_operation_##name::run(vm_operand(a, k), vm_operand(b, k)) ? 1u : 0u); \
    target = result;                                                                             \
  }
VM_COMPARISON(eq)
VM_COMPARISON(ne)
VM_COMPARISON(lt)
VM_COMPARISON(le)
VM_COMPARISON(gt)
VM_COMPARISON(ge)
#undef VM_COMPARISON

// The bits of a where the condition holds, else those of b.
template <class T, int N, int C, int A, int B>
VM_FUNCTION void vm_where(vm_register<T, N>& target, const vm_register<vm_bool, C>& condition,
                          const vm_register<T, A>& a, const vm_register<T, B>& b) {
  static_assert((A == N || A == 1) && (B == N || B == 1) && (C == N || C == 1),
                "as many elements, or one");
  vm_register<T, N> result = vm_zero<T, N>();
  VM_UNROLL for (int k = 0; k < N; k++)
    vm_set_code(result, k, vm_get_code(condition, C == 1 ? 0 : k) != 0 ? vm_get_code(a, A == 1 ? 0 : k)
                                                                      : vm_get_code(b, B == 1 ? 0 : k));
  target = result;
}
