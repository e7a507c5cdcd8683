// Element types as tags, and what is known of each at compile time.
//
// `bits` is the size of an element; `value` the C++ type that holds any of its values exactly; `code`
// the unsigned type that holds its bits. A float's code is its sign, `exponent` and `mantissa` bits,
// above `unused` low bits (13 for tf32).
#pragma once

enum vm_kind { vm_kind_unsigned, vm_kind_signed, vm_kind_float, vm_kind_bool, vm_kind_scale };

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

typedef vm_unsigned<1> vm_u1;
typedef vm_unsigned<2> vm_u2;
typedef vm_unsigned<3> vm_u3;
typedef vm_unsigned<4> vm_u4;
typedef vm_unsigned<5> vm_u5;
typedef vm_unsigned<6> vm_u6;
typedef vm_unsigned<7> vm_u7;
typedef vm_unsigned<8> vm_u8;
typedef vm_unsigned<16> vm_u16;
typedef vm_unsigned<32> vm_u32;
typedef vm_unsigned<64> vm_u64;
typedef vm_signed<1> vm_i1;
typedef vm_signed<2> vm_i2;
typedef vm_signed<3> vm_i3;
typedef vm_signed<4> vm_i4;
typedef vm_signed<5> vm_i5;
typedef vm_signed<6> vm_i6;
typedef vm_signed<7> vm_i7;
typedef vm_signed<8> vm_i8;
typedef vm_signed<16> vm_i16;
typedef vm_signed<32> vm_i32;
typedef vm_signed<64> vm_i64;
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
