// Rounding other than to nearest even: toward zero, and stochastic, which takes the neighbour away from
// zero where random / 2**32 is less than the exact fraction of the way to it. A number is taken apart
// into a sign, a magnitude and an exponent, and all is decided on integers; out of range, and NaN, as
// in vm_number.h. A rounding toward zero never leaves the finite numbers.
//
//   vm_cast_toward_zero<Mode>(target, source)       as vm_cast
//   vm_cast_stochastic<Mode>(target, source, random)   one u32 for each element
#pragma once

enum vm_rounding { vm_toward_zero, vm_stochastic };

// (-1)**negative * magnitude * 2**exponent, or infinite, or NaN.
template <class Magnitude> struct vm_parts {
  bool negative, infinite, nan;
  Magnitude magnitude;
  int exponent;
};

template <class Magnitude, class T>
VM_FUNCTION vm_parts<Magnitude> vm_take_apart(typename T::value value) {
  vm_parts<Magnitude> parts = {false, false, false, 0, 0};
  if constexpr (vm_is_integer<T> || T::kind == vm_kind_bool) {
    if constexpr (T::kind == vm_kind_signed) parts.negative = value < 0;
    const typename T::code bits = (typename T::code)value;
    parts.magnitude = (Magnitude)(parts.negative ? (typename T::code)0 - bits : bits);
  } else {
    constexpr int mantissa = T::bits == 64 ? 52 : 23, bias = T::bits == 64 ? 1075 : 150;
    Magnitude word;
    if constexpr (T::bits == 64)
      word = vm_words_of(value);
    else
      word = vm_word_of(value);
    constexpr int top = T::bits == 64 ? 63 : 31;
    constexpr Magnitude one = 1, infinity = ((one << (top - mantissa)) - 1) << mantissa;
    parts.negative = (word >> top) != 0;
    word &= (one << top) - 1;
    parts.infinite = word == infinity;
    parts.nan = word > infinity;
    const int field = (int)(word >> mantissa);
    parts.magnitude = field ? (word & ((one << mantissa) - 1)) | one << mantissa : word;
    parts.exponent = (field ? field : 1) - bias;
  }
  return parts;
}

// The number of bits of a magnitude: 0 for 0.
template <class Magnitude> VM_FUNCTION int vm_bit_length(Magnitude magnitude) {
  return magnitude ? 64 - vm_leading_zeros((unsigned long long)magnitude) : 0;
}

// magnitude / 2**shift as an integer; a negative shift is to the left, and loses no bits.
template <vm_rounding Rounding, class Magnitude>
VM_FUNCTION Magnitude vm_shift_right(Magnitude magnitude, int shift, unsigned random) {
  constexpr int width = 8 * (int)sizeof(Magnitude);
  constexpr Magnitude one = 1;
  if (shift <= 0) return magnitude << (shift > -width ? -shift : width - 1);
  const Magnitude whole = shift < width ? magnitude >> shift : 0;
  if constexpr (Rounding == vm_toward_zero) return whole;
  const Magnitude rest = shift < width ? magnitude & ((one << shift) - 1) : magnitude;
  // The least integer that is not below the fraction times 2**32.
  Magnitude threshold;
  if (shift <= 32) {
    threshold = rest << (32 - shift);
  } else {
    const int drop = shift - 32;
    const bool lost = drop < width ? (rest & ((one << drop) - 1)) != 0 : rest != 0;
    threshold = (drop < width ? rest >> drop : 0) + (lost ? 1 : 0);
  }
  return whole + (random < threshold ? 1 : 0);
}

template <class To, vm_rounding Rounding, class Magnitude>
VM_FUNCTION typename To::code vm_round_to_integer(vm_parts<Magnitude> parts, unsigned random) {
  constexpr int width = 8 * (int)sizeof(Magnitude);
  constexpr bool is_signed = To::kind == vm_kind_signed;
  constexpr Magnitude most = (Magnitude)(~0ull >> (64 - To::bits) >> (is_signed ? 1 : 0));
  const Magnitude limit = !parts.negative ? most : is_signed ? most + 1 : 0;
  const bool huge =
      parts.infinite || parts.exponent + vm_bit_length(parts.magnitude) > width;
  Magnitude rounded =
      vm_shift_right<Rounding>(huge ? (Magnitude)0 : parts.magnitude, -parts.exponent, random);
  rounded = huge || rounded > limit ? limit : rounded;
  if (parts.nan) rounded = 0;
  const Magnitude code = parts.negative ? (Magnitude)0 - rounded : rounded;
  return (typename To::code)code & (typename To::code)(~0ull >> (64 - To::bits));
}

