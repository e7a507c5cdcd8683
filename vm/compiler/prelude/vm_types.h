// Element types as tags, and what is known of each at compile time.
//
// `bits` is the size of an element; `value` the C++ type that holds any of its values exactly; `code`
// the unsigned type that holds its bits. A float's code is its sign, `exponent` and `mantissa` bits,
// above `unused` low bits (13 for tf32).
#pragma once

enum vm_kind {
  vm_kind_unsigned,
  vm_kind_signed,
  vm_kind_float,
  vm_kind_bool,
  vm_kind_scale,
  vm_kind_codebook
};

// What the codes with an exponent field of all ones mean: `vm_finite` numbers like any other,
// `vm_only_nan` numbers but for the last, which is NaN (f8e4m3), `vm_ieee` infinities and NaN.
enum vm_special { vm_finite, vm_only_nan, vm_ieee };

template <bool Wide> struct vm_integer_value { typedef unsigned u; typedef int i; };
template <> struct vm_integer_value<true> { typedef unsigned long long u; typedef long long i; };

// Integers of 1 to 64 bits.
template <int Bits> struct vm_unsigned {
  static constexpr int bits = Bits;
  static constexpr vm_kind kind = vm_kind_unsigned;
  typedef typename vm_integer_value<(Bits > 32)>::u value;
  typedef typename vm_integer_value<(Bits > 32)>::u code;
};
template <int Bits> struct vm_signed {
  static constexpr int bits = Bits;
  static constexpr vm_kind kind = vm_kind_signed;
  typedef typename vm_integer_value<(Bits > 32)>::i value;
  typedef typename vm_integer_value<(Bits > 32)>::u code;
};

// One byte, 0 or 1; any other code reads as 1.
struct vm_bool {
  static constexpr int bits = 8;
  static constexpr vm_kind kind = vm_kind_bool;
  typedef unsigned value;
  typedef unsigned code;
};

// Floats of at most 32 bits; f64 is apart. `limit` is the code of the largest finite value, without
// `unused` bits; `beyond` the code that follows an overflow in the mode vm_overflow_ieee.
template <int Bits, int Exponent, int Mantissa> struct vm_float {
  static constexpr int bits = Bits;
  static constexpr int exponent = Exponent;
  static constexpr int mantissa = Mantissa;
  static constexpr int unused = Bits - 1 - Exponent - Mantissa;
  static constexpr int bias = (1 << (Exponent - 1)) - 1;
  static constexpr vm_kind kind = vm_kind_float;
  static constexpr vm_special special = (Bits >= 16 || (Bits == 8 && Exponent == 5)) ? vm_ieee
                                        : (Bits == 8 && Exponent == 4)               ? vm_only_nan
                                                                                     : vm_finite;
  static constexpr unsigned limit = (1u << (Exponent + Mantissa)) - 1 -
                                    (special == vm_ieee       ? 1u << Mantissa
                                     : special == vm_only_nan ? 1u
                                                              : 0u);
  static constexpr unsigned beyond = special == vm_finite ? limit : limit + 1;
  static constexpr unsigned nan = special == vm_finite     ? limit
                                  : special == vm_only_nan ? limit + 1
                                                           : beyond | (1u << (Mantissa - 1));
  typedef float value;
  typedef unsigned code;
};
struct vm_f64 {
  static constexpr int bits = 64;
  static constexpr int exponent = 11;
  static constexpr int mantissa = 52;
  static constexpr vm_kind kind = vm_kind_float;
  static constexpr vm_special special = vm_ieee;
  typedef double value;
  typedef unsigned long long code;
};

// Code c is 2**(c - 127); 255 is NaN. No sign and no zero.
struct vm_f8e8m0 {
  static constexpr int bits = 8;
  static constexpr vm_kind kind = vm_kind_scale;
  typedef float value;
  typedef unsigned code;
};

// A codebook: code c is entry c of a table. `Entries` are the words of f32, one for each code of that
// many bits, NaN where the table has none. `Order` are the codes in the order of their entries, each
// entry once, and `Limits` the words of f64: the largest number that belongs to the lower one of each
// two neighbours. Emitted kernels define those that they use.
template <unsigned...> struct vm_entries {};
template <unsigned long long...> struct vm_limits {};
template <unsigned...> struct vm_ordered {};
template <int Bits, class Entries, class Limits, class Order> struct vm_codebook {
  static constexpr int bits = Bits;
  static constexpr vm_kind kind = vm_kind_codebook;
  typedef float value;
  typedef unsigned code;
  typedef Entries entries;
  typedef Limits limits;
  typedef Order order;
};

#define VM_INTEGERS(bits)              \
  typedef vm_unsigned<bits> vm_u##bits; \
  typedef vm_signed<bits> vm_i##bits;
#define VM_INTEGERS_8(a, b, c, d, e, f, g, h)                      \
  VM_INTEGERS(a) VM_INTEGERS(b) VM_INTEGERS(c) VM_INTEGERS(d)      \
  VM_INTEGERS(e) VM_INTEGERS(f) VM_INTEGERS(g) VM_INTEGERS(h)
VM_INTEGERS_8(1, 2, 3, 4, 5, 6, 7, 8)
VM_INTEGERS_8(9, 10, 11, 12, 13, 14, 15, 16)
VM_INTEGERS_8(17, 18, 19, 20, 21, 22, 23, 24)
VM_INTEGERS_8(25, 26, 27, 28, 29, 30, 31, 32)
VM_INTEGERS_8(33, 34, 35, 36, 37, 38, 39, 40)
VM_INTEGERS_8(41, 42, 43, 44, 45, 46, 47, 48)
VM_INTEGERS_8(49, 50, 51, 52, 53, 54, 55, 56)
VM_INTEGERS_8(57, 58, 59, 60, 61, 62, 63, 64)
#undef VM_INTEGERS_8
#undef VM_INTEGERS
typedef vm_float<8, 4, 3> vm_f8e4m3;
typedef vm_float<8, 5, 2> vm_f8e5m2;
typedef vm_float<16, 5, 10> vm_f16;
typedef vm_float<16, 8, 7> vm_bf16;
typedef vm_float<32, 8, 10> vm_tf32;
typedef vm_float<32, 8, 23> vm_f32;

template <class A, class B> struct vm_same { static constexpr bool value = false; };
template <class A> struct vm_same<A, A> { static constexpr bool value = true; };
template <class A, class B> constexpr bool vm_is = vm_same<A, B>::value;

template <class T> constexpr bool vm_is_integer =
    T::kind == vm_kind_unsigned || T::kind == vm_kind_signed;
template <class T> constexpr bool vm_is_float = T::kind == vm_kind_float;
// Floats whose values are all f32 values.
template <class T> constexpr bool vm_is_narrow_float = vm_is_float<T> && T::bits <= 32;
