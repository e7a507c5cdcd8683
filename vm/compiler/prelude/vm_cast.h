// vm_cast: every element of a register as another type, by the rules of vm_number.h.
//
// The shorter ways here go through words that hold several elements. The emulator runs them too, from
// the meaning of their instructions, and tests hold them against the general path.
#pragma once

// The general path: one element after the other.
template <vm_overflow Mode, class To, class From, int N>
VM_FUNCTION void vm_cast_each(vm_register<To, N>& target, const vm_register<From, N>& source) {
  target = vm_zero<To, N>();
  VM_UNROLL for (int k = 0; k < N; k++) {
    const typename From::value value = vm_decode<From>(vm_get_code(source, k));
    vm_set_code(target, k, vm_convert<To, From, Mode>(value));
  }
}

// Elements k and k + 1 of at most 8 bits in the lower and the upper half of a word, each with its
// lowest bit at bit `Low`; the other bits are whatever lay beside them.
template <int Low, class T, int N>
VM_FUNCTION unsigned vm_two_fields(const vm_register<T, N>& source, int k) {
  constexpr int B = T::bits;
  const int first = k * B - Low, second = (k + 1 < N ? k + 1 : k) * B - Low - 16;
  // Where to begin reading so that a field lies at its place: before the register's beginning too.
  const int limit = vm_register<T, N>::count - 1;
  auto window = [&](int bit) -> unsigned {
    if (bit < 0) return bit <= -32 ? 0u : source.words[0] << -bit;
    const int word = bit / 32, shift = bit % 32;
    return vm_funnel(source.words[word], source.words[word < limit ? word + 1 : word], shift);
  };
  return vm_merge(window(second), window(first), 0xffff0000u);
}

// Integers of at most 8 bits as pairs of f16: a field below the exponent of 1024 is 1024 + u; i.e.
// two's complement, its sign bit inverted, is 1024 + i + 2**(bits - 1). bf16 has 7 mantissa bits:
// 128 + u.
template <class T, int B, bool Signed> VM_FUNCTION unsigned vm_remove_bias(unsigned pair) {
  constexpr unsigned one = vm_is<T, vm_f16> ? 0x3c003c00u : 0x3f803f80u;
  constexpr unsigned base = vm_is<T, vm_f16> ? 0xe400u : 0xc300u;
  constexpr unsigned bias = Signed ? 1u << (B - 1) : 0u;
  constexpr unsigned minus = (base + bias) * 0x10001u;
  if constexpr (vm_is<T, vm_f16>) return vm_pair_add<T>(pair, minus);
  return vm_pair_fma<T>(pair, one, minus);
}

// Eight 4-bit integers in a word as eight f16 or bf16, in order.
template <class T, bool Signed> VM_FUNCTION void vm_nibbles_to_halves(unsigned* halves, unsigned word) {
  unsigned fields[4];  // fields[i] holds elements i and i + 4
  if constexpr (Signed) word ^= 0x88888888u;
  if constexpr (vm_is<T, vm_f16>) {
    const unsigned upper = word >> 8;
    fields[0] = vm_and_or(word, 0x000f000fu, 0x64006400u);
    fields[1] = vm_and_or(word, 0x00f000f0u, 0x64006400u);  // 1024 + 16 u
    fields[2] = vm_and_or(upper, 0x000f000fu, 0x64006400u);
    fields[3] = vm_and_or(upper, 0x00f000f0u, 0x64006400u);
    constexpr unsigned minus = Signed ? 0xe408e408u : 0xe400e400u;       // -1032, -1024
    constexpr unsigned minus_part = Signed ? 0xd480d480u : 0xd400d400u;  // -72, -64
    fields[0] = vm_pair_add<T>(fields[0], minus);
    fields[1] = vm_pair_fma<T>(fields[1], 0x2c002c00u, minus_part);
    fields[2] = vm_pair_add<T>(fields[2], minus);
    fields[3] = vm_pair_fma<T>(fields[3], 0x2c002c00u, minus_part);
  } else {
    VM_UNROLL for (int i = 0; i < 4; i++)
      fields[i] = vm_remove_bias<T, 4, Signed>(vm_and_or(word >> (4 * i), 0x000f000fu, 0x43004300u));
  }
  halves[0] = vm_byte_permute(fields[0], fields[1], 0x5410);
  halves[1] = vm_byte_permute(fields[2], fields[3], 0x5410);
  halves[2] = vm_byte_permute(fields[0], fields[1], 0x7632);
  halves[3] = vm_byte_permute(fields[2], fields[3], 0x7632);
}

