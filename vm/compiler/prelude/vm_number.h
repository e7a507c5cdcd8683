// One number: from its code to a C++ value and back, by the rules of casts: to nearest even,
// subnormals included; what is out of range saturates. This is the general path, right for every
// pair of types; vm_cast.h has shorter ways for common pairs, which give the same codes.
//
// A NaN result is some NaN: neither its sign nor its payload is promised.
#pragma once

// What becomes of a value out of range: the nearest finite one (PTX `satfinite`, infinities too);
// infinity or NaN where the type has one; the low bits (integers from integers).
enum vm_overflow { vm_overflow_saturate, vm_overflow_ieee, vm_overflow_wrap };

VM_FUNCTION float vm_power_of_two(int exponent) {  // -126 to 127
  return vm_float_of((unsigned)(exponent + 127) << 23);
}

// IEEE operations that no compiler option may fuse or flush.
#if VM_CUDA
VM_FUNCTION float vm_add_f32(float a, float b) { return __fadd_rn(a, b); }
VM_FUNCTION float vm_mul_f32(float a, float b) { return __fmul_rn(a, b); }
VM_FUNCTION double vm_add_f64(double a, double b) { return __dadd_rn(a, b); }
VM_FUNCTION double vm_mul_f64(double a, double b) { return __dmul_rn(a, b); }
#else
VM_FUNCTION float vm_add_f32(float a, float b) { return a + b; }
VM_FUNCTION float vm_mul_f32(float a, float b) { return a * b; }
VM_FUNCTION double vm_add_f64(double a, double b) { return a + b; }
VM_FUNCTION double vm_mul_f64(double a, double b) { return a * b; }
#endif

// One of `Count` things from `First` on, by the bits of an index: get(First + index). In registers,
// this costs one selection less than there are things.
template <int First, int Count, class Get> VM_FUNCTION auto vm_choose(unsigned index, Get get) {
  if constexpr (Count == 1) {
    return get(First);
  } else {
    constexpr int half = Count <= 2     ? 1
                         : Count <= 4   ? 2
                         : Count <= 8   ? 4
                         : Count <= 16  ? 8
                         : Count <= 32  ? 16
                         : Count <= 64  ? 32
                         : Count <= 128 ? 64
                                        : 128;
    const auto low = vm_choose<First, half>(index, get);
    const auto high = vm_choose<First + half, Count - half>(index, get);
    return (index & half) != 0 ? high : low;
  }
}

// The entry of a codebook, as the word of an f32. Few are chosen from in registers; many lie in
// memory that is read by index.
template <unsigned... Entries> VM_FUNCTION unsigned vm_entry(vm_entries<Entries...>, unsigned code) {
  constexpr unsigned table[] = {Entries...};
  if constexpr (sizeof...(Entries) <= 32)
    return vm_choose<0, (int)sizeof...(Entries)>(code, [&](int index) { return table[index]; });
  else
    return table[code];
}

// The code of the entry of a codebook at the least distance; NaN is greater than any.
template <unsigned long long... Limits, unsigned First, unsigned... Order>
VM_FUNCTION unsigned vm_nearest_entry(vm_limits<Limits...>, vm_ordered<First, Order...>, double value) {
  unsigned code = First;
  ((code = value <= vm_double_of(Limits) ? code : Order), ...);
  return code;
}

// The value of a code. Exact.
template <class T> VM_FUNCTION typename T::value vm_decode(typename T::code code) {
  if constexpr (T::kind == vm_kind_unsigned) {
    return code;
  } else if constexpr (T::kind == vm_kind_signed) {
    constexpr int spare = 8 * (int)sizeof(code) - T::bits;
    return (typename T::value)(code << spare) >> spare;
  } else if constexpr (T::kind == vm_kind_bool) {
    return code != 0;
  } else if constexpr (T::kind == vm_kind_scale) {
    return vm_float_of(code == 255 ? 0x7fc00000u : code == 0 ? 0x00400000u : code << 23);
  } else if constexpr (T::kind == vm_kind_codebook) {
    return vm_float_of(vm_entry(typename T::entries(), code));
  } else if constexpr (T::bits == 64) {
    return vm_double_of(code);
  } else if constexpr (T::exponent == 8) {
    constexpr unsigned mask = ~0u << T::unused;
    return vm_float_of((code << (32 - T::bits)) & mask);
#if VM_CUDA
  } else if constexpr (vm_is<T, vm_f16>) {
    float value;
    asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(value) : "r"(code));
    return value;
#elif VM_HIP
  } else if constexpr (vm_is<T, vm_f16>) {
    return (float)__builtin_bit_cast(_Float16, (unsigned short)code);
#endif
  } else {
    constexpr unsigned sign = 1u << (T::bits - 1);
    const unsigned magnitude = code & (sign - 1);
    const float small = vm_float_of(magnitude << (23 - T::mantissa));
    unsigned word = vm_word_of(vm_mul_f32(small, vm_power_of_two(127 - T::bias)));
    if constexpr (T::special == vm_ieee)
      if (magnitude > T::limit) word |= 0x7f800000u;
    if constexpr (T::special == vm_only_nan)
      if (magnitude > T::limit) word = 0x7fc00000u;
    return vm_float_of(word | (code & sign) << (32 - T::bits));
  }
}

