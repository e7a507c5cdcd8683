// One element of any number of bits at any bit of memory, little-endian.
//
//   vm_load_bits_global(register, k, base, bit, predicate)     element k of the register becomes the
//   vm_load_bits_shared(register, k, base, bit, predicate)     element that begins `bit` bits after `base`
//   vm_store_bits_global(base, bit, register, k, predicate)    the reverse; other bits of the bytes stay,
//   vm_store_bits_shared(base, bit, register, k, predicate)    also where other threads store them
//
// `bit` is 64-bit and not negative. A load touches only the bytes that hold bits of the element. A store
// clears and sets its bits by atomic operations on the aligned 32-bit words around them; what else is in
// these words is written back as it is, atomically, so that nothing is lost.
#pragma once

template <bool Shared, class Address>
VM_FUNCTION unsigned vm_load_byte(Address address VM_PLACE) {
  unsigned byte = 0;
  if constexpr (Shared)
    vm_load_shared<1>(&byte, 0, address, true VM_AT);
  else
    vm_load_global<1>(&byte, 0, address, true VM_AT);
  return byte & 0xff;
}

#if VM_CUDA
template <bool Shared, class Address>
VM_FUNCTION void vm_merge_word(Address address, unsigned bits, unsigned mask) {
  if constexpr (Shared) {
    const unsigned window = vm_shared_window(address);
    asm volatile("red.relaxed.cta.shared.and.b32 [%0], %1;" :: "r"(window), "r"(~mask) : "memory");
    asm volatile("red.relaxed.cta.shared.or.b32 [%0], %1;" :: "r"(window), "r"(bits) : "memory");
  } else {
    asm volatile("red.relaxed.gpu.global.and.b32 [%0], %1;" :: "l"(address), "r"(~mask) : "memory");
    asm volatile("red.relaxed.gpu.global.or.b32 [%0], %1;" :: "l"(address), "r"(bits) : "memory");
  }
}
#elif VM_HIP
template <bool Shared, class Address>
VM_FUNCTION void vm_merge_word(Address address, unsigned bits, unsigned mask) {
  if constexpr (Shared) {
    unsigned* word = (unsigned*)(vm_shared_memory + address);
    __atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
    __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
  } else {
    __atomic_fetch_and((unsigned*)address, ~mask, __ATOMIC_RELAXED);
    __atomic_fetch_or((unsigned*)address, bits, __ATOMIC_RELAXED);
  }
}
#else
// Byte by byte, and only bytes with bits in the mask: a NumPy array need not fill its last word.
template <bool Shared, class Address>
VM_FUNCTION void vm_merge_word(Address address, unsigned bits, unsigned mask, vm_place place) {
  for (int i = 0; i < 4; i++) {
    const unsigned part = mask >> (8 * i) & 0xff;
    if (part == 0) continue;
    unsigned char* byte;
    if constexpr (Shared)
      byte = (unsigned char*)vm_emulator_shared(address + i, 1, 1, place);
    else
      byte = (unsigned char*)vm_emulator_global((const unsigned char*)address + i, 1, 1, true, place);
    *byte = (unsigned char)((*byte & ~part) | (bits >> (8 * i) & 0xff));
  }
}
#endif

template <bool Shared, class T, int N, class Address>
VM_FUNCTION void vm_load_bits(vm_register<T, N>& target, int k, Address base, long long bit,
                              bool predicate VM_PLACE) {
  constexpr int most = (T::bits + 14) / 8;  // bytes that an element may touch
  unsigned long long code = 0;
  if (predicate) {
    const int shift = (int)(bit & 7);
    VM_UNROLL for (int i = 0; i < (most < 8 ? most : 8); i++)
      if (i == 0 || 8 * i < shift + T::bits)
        code |= (unsigned long long)vm_load_byte<Shared>(base + (bit >> 3) + i VM_AT) << (8 * i);
    code >>= shift;
    if constexpr (most > 8)
      if (64 < shift + T::bits)
        code |= (unsigned long long)vm_load_byte<Shared>(base + (bit >> 3) + 8 VM_AT) << (64 - shift);
  }
  vm_set_code(target, k, (typename T::code)(code & ~0ull >> (64 - T::bits)));
}

template <bool Shared, class T, int N, class Address>
VM_FUNCTION void vm_store_bits(Address base, long long bit, const vm_register<T, N>& source, int k,
                               bool predicate VM_PLACE) {
  if (predicate) {
    Address byte = base + (bit >> 3);
    const int lead = (int)((unsigned long long)byte & 3);
    const int shift = 8 * lead + (int)(bit & 7);
    constexpr unsigned long long ones = ~0ull >> (64 - T::bits);
    const unsigned long long code = vm_get_code(source, k);
    VM_UNROLL for (int word = 0; 32 * word < 31 + T::bits; word++) {
      const int left = shift - 32 * word;  // the bits of this word that lie before the element
      if (left + T::bits <= 0) continue;
      const unsigned bits = (unsigned)(left >= 0 ? code << left : code >> -left);
      const unsigned mask = (unsigned)(left >= 0 ? ones << left : ones >> -left);
      vm_merge_word<Shared>(byte - lead + 4 * word, bits, mask VM_AT);
    }
  }
}

template <class T, int N>
VM_FUNCTION void vm_load_bits_global(vm_register<T, N>& target, int k, const void* base, long long bit,
                                     bool predicate = true VM_PLACE) {
  vm_load_bits<false>(target, k, (const unsigned char*)base, bit, predicate VM_AT);
}
template <class T, int N>
VM_FUNCTION void vm_load_bits_shared(vm_register<T, N>& target, int k, unsigned base, long long bit,
                                     bool predicate = true VM_PLACE) {
  vm_load_bits<true>(target, k, base, bit, predicate VM_AT);
}
template <class T, int N>
VM_FUNCTION void vm_store_bits_global(void* base, long long bit, const vm_register<T, N>& source, int k,
                                      bool predicate = true VM_PLACE) {
  vm_store_bits<false>((unsigned char*)base, bit, source, k, predicate VM_AT);
}
template <class T, int N>
VM_FUNCTION void vm_store_bits_shared(unsigned base, long long bit, const vm_register<T, N>& source,
                                      int k, bool predicate = true VM_PLACE) {
  vm_store_bits<true>(base, bit, source, k, predicate VM_AT);
}