// Four bytes in a word as four f16 or bf16. bf16 has too few bits for 128 + u: as f32, 2**23 + u less
// 2**23, whose upper half is exact.
template <class T, bool Signed> VM_FUNCTION void vm_bytes_to_halves(unsigned* halves, unsigned word) {
  if constexpr (Signed) word ^= 0x80808080u;
  if constexpr (vm_is<T, vm_f16>) {
    constexpr unsigned minus = Signed ? 0xe480e480u : 0xe400e400u;  // -1152, -1024
    halves[0] = vm_pair_add<T>(vm_byte_permute(word, 0x64646464u, 0x4140), minus);
    halves[1] = vm_pair_add<T>(vm_byte_permute(word, 0x64646464u, 0x4342), minus);
  } else {
    constexpr float minus = Signed ? -8388736.0f : -8388608.0f;
    unsigned wide[4];
    VM_UNROLL for (int i = 0; i < 4; i++) {
      const unsigned biased = vm_byte_permute(word, 0x4b000000u, 0x7440u + i);
      wide[i] = vm_word_of(vm_add_f32(vm_float_of(biased), minus));
    }
    halves[0] = vm_byte_permute(wide[0], wide[1], 0x7632);
    halves[1] = vm_byte_permute(wide[2], wide[3], 0x7632);
  }
}

// Small floats whose exponent fits: sign, exponent and mantissa at their places in the wider type
// are the value times 2**(bias of From - bias of To); the product is exact, subnormals included.
template <class To, class From> constexpr bool vm_small_float_fits() {
  if constexpr (vm_is_float<From> && (vm_is<To, vm_f16> || vm_is<To, vm_bf16>))
    return From::bits <= 8 && From::special != vm_ieee &&
           From::exponent < (vm_is<To, vm_f16> ? 5 : 8);
  else
    return false;
}
template <class To, class From, int N>
VM_FUNCTION unsigned vm_small_floats_to_pair(const vm_register<From, N>& source, int k) {
  constexpr int B = From::bits;
  const unsigned fields = vm_two_fields<16 - B>(source, k);  // signs at bits 15 and 31
  constexpr unsigned magnitudes = ((1u << (B - 1)) - 1) << (To::mantissa - From::mantissa);
  constexpr int down = 16 - B - (To::mantissa - From::mantissa);
  const unsigned signs = fields & 0x80008000u;
  const unsigned placed = vm_and_or(fields >> down, magnitudes * 0x10001u, signs);
  constexpr unsigned scale = (unsigned)(To::bias - From::bias + To::bias) << To::mantissa;
  unsigned pair = vm_pair_mul<To>(placed, scale * 0x10001u);
  if constexpr (From::special == vm_only_nan) {
    // Magnitudes of all ones are NaN: adding 1 there carries into the bit above, and only there.
    constexpr unsigned step = 1u << (To::mantissa - From::mantissa), above = magnitudes + step;
    const unsigned carried = ((placed & 0x7fff7fffu) + step * 0x10001u) & (above * 0x10001u);
    pair |= (carried / above) * 0x7fffu;
  }
  return pair;
}

// Two f32, or the pair of f16 in a word, to nearest as two f8 that saturate; and two f8 as f16. The
// hardware has them from sm_89 on.
template <class To> VM_FUNCTION unsigned vm_pack_f8(float low, float high) {
#if VM_CUDA && VM_ARCH >= 890
  unsigned short pair;
  if constexpr (vm_is<To, vm_f8e4m3>)
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  else
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return vm_encode<To, vm_overflow_saturate>(low) | vm_encode<To, vm_overflow_saturate>(high) << 8;
#endif
}
template <class To> VM_FUNCTION unsigned vm_pack_f8(unsigned halves) {
#if VM_CUDA && VM_ARCH >= 890
  unsigned short pair;
  if constexpr (vm_is<To, vm_f8e4m3>)
    asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(pair) : "r"(halves));
  else
    asm("cvt.rn.satfinite.e5m2x2.f16x2 %0, %1;" : "=h"(pair) : "r"(halves));
  return pair;
#else
  return vm_pack_f8<To>(vm_low<vm_f16>(halves), vm_high<vm_f16>(halves));
#endif
}
// The two in the lower half of a word, or in the upper one: as halves ptxas reads both where they
// are, and shifts the upper one down if a program does.
template <class From, bool Upper = false> VM_FUNCTION unsigned vm_unpack_f8(unsigned word) {
#if VM_CUDA && VM_ARCH >= 890
  unsigned halves;
  unsigned short low, high;
  asm("mov.b32 {%0, %1}, %2;" : "=h"(low), "=h"(high) : "r"(word));
  if constexpr (vm_is<From, vm_f8e4m3>)
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(Upper ? high : low));
  else
    asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(Upper ? high : low));
  return halves;
