// Arithmetic on one value of type T, as the rules of elementwise instructions: floats round once, to
// nearest even, and overflow as IEEE 754 says, but to the largest value in types without infinity
// and NaN; integers wrap. Each operation is a struct so that it can be handed to vm_elementwise.h.
//
// A float of fewer than 32 bits is computed in f32 and rounded again by the caller (vm_packed.h says
// why that is right), but for `fma`, whose result here is rounded to odd first.
#pragma once

#if VM_CUDA
VM_FUNCTION float vm_min_value(float a, float b) {
  float result;
  asm("min.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
VM_FUNCTION float vm_max_value(float a, float b) {
  float result;
  asm("max.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
#else
VM_FUNCTION float vm_min_value(float a, float b) {
  if (a == b) return vm_float_of(vm_word_of(a) | vm_word_of(b));
  return a < b || b != b ? a : b;
}
VM_FUNCTION float vm_max_value(float a, float b) {
  if (a == b) return vm_float_of(vm_word_of(a) & vm_word_of(b));
  return a > b || b != b ? a : b;
}
#endif
VM_FUNCTION double vm_min_value(double a, double b) {
  if (a == b) return vm_double_of(vm_words_of(a) | vm_words_of(b));
  return a < b || b != b ? a : b;
}
VM_FUNCTION double vm_max_value(double a, double b) {
  if (a == b) return vm_double_of(vm_words_of(a) & vm_words_of(b));
  return a > b || b != b ? a : b;
}
#define VM_INTEGER_EXTREMA(type)                                                \
  VM_FUNCTION type vm_min_value(type a, type b) { return a < b ? a : b; }      \
  VM_FUNCTION type vm_max_value(type a, type b) { return a > b ? a : b; }
VM_INTEGER_EXTREMA(int)
VM_INTEGER_EXTREMA(unsigned)
VM_INTEGER_EXTREMA(long long)
VM_INTEGER_EXTREMA(unsigned long long)
#undef VM_INTEGER_EXTREMA

#if VM_CUDA
VM_FUNCTION float vm_div_f32(float a, float b) { return __fdiv_rn(a, b); }
VM_FUNCTION double vm_div_f64(double a, double b) { return __ddiv_rn(a, b); }
#else
VM_FUNCTION float vm_div_f32(float a, float b) { return a / b; }
VM_FUNCTION double vm_div_f64(double a, double b) { return a / b; }
#endif

// The quotient rounded down, what remains (of the divisor's sign), and the quotient rounded up. A divisor
// of 0 is a fault on the emulator and gives an unspecified value on a GPU.
#if VM_EMULATOR
#define VM_CHECK_DIVISOR(b) \
  if ((b) == 0) vm_emulator_fault("division", place, "division by zero")
#else
#define VM_CHECK_DIVISOR(b)
#endif
#define VM_SIGNED_DIVISION(type, bits)                                     \
  VM_FUNCTION type vm_floor_divide(type a, type b VM_PLACE) {              \
    VM_CHECK_DIVISOR(b);                                                   \
    if (b == -1) return (type)(0 - (unsigned bits)a);                      \
    const type quotient = a / b;                                           \
    return quotient - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0);      \
  }                                                                        \
  VM_FUNCTION type vm_floor_modulo(type a, type b VM_PLACE) {              \
    VM_CHECK_DIVISOR(b);                                                   \
    if (b == -1) return 0;                                                 \
    const type rest = a % b;                                               \
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;           \
  }                                                                        \
  VM_FUNCTION type vm_ceil_divide(type a, type b VM_PLACE) {               \
    return vm_floor_divide(a, b VM_AT) + (vm_floor_modulo(a, b VM_AT) != 0 ? 1 : 0); \
  }
VM_SIGNED_DIVISION(int, )
VM_SIGNED_DIVISION(long long, long long)
#undef VM_SIGNED_DIVISION
#define VM_UNSIGNED_DIVISION(type)                               \
  VM_FUNCTION type vm_floor_divide(type a, type b VM_PLACE) {    \
    VM_CHECK_DIVISOR(b);                                         \
    return a / b;                                                \
  }                                                              \
  VM_FUNCTION type vm_floor_modulo(type a, type b VM_PLACE) {    \
    VM_CHECK_DIVISOR(b);                                         \
    return a % b;                                                \
  }                                                              \
  VM_FUNCTION type vm_ceil_divide(type a, type b VM_PLACE) {     \
    VM_CHECK_DIVISOR(b);                                         \
    return a / b + (a % b != 0 ? 1 : 0);                         \
  }
VM_UNSIGNED_DIVISION(unsigned)
VM_UNSIGNED_DIVISION(unsigned long long)
#undef VM_UNSIGNED_DIVISION

// The unsigned type of the same size, in which signed integers are added and multiplied.
template <class V> struct vm_wrapping { typedef V type; };
template <> struct vm_wrapping<int> { typedef unsigned type; };
template <> struct vm_wrapping<long long> { typedef unsigned long long type; };

#define VM_ARITHMETIC(name, operator, of_f32, of_f64)                                   \
  struct vm_operation_##name {                                                          \
    template <class T> VM_FUNCTION float run(float a, float b) { return of_f32; }       \
    template <class T> VM_FUNCTION double run(double a, double b) { return of_f64; }    \
    template <class T, class V> VM_FUNCTION V run(V x, V y) {                           \
      const typename vm_wrapping<V>::type a = x, b = y;                                 \
      return (V)(a operator b);                                                         \
    }                                                                                   \
    template <class T> VM_FUNCTION unsigned pair(unsigned a, unsigned b) {              \
      return vm_pair_##name<T>(a, b);                                                   \
    }                                                                                   \
  };
VM_ARITHMETIC(add, +, vm_add_f32(a, b), vm_add_f64(a, b))
VM_ARITHMETIC(sub, -, vm_add_f32(a, -b), vm_add_f64(a, -b))
VM_ARITHMETIC(mul, *, vm_mul_f32(a, b), vm_mul_f64(a, b))
#undef VM_ARITHMETIC

struct vm_operation_min {
  template <class T, class V> VM_FUNCTION V run(V a, V b) { return vm_min_value(a, b); }
  template <class T> VM_FUNCTION unsigned pair(unsigned a, unsigned b) { return vm_pair_min<T>(a, b); }
};
struct vm_operation_max {
  template <class T, class V> VM_FUNCTION V run(V a, V b) { return vm_max_value(a, b); }
  template <class T> VM_FUNCTION unsigned pair(unsigned a, unsigned b) { return vm_pair_max<T>(a, b); }
};
// Floats alone: floor division takes a place.
VM_FUNCTION float vm_floor_divide(float a, float b VM_PLACE) { return vm_div_f32(a, b); }
VM_FUNCTION double vm_floor_divide(double a, double b VM_PLACE) { return vm_div_f64(a, b); }
struct vm_operation_and {
  template <class T, class V> VM_FUNCTION V run(V a, V b) { return a & b; }
};
struct vm_operation_or {
  template <class T, class V> VM_FUNCTION V run(V a, V b) { return a | b; }
};
struct vm_operation_xor {
  template <class T, class V> VM_FUNCTION V run(V a, V b) { return a ^ b; }
};
// The amount is read as unsigned; from T::bits on, nothing (or only the sign) is left.
struct vm_operation_shl {
  template <class T, class V> VM_FUNCTION V run(V a, V b) {
    typedef typename vm_wrapping<V>::type bits;
    return (bits)b >= (bits)T::bits ? (V)0 : (V)((bits)a << (int)b);
  }
};
struct vm_operation_shr {
  template <class T, class V> VM_FUNCTION V run(V a, V b) {
    typedef typename vm_wrapping<V>::type bits;
    if ((bits)b < (bits)T::bits) return a >> (int)b;
    return T::kind == vm_kind_signed ? a >> (8 * (int)sizeof(V) - 1) : (V)0;
  }
};

struct vm_operation_fma {
  template <class T> VM_FUNCTION float run(float a, float b, float c) {
    return vm_fma_value<T>(a, b, c);
  }
  template <class T> VM_FUNCTION double run(double a, double b, double c) {
#if VM_CUDA
    return __fma_rn(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
  }
  template <class T, class V> VM_FUNCTION V run(V x, V y, V z) {
    const typename vm_wrapping<V>::type a = x, b = y, c = z;
    return (V)(a * b + c);
  }
};

#define VM_COMPARISON(name, operator) \
  struct vm_operation_##name {        \
    template <class V> VM_FUNCTION bool run(V a, V b) { return a operator b; } \
  };
VM_COMPARISON(eq, ==)
VM_COMPARISON(ne, !=)
VM_COMPARISON(lt, <)
VM_COMPARISON(le, <=)
VM_COMPARISON(gt, >)
VM_COMPARISON(ge, >=)
#undef VM_COMPARISON
