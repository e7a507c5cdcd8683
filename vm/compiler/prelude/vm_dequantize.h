// Packed integers as floats, several of a word at once.
//
//   vm_dequantize<Offset, Slots...>(target, source)   slot k of `target` becomes slot Slots[k] of
//                                                     `source` less Offset: exact
//
// Eight nibbles of a word come out as four pairs of f16 in the order 0 4, 1 5, 2 6, 3 7 by one shift,
// four logical and four half operations: below the exponent of 1024 a nibble n is 1024 + n or, four
// bits further up, 1024 + 16 n. In any other order the slots are picked first.
#pragma once

// A whole number of at most 2048 as f16, twice in a word.
constexpr unsigned vm_half_pair(int value) {
  if (value == 0) return 0;
  const unsigned sign = value < 0 ? 0x8000u : 0u;
  const unsigned magnitude = (unsigned)(value < 0 ? -value : value);
  unsigned exponent = 0;
  while (magnitude >> (exponent + 1)) exponent++;
  const unsigned mantissa = (exponent > 10 ? magnitude >> (exponent - 10)
                                           : magnitude << (10 - exponent)) & 0x3ffu;
  return (sign | (exponent + 15) << 10 | mantissa) * 0x10001u;
}

template <bool Signed, int Offset>
VM_FUNCTION void vm_nibbles_to_pairs(unsigned* pairs, unsigned word) {
  constexpr int bias = Signed ? 8 : 0;
  constexpr unsigned low = vm_half_pair(-(1024 + bias + Offset));
  constexpr unsigned high = vm_half_pair(-(64 + bias + Offset));
  if constexpr (Signed) word ^= 0x88888888u;
  const unsigned upper = word >> 8;
  pairs[0] = vm_pair_add<vm_f16>(vm_and_or(word, 0x000f000fu, 0x64006400u), low);
  pairs[1] = vm_pair_fma<vm_f16>(vm_and_or(word, 0x00f000f0u, 0x64006400u), 0x2c002c00u, high);
  pairs[2] = vm_pair_add<vm_f16>(vm_and_or(upper, 0x000f000fu, 0x64006400u), low);
  pairs[3] = vm_pair_fma<vm_f16>(vm_and_or(upper, 0x00f000f0u, 0x64006400u), 0x2c002c00u, high);
}

// Whether the slots are, for each word of eight, 0 4 1 5 2 6 3 7 of some word of the source.
template <int... Slots> constexpr bool vm_is_interleaved() {
  constexpr int slots[] = {Slots...};
  constexpr int count = sizeof...(Slots);
  if (count % 8 != 0) return false;
  for (int k = 0; k < count; k++) {
    const int first = slots[k / 8 * 8];
    if (first % 8 != 0 || slots[k] != first + k % 8 / 2 + 4 * (k % 2)) return false;
  }
  return true;
}

template <int Offset, int... Slots, class From, int N, int M>
VM_FUNCTION void vm_dequantize(vm_register<vm_f16, M>& target, const vm_register<From, N>& source) {
  static_assert(sizeof...(Slots) == M, "one source slot for each slot of the target");
  if constexpr (From::bits == 4 && vm_is_interleaved<Slots...>()) {
    constexpr int slots[] = {Slots...};
    VM_UNROLL for (int i = 0; i < M / 8; i++)
      vm_nibbles_to_pairs<From::kind == vm_kind_signed, Offset>(target.words + 4 * i,
                                                                source.words[slots[8 * i] / 8]);
  } else {
    vm_register<From, M> picked;
    vm_pick<Slots...>(picked, source);
    vm_cast(target, picked);
    if constexpr (Offset != 0)
      vm_sub(target, target, vm_constant<vm_f16>(vm_half_pair(Offset) & 0xffffu));
  }
}