#else
  const unsigned pair = Upper ? word >> 16 : word;
  return vm_pack<vm_f16, vm_overflow_ieee>(vm_decode<From>(pair & 0xff),
                                           vm_decode<From>(pair >> 8 & 0xff));
#endif
}

// target[k] = source[k] as a value of To, rounded to nearest even; `Mode` says what becomes of values
// out of range: vm_cast(target, source), vm_cast<vm_overflow_ieee>(target, source).
template <vm_overflow Mode = vm_overflow_saturate, class To, class From, int N>
VM_FUNCTION void vm_cast(vm_register<To, N>& target, const vm_register<From, N>& source) {
  constexpr bool to_half = vm_is<To, vm_f16> || vm_is<To, vm_bf16>;
  constexpr bool small_integer = vm_is_integer<From> && From::bits <= 8;
  constexpr bool is_signed = From::kind == vm_kind_signed;
  if constexpr (vm_is<To, From>) {
    target = source;
  } else if constexpr (to_half && small_integer && From::bits == 4 && N % 8 == 0) {
    VM_UNROLL for (int i = 0; i < N / 8; i++)
      vm_nibbles_to_halves<To, is_signed>(target.words + 4 * i, source.words[i]);
  } else if constexpr (to_half && small_integer && From::bits == 8 && N % 4 == 0) {
    VM_UNROLL for (int i = 0; i < N / 4; i++)
      vm_bytes_to_halves<To, is_signed>(target.words + 2 * i, source.words[i]);
  } else if constexpr (to_half && small_integer && From::bits <= (vm_is<To, vm_f16> ? 8 : 7)) {
    constexpr unsigned mask = ((1u << From::bits) - 1) * 0x10001u;
    constexpr unsigned magic = vm_is<To, vm_f16> ? 0x64006400u : 0x43004300u;
    constexpr unsigned flip = is_signed ? (1u << (From::bits - 1)) * 0x10001u : 0u;
    VM_UNROLL for (int k = 0; k < N; k += 2) {
      // (a & mask) ^ c: the magic bits and the inverted sign at once.
      const unsigned biased = vm_lop3<0x6a>(vm_two_fields<0>(source, k), mask, magic ^ flip);
      target.words[k / 2] = vm_remove_bias<To, From::bits, is_signed>(biased);
    }
  } else if constexpr (vm_is<To, vm_f16> && vm_is<From, vm_f8e5m2>) {
    VM_UNROLL for (int k = 0; k < N; k += 2)  // the upper half of an f16
      target.words[k / 2] = vm_byte_permute(source.words[k / 4], 0, k % 4 == 0 ? 0x1404 : 0x3424);
#if VM_CUDA && VM_ARCH >= 890
  } else if constexpr (vm_is<To, vm_f16> && vm_is<From, vm_f8e4m3>) {
    VM_UNROLL for (int k = 0; k < N; k += 2)
      target.words[k / 2] = k % 4 == 0 ? vm_unpack_f8<From>(source.words[k / 4])
                                       : vm_unpack_f8<From, true>(source.words[k / 4]);
  } else if constexpr ((vm_is<To, vm_f8e4m3> || vm_is<To, vm_f8e5m2>) && Mode == vm_overflow_saturate &&
                       vm_is_narrow_float<From> && From::bits >= 16) {
    VM_UNROLL for (int k = 0; k < N; k += 2) {
      unsigned pair;
      if constexpr (vm_is<From, vm_f16>) {
        pair = vm_pack_f8<To>(source.words[k / 2]);
      } else {
        const float low = vm_decode<From>(vm_get_code(source, k));
        pair = vm_pack_f8<To>(low, k + 1 < N ? vm_decode<From>(vm_get_code(source, k + 1)) : low);
      }
      target.words[k / 4] = k % 4 == 0 ? pair : target.words[k / 4] | pair << 16;
    }
#endif
  } else if constexpr (vm_small_float_fits<To, From>()) {
    VM_UNROLL for (int k = 0; k < N; k += 2)
      target.words[k / 2] = vm_small_floats_to_pair<To>(source, k);
  } else if constexpr (to_half && vm_is_narrow_float<From> && !vm_infinities_survive<From, To>()) {
    VM_UNROLL for (int k = 0; k < N; k += 2) {
      const float low = vm_decode<From>(vm_get_code(source, k));
      const float high = k + 1 < N ? vm_decode<From>(vm_get_code(source, k + 1)) : low;
      target.words[k / 2] = vm_pack<To, Mode>(low, high);
    }
  } else {
    vm_cast_each<Mode>(target, source);
  }
}
