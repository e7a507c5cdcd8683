// Register tensors: the N elements of type T that one thread holds, packed little-endian at bit
// k * bits into 32-bit words. An element may lie across words (3, 5, 6, 7 bits; any size). Loops run
// over constants, so that the words stay in registers once all is inlined.
#pragma once

template <class T, int N> struct vm_register {
  static constexpr int bits = T::bits * N;
  static constexpr int count = (bits + 31) / 32;
  unsigned words[count];
#if VM_EMULATOR
  // All ones is NaN in every float type that has one: reading what was never written shows.
  vm_register() {
    for (int i = 0; i < count; i++) words[i] = 0xffffffffu;
  }
#endif
};

// The bits of element k, zero-extended.
template <class T, int N>
VM_FUNCTION typename T::code vm_get_code(const vm_register<T, N>& source, int k) {
  const int bit = k * T::bits, word = bit / 32, shift = bit % 32;
  if constexpr (T::bits == 32) {
    return source.words[k];
  } else if constexpr (T::bits < 32) {
    unsigned code = source.words[word] >> shift;
    if constexpr (32 % T::bits != 0)
      if (shift + T::bits > 32) code |= source.words[word + 1] << (32 - shift);
    return code & ((1u << T::bits) - 1);
  } else {
    unsigned long long code = source.words[word] >> shift;
    code |= (unsigned long long)source.words[word + 1] << (32 - shift);
    if constexpr (64 % T::bits != 0)
      if (shift + T::bits > 64) code |= (unsigned long long)source.words[word + 2] << (64 - shift);
    return T::bits == 64 ? code : code & ((1ull << (T::bits % 64)) - 1);
  }
}

// Replaces the bits of element k; `code` has no others set.
template <class T, int N>
VM_FUNCTION void vm_set_code(vm_register<T, N>& target, int k, typename T::code code) {
  const int bit = k * T::bits, word = bit / 32, shift = bit % 32;
  if constexpr (T::bits == 32) {
    target.words[k] = code;
  } else if constexpr (T::bits < 32) {
    const unsigned mask = (1u << T::bits) - 1;
    target.words[word] = (target.words[word] & ~(mask << shift)) | code << shift;
    if constexpr (32 % T::bits != 0)
      if (shift + T::bits > 32)
        target.words[word + 1] =
            (target.words[word + 1] & ~(mask >> (32 - shift))) | code >> (32 - shift);
  } else {
    const unsigned long long mask = T::bits == 64 ? ~0ull : (1ull << (T::bits % 64)) - 1;
    target.words[word] =
        (target.words[word] & ~(unsigned)(mask << shift)) | (unsigned)(code << shift);
    target.words[word + 1] = (target.words[word + 1] & ~(unsigned)(mask >> (32 - shift))) |
                             (unsigned)(code >> (32 - shift));
    if constexpr (64 % T::bits != 0)
      if (shift + T::bits > 64)
        target.words[word + 2] = (target.words[word + 2] & ~(unsigned)(mask >> (64 - shift))) |
                                 (unsigned)(code >> (64 - shift));
  }
}

// All bits 0: elements are set in it one by one without regard to what the registers held.
template <class T, int N> VM_FUNCTION vm_register<T, N> vm_zero() {
  vm_register<T, N> result;
  VM_UNROLL for (int i = 0; i < result.count; i++) result.words[i] = 0;
  return result;
}

// One element from its bits: how constants are written, `vm_constant<vm_f16>(0x3c00)`.
template <class T> VM_FUNCTION vm_register<T, 1> vm_constant(unsigned long long code) {
  vm_register<T, 1> result;
  result.words[0] = (unsigned)code;
  if constexpr (T::bits > 32) result.words[1] = (unsigned)(code >> 32);
  return result;
}

// Every element of `target` becomes the one element of `source`.
template <class T, int N>
VM_FUNCTION void vm_fill(vm_register<T, N>& target, const vm_register<T, 1>& source) {
  if constexpr (T::bits <= 32 && 32 % T::bits == 0) {
    unsigned word = source.words[0];
    if constexpr (T::bits < 32) word &= (1u << (T::bits % 32)) - 1;
    VM_UNROLL for (int b = T::bits; b < 32; b *= 2) word |= word << b;
    VM_UNROLL for (int i = 0; i < target.count; i++) target.words[i] = word;
  } else {
    const typename T::code code = vm_get_code(source, 0);
    target = vm_zero<T, N>();
    VM_UNROLL for (int k = 0; k < N; k++) vm_set_code(target, k, code);
  }
}
template <class T, int N> VM_FUNCTION void vm_fill(vm_register<T, N>& target, unsigned long long code) {
  vm_fill(target, vm_constant<T>(code));
}

// The same bits as elements of another type; both have the same number of bits. Costs nothing.
template <class To, int M, class From, int N>
VM_FUNCTION void vm_view(vm_register<To, M>& target, const vm_register<From, N>& source) {
  static_assert(To::bits * M == From::bits * N, "a view keeps the number of bits");
  VM_UNROLL for (int i = 0; i < target.count; i++) target.words[i] = source.words[i];
}

// Whether every slot that is picked stays where it is.
template <int... Slots> constexpr bool vm_in_place() {
  int place = 0;
  return ((Slots == place++) && ...);
}

// Slot k of `target` becomes slot Slots[k] of `source`: broadcasts, transposes, parts of a register.
template <int... Slots, class T, int N, int M>
VM_FUNCTION void vm_pick(vm_register<T, M>& target, const vm_register<T, N>& source) {
  static_assert(sizeof...(Slots) == M, "one source slot for each slot of the target");
  static_assert(((Slots >= 0 && Slots < N) && ...), "a source slot that is not there");
  if constexpr (vm_in_place<Slots...>()) {
    VM_UNROLL for (int i = 0; i < target.count; i++) target.words[i] = source.words[i];
  } else {
    vm_register<T, M> result = vm_zero<T, M>();  // `target` may be `source`
    int k = 0;
    ((vm_set_code(result, k, vm_get_code(source, Slots)), k++), ...);
    target = result;
  }
}

// The slots of `source`, and behind them others that are not defined.
template <class T, int N, int M>
VM_FUNCTION void vm_pad(vm_register<T, M>& target, const vm_register<T, N>& source) {
  static_assert(M >= N, "a register for all the slots");
  VM_UNROLL for (int i = 0; i < source.count; i++) target.words[i] = source.words[i];
}

// The slots of registers by turns: slot n k + i of `target` is slot k of the one of n that is i-th.
template <class T, int M, int N, class... Others>
VM_FUNCTION void vm_interleave(vm_register<T, M>& target, const vm_register<T, N>& first,
                               const Others&... others) {
  constexpr int count = 1 + sizeof...(Others);
  static_assert(M == N * count, "as many slots as the operands have together");
  vm_register<T, M> result = vm_zero<T, M>();
  VM_UNROLL for (int k = 0; k < N; k++) {
    int slot = count * k;
    vm_set_code(result, slot, vm_get_code(first, k));
    (vm_set_code(result, ++slot, vm_get_code(others, k)), ...);
  }
  target = result;
}

// Slots Slots[k] of `target` become slot k of `source`; the others stay as they are.
template <int... Slots, class T, int N, int M>
VM_FUNCTION void vm_place_slots(vm_register<T, M>& target, const vm_register<T, N>& source) {
  static_assert(sizeof...(Slots) == N, "one target slot for each slot of the source");
  static_assert(((Slots >= 0 && Slots < M) && ...), "a target slot that is not there");
  int k = 0;
  ((vm_set_code(target, Slots, vm_get_code(source, k)), k++), ...);
}
