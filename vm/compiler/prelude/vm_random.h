// Random words and tables.
//
//   vm_philox(target, seed, counter, stream)   each element of `target` (u32) becomes word `counter` of
//                                              a stream of Philox4x32-10; all three are integers of any
//                                              type, taken modulo 2**64
//   vm_lookup(target, codes, table)            element k becomes element codes[k] of `table`, which each
//                                              thread holds whole; past its end, some element of it
#pragma once

template <class T, int N>
VM_FUNCTION unsigned long long vm_modulo_64(const vm_register<T, N>& source, int k) {
  return (unsigned long long)(long long)vm_decode<T>(vm_get_code(source, k));
}

// The block of a counter (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011).
VM_FUNCTION void vm_philox_block(unsigned* words, unsigned long long seed, unsigned long long block,
                                 unsigned long long stream) {
  unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32);
  unsigned c2 = (unsigned)stream, c3 = (unsigned)(stream >> 32);
  unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
  VM_UNROLL for (int round = 0; round < 10; round++) {
    const unsigned long long first = (unsigned long long)c0 * 0xd2511f53u;
    const unsigned long long second = (unsigned long long)c2 * 0xcd9e8d57u;
    c0 = (unsigned)(second >> 32) ^ c1 ^ k0;
    c2 = (unsigned)(first >> 32) ^ c3 ^ k1;
    c1 = (unsigned)second;
    c3 = (unsigned)first;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

template <class Seed, class Counter, class Stream, int N>
VM_FUNCTION void vm_philox(vm_register<vm_u32, N>& target, const vm_register<Seed, 1>& seed,
                           const vm_register<Counter, N>& counter,
                           const vm_register<Stream, 1>& stream) {
  const unsigned long long key = vm_modulo_64(seed, 0), high = vm_modulo_64(stream, 0);
  unsigned long long last = 0;
  unsigned words[4];
  vm_register<vm_u32, N> result;
  VM_UNROLL for (int k = 0; k < N; k++) {
    const unsigned long long position = vm_modulo_64(counter, k), block = position >> 2;
    // Neighbouring positions are of one block: it is computed once for them.
    if (k == 0 || block != last) vm_philox_block(words, key, block, high);
    last = block;
    result.words[k] =
        vm_choose<0, 4>((unsigned)position & 3, [&](int index) { return words[index]; });
  }
  target = result;  // which may be an operand
}

template <class T, class Code, int N, int Entries>
VM_FUNCTION void vm_lookup(vm_register<T, N>& target, const vm_register<Code, N>& codes,
                           const vm_register<T, Entries>& table) {
  vm_register<T, N> result = vm_zero<T, N>();
  VM_UNROLL for (int k = 0; k < N; k++)
    vm_set_code(result, k, vm_choose<0, Entries>((unsigned)vm_get_code(codes, k), [&](int index) {
                  return vm_get_code(table, index);
                }));
  target = result;
}
