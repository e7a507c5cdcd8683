// Atomic operations on one element in global memory (among all blocks) or shared memory (in the block).
//
//   vm_atomic_global<Operation, T, Order>(old, address, operands, predicate)   old: the words before it
//   vm_atomic_shared<Operation, T, Order>(old, address, operands, predicate)   (untouched if not done)
//   vm_reduce_global<Operation, T, Order>(address, operands, predicate)        the same without `old`
//   vm_reduce_shared<Operation, T, Order>(address, operands, predicate)
//        `operands` are the words of one element; for cas, of the expected one and of the new one.
//        add, exchange, cas: u32 i32 u64 i64; min, max, and, or, xor: the same; add: f32 f64, and vm_f16
//        or vm_bf16 for a pair in one word (bf16: sm_90); min, max: f32 (NaN if either is); exchange: f32
//   vm_wait_for(address, value)         until the 32-bit word in global memory is `value`: what its writer
//                                       released before is then seen (acquire). By one thread of a block,
//                                       others after vm_synchronize
//   vm_signal(address, value)           stores `value`, after all that this thread has seen (release)
//   vm_grid_wait()                      until the grids this one depends on have ended (sm_90)
//   vm_grid_launch_dependents()         lets dependent grids begin (sm_90)
#pragma once

enum vm_atomic_operation {
  vm_atomic_add,
  vm_atomic_min,
  vm_atomic_max,
  vm_atomic_and,
  vm_atomic_or,
  vm_atomic_xor,
  vm_atomic_exchange,
  vm_atomic_cas
};
enum vm_order { vm_relaxed, vm_acquire, vm_release, vm_acquire_release };

VM_FUNCTION unsigned long long vm_two_words(const unsigned* words) {
  return (unsigned long long)words[1] << 32 | words[0];
}

#if VM_CUDA
#define VM_ATOMIC_INSTRUCTIONS(text, type, constraint, before, value)                                \
  if constexpr (Shared && Returns)                                                                   \
    asm volatile("atom.relaxed.cta.shared." text "." type " %0, [%1], %2;"                           \
                 : "=" constraint(before) : "r"(address), constraint(value) : "memory");             \
  else if constexpr (Shared)                                                                         \
    asm volatile("red.relaxed.cta.shared." text "." type " [%0], %1;"                                \
                 :: "r"(address), constraint(value) : "memory");                                     \
  else if constexpr (Returns)                                                                        \
    asm volatile("atom.relaxed.gpu.global." text "." type " %0, [%1], %2;"                           \
                 : "=" constraint(before) : "l"(address), constraint(value) : "memory");             \
  else                                                                                               \
    asm volatile("red.relaxed.gpu.global." text "." type " [%0], %1;"                                \
                 :: "l"(address), constraint(value) : "memory")

