// Integers as C++ numbers: indices, addresses and counters. They wrap, and division floors.
//
//   vm_index_add<T>(a, b), vm_index_sub, vm_index_mul    modulo 2 to the number of bits
//   vm_index_div<T>(a, b), vm_index_mod, vm_index_ceil_div   rounded down, its remainder, rounded up
//   vm_index_min<T>(a, b), vm_index_max, vm_index_neg<T>(a), vm_index_abs
//   vm_index_shl<T>(a, b), vm_index_shr                  b bits; all leave where b is the size or more
//   vm_index_cast<To, From>(a)                           saturates
//   vm_wrap<T>(a)                                        the number as a register of one element
#pragma once

template <class T> VM_FUNCTION T vm_index_add(T a, T b) {
  typedef typename vm_wrapping<T>::type U;
  return (T)((U)a + (U)b);
}
template <class T> VM_FUNCTION T vm_index_sub(T a, T b) {
  typedef typename vm_wrapping<T>::type U;
  return (T)((U)a - (U)b);
}
template <class T> VM_FUNCTION T vm_index_mul(T a, T b) {
  typedef typename vm_wrapping<T>::type U;
  return (T)((U)a * (U)b);
}
template <class T> VM_FUNCTION T vm_index_neg(T a) { return vm_index_sub<T>((T)0, a); }
template <class T> VM_FUNCTION T vm_index_abs(T a) {
  if constexpr (!vm_is<T, typename vm_wrapping<T>::type>) return a < 0 ? vm_index_neg<T>(a) : a;
  return a;
}
template <class T> VM_FUNCTION T vm_index_min(T a, T b) { return a < b ? a : b; }
template <class T> VM_FUNCTION T vm_index_max(T a, T b) { return a < b ? b : a; }
template <class T> VM_FUNCTION T vm_index_div(T a, T b VM_PLACE) {
  return vm_floor_divide(a, b VM_AT);
}
template <class T> VM_FUNCTION T vm_index_mod(T a, T b VM_PLACE) {
  return vm_floor_modulo(a, b VM_AT);
}
template <class T> VM_FUNCTION T vm_index_ceil_div(T a, T b VM_PLACE) {
  return vm_ceil_divide(a, b VM_AT);
}
template <class T> VM_FUNCTION T vm_index_shl(T a, T b) {
  typedef typename vm_wrapping<T>::type U;
  return b >= (T)(8 * sizeof(T)) ? (T)0 : (T)((U)a << (U)b);
}
template <class T> VM_FUNCTION T vm_index_shr(T a, T b) {
  return a >> (b >= (T)(8 * sizeof(T)) ? (T)(8 * sizeof(T) - 1) : b) >>
         (b >= (T)(8 * sizeof(T)) ? 1 : 0);
}

template <class T> struct vm_index_tag;
template <> struct vm_index_tag<int> { typedef vm_i32 type; };
template <> struct vm_index_tag<unsigned> { typedef vm_u32 type; };
template <> struct vm_index_tag<long long> { typedef vm_i64 type; };
template <> struct vm_index_tag<unsigned long long> { typedef vm_u64 type; };

template <class T, class Number> VM_FUNCTION vm_register<T, 1> vm_wrap(Number value) {
  return vm_constant<T>((unsigned long long)(long long)value);
}
template <class To, class From> VM_FUNCTION To vm_index_cast(From value) {
  vm_register<typename vm_index_tag<To>::type, 1> result;
  vm_cast(result, vm_wrap<typename vm_index_tag<From>::type>(value));
  return (To)vm_get<0>(result);
}
