// Telling the host: failed checks, and values for whoever debugs.
//
//   vm_check(condition, record, code)    where the condition fails, the first thread to fail writes the
//                                        record and all go on; a record is 8 words in global memory, 0
//                                        before: code, block 0 1 2, thread, 0 0 0
//   vm_assert(condition, record, code)   the same, and the kernel ends there: the record has to be host
//                                        memory that the device maps, since the context is lost
//   vm_assert_all(register)              ends the kernel unless every element of a bool register holds
//   vm_print(label, register)            every element of this thread's register, a line each
//   vm_print_value(label, value)         an int, unsigned, long long or float
#pragma once

VM_FUNCTION void vm_check(bool condition, unsigned* record, unsigned code VM_PLACE) {
  if (condition) return;
  const unsigned swap[2] = {0u, code};
  unsigned before = 1;
  vm_atomic_global<vm_atomic_cas, vm_u32>(&before, record, swap, true VM_AT);
  if (before == 0) {
    const unsigned where[4] = {(unsigned)VM_BLOCK_INDEX(0), (unsigned)VM_BLOCK_INDEX(1),
                               (unsigned)VM_BLOCK_INDEX(2), (unsigned)VM_THREAD};
    VM_UNROLL for (int i = 0; i < 4; i++)
      vm_store_global<4>(record + 1 + i, where, 4 * i, true VM_AT);
  }
}
VM_FUNCTION void vm_assert(bool condition, unsigned* record, unsigned code VM_PLACE) {
  if (condition) return;
  vm_check(condition, record, code VM_AT);
#if VM_EMULATOR
  vm_emulator_fault("assert", place, "an assertion failed");
#else
  vm_fence_system();
#if VM_CUDA
  asm volatile("trap;");
#else
  __builtin_trap();
#endif
#endif
}


template <int N> VM_FUNCTION void vm_assert_all(const vm_register<vm_bool, N>& condition VM_PLACE) {
  bool all = true;
  VM_UNROLL for (int k = 0; k < N; k++) all = all && vm_get_code(condition, k) != 0;
  if (all) return;
#if VM_EMULATOR
  vm_emulator_fault("assert", place, "an assertion failed");
#elif VM_CUDA
  asm volatile("trap;");
#else
  __builtin_trap();
#endif
}

#if VM_CUDA
VM_FUNCTION void vm_print_float(const char* label, int k, double value) {
  printf("%s[%d] block %d %d %d thread %d: %.9g\n", label, k, VM_BLOCK_INDEX(0), VM_BLOCK_INDEX(1),
         VM_BLOCK_INDEX(2), VM_THREAD, value);
}
VM_FUNCTION void vm_print_integer(const char* label, int k, long long value) {
  printf("%s[%d] block %d %d %d thread %d: %lld\n", label, k, VM_BLOCK_INDEX(0), VM_BLOCK_INDEX(1),
         VM_BLOCK_INDEX(2), VM_THREAD, value);
}
#elif VM_EMULATOR
VM_FUNCTION void vm_print_head(const char* label, int k) {
  vm_emulator_print(label);
  vm_emulator_print("[");
  vm_emulator_print_integer(k);
  vm_emulator_print("] block ");
  for (int axis = 0; axis < 3; axis++) {
    vm_emulator_print_integer(VM_BLOCK_INDEX(axis));
    vm_emulator_print(" ");
  }
  vm_emulator_print("thread ");
  vm_emulator_print_integer(VM_THREAD);
  vm_emulator_print(": ");
}
VM_FUNCTION void vm_print_float(const char* label, int k, double value) {
  vm_print_head(label, k);
  vm_emulator_print_float(value);
  vm_emulator_print("\n");
}
VM_FUNCTION void vm_print_integer(const char* label, int k, long long value) {
  vm_print_head(label, k);
  vm_emulator_print_integer(value);
  vm_emulator_print("\n");
}
#endif
#if !VM_HIP
VM_FUNCTION void vm_print_value(const char* label, float value) { vm_print_float(label, 0, value); }
VM_FUNCTION void vm_print_value(const char* label, int value) { vm_print_integer(label, 0, value); }
VM_FUNCTION void vm_print_value(const char* label, unsigned value) { vm_print_integer(label, 0, value); }
VM_FUNCTION void vm_print_value(const char* label, long long value) { vm_print_integer(label, 0, value); }
template <class T, int N> VM_FUNCTION void vm_print(const char* label, const vm_register<T, N>& source) {
  for (int k = 0; k < N; k++) {
    if constexpr (vm_is_integer<T> || T::kind == vm_kind_bool)
      vm_print_integer(label, k, (long long)vm_decode<T>(vm_get_code(source, k)));
    else
      vm_print_float(label, k, (double)vm_decode<T>(vm_get_code(source, k)));
  }
}
#endif