template <bool Shared, bool Returns, vm_atomic_operation Operation, class T, class Address>
VM_FUNCTION void vm_atomic_run(unsigned* old, Address address, const unsigned* operands) {
  constexpr bool wide = T::bits == 64, is_signed = T::kind == vm_kind_signed;
  unsigned before = 0;
  unsigned long long before_wide = 0;
  if constexpr (Operation == vm_atomic_cas) {
    if constexpr (wide) {
      const unsigned long long expected = vm_two_words(operands), desired = vm_two_words(operands + 2);
      if constexpr (Shared)
        asm volatile("atom.relaxed.cta.shared.cas.b64 %0, [%1], %2, %3;"
                     : "=l"(before_wide) : "r"(address), "l"(expected), "l"(desired) : "memory");
      else
        asm volatile("atom.relaxed.gpu.global.cas.b64 %0, [%1], %2, %3;"
                     : "=l"(before_wide) : "l"(address), "l"(expected), "l"(desired) : "memory");
    } else {
      if constexpr (Shared)
        asm volatile("atom.relaxed.cta.shared.cas.b32 %0, [%1], %2, %3;"
                     : "=r"(before) : "r"(address), "r"(operands[0]), "r"(operands[1]) : "memory");
      else
        asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
                     : "=r"(before) : "l"(address), "r"(operands[0]), "r"(operands[1]) : "memory");
    }
  } else if constexpr (Operation == vm_atomic_exchange) {
    if constexpr (wide) {
      const unsigned long long value = vm_two_words(operands);
      if constexpr (Shared)
        asm volatile("atom.relaxed.cta.shared.exch.b64 %0, [%1], %2;"
                     : "=l"(before_wide) : "r"(address), "l"(value) : "memory");
      else
        asm volatile("atom.relaxed.gpu.global.exch.b64 %0, [%1], %2;"
                     : "=l"(before_wide) : "l"(address), "l"(value) : "memory");
    } else {
      if constexpr (Shared)
        asm volatile("atom.relaxed.cta.shared.exch.b32 %0, [%1], %2;"
                     : "=r"(before) : "r"(address), "r"(operands[0]) : "memory");
      else
        asm volatile("atom.relaxed.gpu.global.exch.b32 %0, [%1], %2;"
                     : "=r"(before) : "l"(address), "r"(operands[0]) : "memory");
    }
  } else if constexpr (wide) {
    const unsigned long long value = vm_two_words(operands);
    if constexpr (Operation == vm_atomic_add && vm_is<T, vm_f64>) {
      VM_ATOMIC_INSTRUCTIONS("add", "f64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_add) {
      VM_ATOMIC_INSTRUCTIONS("add", "u64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_min && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("min", "s64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_min) {
      VM_ATOMIC_INSTRUCTIONS("min", "u64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_max && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("max", "s64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_max) {
      VM_ATOMIC_INSTRUCTIONS("max", "u64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_and) {
      VM_ATOMIC_INSTRUCTIONS("and", "b64", "l", before_wide, value);
    } else if constexpr (Operation == vm_atomic_or) {
      VM_ATOMIC_INSTRUCTIONS("or", "b64", "l", before_wide, value);
    } else {
      VM_ATOMIC_INSTRUCTIONS("xor", "b64", "l", before_wide, value);
    }
  } else if constexpr (Operation == vm_atomic_add && vm_is<T, vm_f32>) {
    VM_ATOMIC_INSTRUCTIONS("add", "f32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_add && vm_is<T, vm_f16>) {
    VM_ATOMIC_INSTRUCTIONS("add.noftz", "f16x2", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_add && vm_is<T, vm_bf16>) {
    VM_ATOMIC_INSTRUCTIONS("add.noftz", "bf16x2", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_add) {
    VM_ATOMIC_INSTRUCTIONS("add", "u32", "r", before, operands[0]);
  } else if constexpr (vm_is<T, vm_f32>) {
    unsigned seen;  // no instruction: compare and swap until no one came between
    if constexpr (Shared)
      asm volatile("ld.relaxed.cta.shared.b32 %0, [%1];" : "=r"(seen) : "r"(address) : "memory");
    else
      asm volatile("ld.relaxed.gpu.global.b32 %0, [%1];" : "=r"(seen) : "l"(address) : "memory");
    do {
      const float a = vm_float_of(seen), b = vm_float_of(operands[0]);
      before = seen;
      const float better = Operation == vm_atomic_min ? vm_min_value(a, b) : vm_max_value(a, b);
      const unsigned swap[2] = {seen, vm_word_of(better)};
      vm_atomic_run<Shared, true, vm_atomic_cas, vm_u32>(&seen, address, swap);
    } while (seen != before);
  } else if constexpr (Operation == vm_atomic_min && is_signed) {
    VM_ATOMIC_INSTRUCTIONS("min", "s32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_min) {
    VM_ATOMIC_INSTRUCTIONS("min", "u32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_max && is_signed) {
    VM_ATOMIC_INSTRUCTIONS("max", "s32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_max) {
    VM_ATOMIC_INSTRUCTIONS("max", "u32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_and) {
    VM_ATOMIC_INSTRUCTIONS("and", "b32", "r", before, operands[0]);
  } else if constexpr (Operation == vm_atomic_or) {
    VM_ATOMIC_INSTRUCTIONS("or", "b32", "r", before, operands[0]);
  } else {
    VM_ATOMIC_INSTRUCTIONS("xor", "b32", "r", before, operands[0]);
  }
  if constexpr (Returns) {
    old[0] = wide ? (unsigned)before_wide : before;
    if constexpr (wide) old[1] = (unsigned)(before_wide >> 32);
  }
}
#undef VM_ATOMIC_INSTRUCTIONS
#define VM_ATOMIC_GLOBAL(bytes) address
#define VM_ATOMIC_SHARED(bytes) vm_shared_window(address)

VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value) {
  unsigned seen;
  do {
    asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(seen) : "l"(address) : "memory");
  } while (seen != value);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value) {
  asm volatile("st.release.gpu.global.b32 [%0], %1;" :: "l"(address), "r"(value) : "memory");
}
#if VM_ARCH >= 900
VM_FUNCTION void vm_grid_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
VM_FUNCTION void vm_grid_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
#endif

#else
// One element computed in the open: the emulator's threads never run at once.
template <vm_atomic_operation Operation, class T>
VM_FUNCTION typename T::code vm_atomic_result(typename T::code before, typename T::code operand) {
  const typename T::value a = vm_decode<T>(before), b = vm_decode<T>(operand);
  if constexpr (Operation == vm_atomic_add)
    return vm_code<T>(vm_operation_add::template run<T>(a, b));
  else if constexpr (Operation == vm_atomic_min)
    return vm_code<T>(vm_min_value(a, b));
  else if constexpr (Operation == vm_atomic_max)
    return vm_code<T>(vm_max_value(a, b));
  else if constexpr (Operation == vm_atomic_and)
    return before & operand;
  else if constexpr (Operation == vm_atomic_or)
    return before | operand;
  else if constexpr (Operation == vm_atomic_xor)
    return before ^ operand;
  else
    return operand;
}
template <vm_atomic_operation Operation, class T>
VM_FUNCTION unsigned long long vm_atomic_next(unsigned long long before, const unsigned* operands) {
  constexpr bool wide = T::bits == 64;
  const unsigned long long operand = wide ? vm_two_words(operands) : operands[0];
  if constexpr (Operation == vm_atomic_cas) {
    if (before != operand) return before;
    return wide ? vm_two_words(operands + 2) : operands[1];
  } else if constexpr (T::bits == 16) {
    const unsigned high = vm_atomic_result<Operation, T>((unsigned)before >> 16, (unsigned)operand >> 16);
    return vm_atomic_result<Operation, T>((unsigned)before & 0xffff, (unsigned)operand & 0xffff) | high << 16;
  } else {
    return vm_atomic_result<Operation, T>((typename T::code)before, (typename T::code)operand);
  }
}
#if VM_HIP
// Compare and swap until no one came between: right for every type and operation.
template <bool Shared, bool Returns, vm_atomic_operation Operation, class T, class Pointer>
VM_FUNCTION void vm_atomic_run(unsigned* old, Pointer pointer, const unsigned* operands) {
  typedef typename vm_integer_value<T::bits == 64>::u word;
  word* at = (word*)pointer;
  word before = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(at, &before, (word)vm_atomic_next<Operation, T>(before, operands),
                                      false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  if constexpr (Returns) {
    old[0] = (unsigned)before;
    if constexpr (T::bits == 64) old[1] = (unsigned)(before >> 32);
  }
}
#define VM_ATOMIC_GLOBAL(bytes) address
#define VM_ATOMIC_SHARED(bytes) (vm_shared_memory + address)
VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value) {
  while (__atomic_load_n(address, __ATOMIC_ACQUIRE) != value) __builtin_amdgcn_s_sleep(1);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value) {
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
#else
template <bool Shared, bool Returns, vm_atomic_operation Operation, class T>
VM_FUNCTION void vm_atomic_run(unsigned* old, void* pointer, const unsigned* operands) {
  typedef typename vm_integer_value<T::bits == 64>::u word;
  word* at = (word*)pointer;
  const word before = *at;
  *at = (word)vm_atomic_next<Operation, T>(before, operands);
  if constexpr (Returns) {
    old[0] = (unsigned)before;
    if constexpr (T::bits == 64) old[1] = (unsigned)((unsigned long long)before >> 32);
  }
}
#define VM_ATOMIC_GLOBAL(bytes) vm_emulator_global(address, bytes, bytes, true, place)
#define VM_ATOMIC_SHARED(bytes) vm_emulator_shared(address, bytes, bytes, place)
VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value VM_PLACE) {
  const unsigned* word = (const unsigned*)vm_emulator_global(address, 4, 4, false, place);
  for (bool again = false; *word != value; again = true) vm_emulator_poll("wait_for", place, again);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value VM_PLACE) {
  *(unsigned*)vm_emulator_global(address, 4, 4, true, place) = value;
}
VM_FUNCTION void vm_grid_wait() {}
VM_FUNCTION void vm_grid_launch_dependents() {}
#endif
#endif

// The instructions themselves are relaxed; fences around them give the order.
#define VM_ATOMIC_FUNCTIONS(space, address_type, fence, pointer, shared)                             \
  template <vm_atomic_operation Operation, class T, vm_order Order = vm_relaxed>                     \
  VM_FUNCTION void vm_atomic_##space(unsigned* old, address_type address, const unsigned* operands,  \
                                     bool predicate = true VM_PLACE) {                               \
    if (predicate) {                                                                                 \
      if constexpr (Order == vm_release || Order == vm_acquire_release) fence();                     \
      vm_atomic_run<shared, true, Operation, T>(old, pointer(T::bits == 64 ? 8 : 4), operands);      \
      if constexpr (Order == vm_acquire || Order == vm_acquire_release) fence();                     \
    }                                                                                                \
  }                                                                                                  \
  template <vm_atomic_operation Operation, class T, vm_order Order = vm_relaxed>                     \
  VM_FUNCTION void vm_reduce_##space(address_type address, const unsigned* operands,                 \
                                     bool predicate = true VM_PLACE) {                               \
    static_assert(Operation != vm_atomic_cas && Operation != vm_atomic_exchange, "without a result"); \
    if (predicate) {                                                                                 \
      if constexpr (Order == vm_release || Order == vm_acquire_release) fence();                     \
      vm_atomic_run<shared, false, Operation, T>((unsigned*)nullptr, pointer(T::bits == 64 ? 8 : 4), \
                                                 operands);                                          \
    }                                                                                                \
  }
VM_ATOMIC_FUNCTIONS(global, void*, vm_fence_device, VM_ATOMIC_GLOBAL, false)
VM_ATOMIC_FUNCTIONS(shared, unsigned, vm_fence_block, VM_ATOMIC_SHARED, true)
#undef VM_ATOMIC_FUNCTIONS