// The code of a float in a float type of at most 32 bits, or f8e8m0. `Keep`: infinities are kept
// in every mode, as where no value of the source can be out of range.
template <class T, vm_overflow Mode, bool Keep = false>
VM_FUNCTION unsigned vm_encode(float value) {
  const unsigned word = vm_word_of(value), sign = word >> 31, magnitude = word & 0x7fffffffu;
  if constexpr (T::kind == vm_kind_scale) {
    if (magnitude > 0x7f800000u) return 255;
    if (sign || magnitude == 0) return Mode == vm_overflow_saturate ? 0 : 255;
    // Half way goes up. Below 2**-126 the mantissa is not normalized: 1.5 * 2**-127 goes up.
    const unsigned code = magnitude < 0x00800000u ? (magnitude >= 0x00600000u ? 1u : 0u)
                                                  : (magnitude + 0x00400000u) >> 23;
    return code > 254 ? (Mode == vm_overflow_saturate ? 254 : 255) : code;
  } else if constexpr (vm_is<T, vm_f32>) {
    return word;
  } else {
#if VM_CUDA
    if constexpr (vm_is<T, vm_f16> || vm_is<T, vm_bf16>) {
      unsigned short half;
      if constexpr (Mode == vm_overflow_saturate && !Keep) {
        if constexpr (vm_is<T, vm_f16>)
          asm("cvt.rn.satfinite.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
        else
          asm("cvt.rn.satfinite.bf16.f32 %0, %1;" : "=h"(half) : "f"(value));
      } else {
        if constexpr (vm_is<T, vm_f16>)
          asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
        else
          asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(value));
      }
      return half;
    }
#elif VM_HIP
    if constexpr (vm_is<T, vm_f16>) {
      const unsigned code = __builtin_bit_cast(unsigned short, (_Float16)value);
      const bool infinite = (code & 0x7fff) == 0x7c00 && Mode == vm_overflow_saturate && !Keep;
      return infinite ? code - 1 : code;
    }
#endif
    constexpr int drop = 23 - T::mantissa;
    constexpr int lowest = 1 - T::bias;  // the exponent of the smallest normal number
    constexpr unsigned rebias = (unsigned)(127 - T::bias) << 23;
    constexpr unsigned normal = (unsigned)(lowest + 127) << 23;
    unsigned code;
    if (magnitude < normal) {
      // The sum's last bit is the smallest subnormal, so that the adder rounds.
      const float anchor = vm_power_of_two(lowest - T::mantissa + 23);
      code = vm_word_of(vm_add_f32(vm_float_of(magnitude), anchor)) - vm_word_of(anchor);
    } else {
      // Without mantissa bits every significand is odd: half way goes up.
      const unsigned odd = T::mantissa == 0 ? 1u : (magnitude >> drop) & 1u;
      code = (magnitude - rebias + ((1u << (drop - 1)) - 1u + odd)) >> drop;
    }
    // f32 infinity lands beyond every limit but that of types with an 8-bit exponent, where it lands
    // on their infinity.
    constexpr unsigned top = Mode == vm_overflow_saturate && !Keep ? T::limit : T::beyond;
    code = code > top ? top : code;
    if (magnitude > 0x7f800000u) return T::nan << T::unused;
    return (code | sign << (T::exponent + T::mantissa)) << T::unused;
  }
}

// A double or an integer as a float, rounded to odd: where it is not exact, the last bit is set. A
// further rounding to nearest then gives what rounding once gives, for up to 22 bits (Boldo and
// Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd",
// IEEE Transactions on Computers, 2008).
VM_FUNCTION float vm_to_odd(double value) {
  const float near = (float)value;
  const double back = (double)near;
  if (back == value || value != value) return near;
  const bool away = (back < 0 ? -back : back) > (value < 0 ? -value : value);
  return vm_float_of((vm_word_of(near) - (away ? 1u : 0u)) | 1u);
}
VM_FUNCTION float vm_to_odd(unsigned long long value) {
  if (value < (1ull << 24)) return (float)(unsigned)value;
  const int drop = 40 - vm_leading_zeros(value);
  const unsigned lost = (value & ((1ull << drop) - 1)) != 0 ? 1u : 0u;
  return vm_mul_f32((float)((unsigned)(value >> drop) | lost), vm_power_of_two(drop));
}

// a * b + c of doubles whose product is exact, rounded to odd.
VM_FUNCTION double vm_fma_to_odd(double a, double b, double c) {
  const double product = vm_mul_f64(a, b), sum = vm_add_f64(product, c);
  const double rest = vm_add_f64(sum, -product);
  const double error = vm_add_f64(vm_add_f64(product, -vm_add_f64(sum, -rest)), vm_add_f64(c, -rest));
  const unsigned long long words = vm_words_of(sum);
  if (!(error != 0) || (words & 1) || (words & 0x7ff0000000000000ull) == 0x7ff0000000000000ull)
    return sum;
  return vm_double_of((error > 0) == (sum > 0) ? words + 1 : words - 1);
}