template <class To, vm_overflow Mode, vm_rounding Rounding, bool Keep, class Magnitude>
VM_FUNCTION typename To::code vm_round_to_float(vm_parts<Magnitude> parts, unsigned random) {
  constexpr bool scale = To::kind == vm_kind_scale;
  int mantissa = 0, lowest = -127;  // as a scale has them
  Magnitude limit = 254, beyond = 255, nan = 255;
  int unused = 0;
  if constexpr (To::bits == 64) {
    mantissa = 52, lowest = -1022;
    beyond = 0x7ff0000000000000ull, limit = beyond - 1, nan = 0x7ff8000000000000ull;
  } else if constexpr (!scale) {
    mantissa = To::mantissa, lowest = 1 - To::bias, unused = To::unused;
    limit = To::limit, beyond = To::beyond, nan = To::nan;
  }
  int top = parts.exponent + vm_bit_length(parts.magnitude) - 1;
  top = parts.magnitude == 0 || top < lowest ? lowest : top;
  // The codes of one exponent follow those of the one below: a leading 1, and a mantissa that rounds
  // up to the next power of two, add the steps of the exponent's field.
  Magnitude code = (Magnitude)(top - lowest) << mantissa;
  code += vm_shift_right<Rounding>(parts.magnitude, top - mantissa - parts.exponent, random);
  if constexpr (scale) code = code == 0 ? 0 : code - 1;  // with nothing below the first
  constexpr bool leaves = Mode == vm_overflow_ieee;
  if (code > limit) code = leaves && Rounding != vm_toward_zero ? beyond : limit;
  if (parts.infinite) code = leaves || Keep ? beyond : limit;
  if constexpr (scale) {
    if (parts.negative || parts.magnitude == 0) code = leaves ? 255 : 0;
  } else {
    if (parts.negative) code |= (Magnitude)1 << (To::bits - 1 - unused);
  }
  if (parts.nan) code = nan;
  return (typename To::code)(code << unused);
}

VM_FUNCTION float vm_truncate(float value) {
#if VM_CUDA
  return truncf(value);
#else
  return __builtin_truncf(value);
#endif
}
VM_FUNCTION double vm_truncate(double value) {
#if VM_CUDA
  return trunc(value);
#else
  return __builtin_trunc(value);
#endif
}

// One value of From as a code of To.
template <class To, class From, vm_overflow Mode, vm_rounding Rounding>
VM_FUNCTION typename To::code vm_convert_rounded(typename From::value value, unsigned random) {
  constexpr bool from_integer = vm_is_integer<From> || From::kind == vm_kind_bool;
  typedef typename vm_integer_value<(From::bits > 32 || To::bits > 32)>::u magnitude;
  if constexpr (To::kind == vm_kind_bool || (from_integer && vm_is_integer<To>)) {
    return vm_convert<To, From, Mode>(value);
  } else if constexpr (vm_is_integer<To> && Rounding == vm_toward_zero) {
    return vm_convert<To, From, Mode>(vm_truncate(value));
  } else if constexpr (vm_is_integer<To>) {
    return vm_round_to_integer<To, Rounding>(vm_take_apart<magnitude, From>(value), random);
  } else {
    constexpr bool keep = vm_infinities_survive<From, To>();
    const vm_parts<magnitude> parts = vm_take_apart<magnitude, From>(value);
    return vm_round_to_float<To, Mode, Rounding, keep>(parts, random);
  }
}

template <vm_overflow Mode = vm_overflow_saturate, class To, class From, int N>
VM_FUNCTION void vm_cast_toward_zero(vm_register<To, N>& target, const vm_register<From, N>& source) {
  if constexpr (vm_is<To, From>) {
    target = source;
  } else {
    target = vm_zero<To, N>();
    VM_UNROLL for (int k = 0; k < N; k++) {
      const typename From::value value = vm_decode<From>(vm_get_code(source, k));
      vm_set_code(target, k, vm_convert_rounded<To, From, Mode, vm_toward_zero>(value, 0));
    }
  }
}

template <vm_overflow Mode = vm_overflow_saturate, class To, class From, int N>
VM_FUNCTION void vm_cast_stochastic(vm_register<To, N>& target, const vm_register<From, N>& source,
                                    const vm_register<vm_u32, N>& random) {
  if constexpr (vm_is<To, From>) {
    target = source;
  } else {
    target = vm_zero<To, N>();
    VM_UNROLL for (int k = 0; k < N; k++) {
      const typename From::value value = vm_decode<From>(vm_get_code(source, k));
      vm_set_code(target, k,
                  vm_convert_rounded<To, From, Mode, vm_stochastic>(value, random.words[k]));
    }
  }
}