// To the nearest integer, ties to even, in type To; NaN gives 0.
template <class To> VM_FUNCTION typename To::value vm_to_integer(double value) {
  typedef typename To::value integer;
#if VM_CUDA
  const double whole = rint(value);
#else
  const double whole = __builtin_rint(value);
#endif
  if constexpr (To::kind == vm_kind_signed) {
    constexpr double limit = (double)(1ull << (To::bits - 1));
    constexpr integer least = -1 - (integer)((1ull << (To::bits - 1)) - 1);
    if (whole >= limit) return -1 - least;
    if (whole < -limit) return least;
    return whole == whole ? (integer)whole : 0;
  } else {
    constexpr double limit = 2.0 * (double)(1ull << (To::bits - 1));
    if (whole >= limit) return (integer)(~0ull >> (64 - To::bits));
    return whole > 0 ? (integer)whole : 0;
  }
}
template <class To> VM_FUNCTION typename To::value vm_to_integer(float value) {
#if VM_CUDA
  if constexpr (To::bits <= 31 || To::kind == vm_kind_signed && To::bits == 32) {
    constexpr bool is_signed = To::kind == vm_kind_signed;
    constexpr int most = (int)((1u << (To::bits - (is_signed ? 1 : 0))) - 1u);
    const int whole = __float2int_rn(value), least = is_signed ? -1 - most : 0;
    return (typename To::value)(whole < least ? least : whole > most ? most : whole);
  } else if constexpr (To::bits == 32) {
    return __float2uint_rn(value);
  }
#endif
  return vm_to_integer<To>((double)value);
}

// An integer value of one type as the nearest (or the wrapped) one of another.
template <class To, vm_overflow Mode, class Value>
VM_FUNCTION typename To::value vm_integer_to_integer(Value value) {
  typedef typename To::value integer;
  constexpr bool to_signed = To::kind == vm_kind_signed;
  constexpr unsigned long long most = ~0ull >> (64 - To::bits) >> (to_signed ? 1 : 0);
  if constexpr (Mode == vm_overflow_wrap) {
    return vm_decode<To>((typename To::code)value & (typename To::code)(~0ull >> (64 - To::bits)));
  } else if constexpr (vm_is<Value, int> || vm_is<Value, long long>) {
    const long long wide = value, least = to_signed ? -1 - (long long)most : 0;
    if (wide < least) return (integer)least;
    return wide > 0 && (unsigned long long)wide > most ? (integer)most : (integer)wide;
  } else {
    const unsigned long long wide = value;
    return wide > most ? (integer)most : (integer)wide;
  }
}

template <class From, class To> constexpr bool vm_infinities_survive() {
  if constexpr (vm_is_float<From> && vm_is_float<To>)
    return From::special == vm_ieee && To::special == vm_ieee && From::exponent <= To::exponent &&
           From::mantissa <= To::mantissa;
  else
    return false;
}

// One value of From as a code of To.
template <class To, class From, vm_overflow Mode>
VM_FUNCTION typename To::code vm_convert(typename From::value value) {
  constexpr bool from_integer = vm_is_integer<From> || From::kind == vm_kind_bool;
  static_assert(Mode != vm_overflow_wrap || (from_integer && vm_is_integer<To>),
                "only integers from integers wrap");
  if constexpr (To::kind == vm_kind_bool) {
    return value != 0;
  } else if constexpr (To::kind == vm_kind_codebook) {
    return vm_nearest_entry(typename To::limits(), typename To::order(), (double)value);
  } else if constexpr (vm_is_integer<To>) {
    typename To::value result;
    if constexpr (from_integer)
      result = vm_integer_to_integer<To, Mode>(value);
    else
      result = vm_to_integer<To>(value);
    return (typename To::code)result & (typename To::code)(~0ull >> (64 - To::bits));
  } else if constexpr (To::bits == 64) {
    return vm_words_of((double)value);
  } else if constexpr (From::bits <= 24 || !from_integer && From::bits <= 32) {
    return vm_encode<To, Mode, vm_infinities_survive<From, To>()>((float)value);
  } else if constexpr (vm_is<To, vm_f32>) {
    const float near = (float)value;
    if constexpr (!from_integer && Mode == vm_overflow_saturate)
      if ((vm_word_of(near) & 0x7fffffffu) == 0x7f800000u)
        return (vm_word_of(near) & 0x80000000u) | 0x7f7fffffu;
    return vm_word_of(near);
  } else if constexpr (from_integer) {
    bool negative = false;
    if constexpr (From::kind == vm_kind_signed) negative = value < 0;
    const unsigned long long wide = (unsigned long long)value;
    const float odd = vm_to_odd(negative ? 0ull - wide : wide);
    return vm_encode<To, Mode>(negative ? -odd : odd);
  } else {
    return vm_encode<To, Mode>(vm_to_odd(value));
  }
}
