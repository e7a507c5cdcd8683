// Atomic operations on one element in global memory (among all blocks) or shared memory (in the block).
//
//   vm_atomic_global<Operation, T, Order>(old, address, operands, predicate)   old: the words before it
//   vm_atomic_shared<Operation, T, Order>(old, address, operands, predicate)   (untouched if not done)
//   vm_reduce_global<Operation, T, Order>(address, operands, predicate)        the same without `old`
//   vm_reduce_shared<Operation, T, Order>(address, operands, predicate)
//        `operands` are the words of one element; for cas, of the expected one and of the new one.
//        Types of 32 and 64 bits; f16 and bf16, one in the low half of a word; vm_pair<vm_f16> and
//        vm_pair<vm_bf16>, two in a word (each half is added by itself). and, or, xor: integers.
//        What has no instruction is a loop of compare and swap
//   vm_atomic_slot_global<Operation>(old, k, address, x, predicate)     for registers of elements of 16
//   vm_atomic_slot_shared<Operation>(old, k, address, x, predicate)     bits: x[k] is the operand, and
//   vm_reduce_slot_global<Operation>(address, x, k, predicate)          old[k] becomes what was there
//   vm_reduce_slot_shared<Operation>(address, x, k, predicate)
//   vm_wait_for(address, value, predicate)   until the 32-bit word in global memory is `value`: what its
//                                       writer released before is then seen (acquire). By one thread of a
//                                       group, others after a barrier
//   vm_signal(address, value, predicate)     stores `value`, after all that this thread has seen (release)
//   vm_grid_wait()                      until the grids this one depends on have ended
//   vm_grid_launch_dependents()         lets dependent grids begin (nothing before sm_90)
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
template <class T> struct vm_pair {
  static constexpr int bits = 32;
  static constexpr vm_kind kind = vm_kind_float;
  typedef unsigned code;
};
template <class T> struct vm_is_pair { static constexpr bool value = false; };
template <class T> struct vm_is_pair<vm_pair<T>> {
  static constexpr bool value = true;
  typedef T element;
};
enum vm_order { vm_relaxed, vm_acquire, vm_release, vm_acquire_release };

VM_FUNCTION unsigned long long vm_two_words(const unsigned* words) {
  return (unsigned long long)words[1] << 32 | words[0];
}

// What the operation leaves where `before` was.
template <vm_atomic_operation Operation, class T>
VM_FUNCTION typename T::code vm_atomic_result(typename T::code before, typename T::code operand) {
  if constexpr (vm_is_pair<T>::value) {
    typedef typename vm_is_pair<T>::element E;
    return vm_atomic_result<Operation, E>(before & 0xffff, operand & 0xffff) |
           vm_atomic_result<Operation, E>(before >> 16, operand >> 16) << 16;
  } else if constexpr (Operation == vm_atomic_add || Operation == vm_atomic_min ||
                       Operation == vm_atomic_max) {
    const typename T::value a = vm_decode<T>(before), b = vm_decode<T>(operand);
    if constexpr (Operation == vm_atomic_add)
      return vm_code<T>(vm_operation_add::template run<T>(a, b));
    else
      return vm_code<T>(Operation == vm_atomic_min ? vm_min_value(a, b) : vm_max_value(a, b));
  } else if constexpr (Operation == vm_atomic_and) {
    return before & operand;
  } else if constexpr (Operation == vm_atomic_or) {
    return before | operand;
  } else if constexpr (Operation == vm_atomic_xor) {
    return before ^ operand;
  } else {
    return operand;
  }
}
template <class T> VM_FUNCTION typename T::code vm_atomic_operand(const unsigned* words) {
  if constexpr (T::bits == 64)
    return vm_two_words(words);
  else if constexpr (T::bits == 16)
    return words[0] & 0xffff;
  else
    return words[0];
}

#if VM_CUDA
#define VM_ATOMIC_ACCESS(text, constraint, before, value)                                            \
  if constexpr (Shared && Returns)                                                                   \
    asm volatile("atom.relaxed.cta.shared." text " %0, [%1], %2;"                                    \
                 : "=" constraint(before) : "r"(address), constraint(value) : "memory");             \
  else if constexpr (Shared)                                                                         \
    asm volatile("red.relaxed.cta.shared." text " [%0], %1;"                                         \
                 :: "r"(address), constraint(value) : "memory");                                     \
  else if constexpr (Returns)                                                                        \
    asm volatile("atom.relaxed.gpu.global." text " %0, [%1], %2;"                                    \
                 : "=" constraint(before) : "l"(address), constraint(value) : "memory");             \
  else                                                                                               \
    asm volatile("red.relaxed.gpu.global." text " [%0], %1;"                                         \
                 :: "l"(address), constraint(value) : "memory")
#define VM_ATOMIC_INSTRUCTIONS(text, constraint) VM_ATOMIC_ACCESS(text, constraint, before, value)
#define VM_ATOMIC_SWAP(bits, constraint)                                                             \
  if constexpr (Shared)                                                                              \
    asm volatile("atom.relaxed.cta.shared.cas." bits " %0, [%1], %2, %3;"                            \
                 : "=" constraint(before)                                                            \
                 : "r"(address), constraint(expected), constraint(desired) : "memory");              \
  else                                                                                               \
    asm volatile("atom.relaxed.gpu.global.cas." bits " %0, [%1], %2, %3;"                            \
                 : "=" constraint(before)                                                            \
                 : "l"(address), constraint(expected), constraint(desired) : "memory")
// Replaces `expected` by `desired`; gives what was there.
template <bool Shared, int Bits, class Address, class Code>
VM_FUNCTION Code vm_compare_swap(Address address, Code expected_code, Code desired_code) {
  if constexpr (Bits == 64) {
    unsigned long long before, expected = expected_code, desired = desired_code;
    VM_ATOMIC_SWAP("b64", "l");
    return before;
  } else if constexpr (Bits == 32) {
    unsigned before, expected = expected_code, desired = desired_code;
    VM_ATOMIC_SWAP("b32", "r");
    return before;
  } else {
    unsigned short before, expected = (unsigned short)expected_code;
    unsigned short desired = (unsigned short)desired_code;
    VM_ATOMIC_SWAP("b16", "h");
    return before;
  }
}

template <bool Shared, bool Returns, vm_atomic_operation Operation, class T, class Address>
VM_FUNCTION void vm_atomic_run(unsigned* old, Address address, const unsigned* operands) {
  constexpr bool is_signed = T::kind == vm_kind_signed, is_add = Operation == vm_atomic_add;
  constexpr bool is_min = Operation == vm_atomic_min, is_max = Operation == vm_atomic_max;
  typedef typename T::code code;
  const code value = vm_atomic_operand<T>(operands);
  code before = 0;
  if constexpr (Operation == vm_atomic_cas) {
    before = vm_compare_swap<Shared, T::bits>(
        address, value, vm_atomic_operand<T>(operands + (T::bits == 64 ? 2 : 1)));
  } else if constexpr (is_add && vm_is<T, vm_f32>) {
    VM_ATOMIC_INSTRUCTIONS("add.f32", "r");
  } else if constexpr (is_add && vm_is<T, vm_f64>) {
    VM_ATOMIC_INSTRUCTIONS("add.f64", "l");
  } else if constexpr (is_add && (vm_is<T, vm_f16> || (vm_is<T, vm_bf16> && VM_ARCH >= 900))) {
    const unsigned short narrow = (unsigned short)value;
    unsigned short seen = 0;
    if constexpr (vm_is<T, vm_f16>) {
      VM_ATOMIC_ACCESS("add.noftz.f16", "h", seen, narrow);
    } else {
      VM_ATOMIC_ACCESS("add.noftz.bf16", "h", seen, narrow);
    }
    before = seen;
  } else if constexpr (is_add && vm_is<T, vm_pair<vm_f16>>) {
    VM_ATOMIC_INSTRUCTIONS("add.noftz.f16x2", "r");
  } else if constexpr (is_add && vm_is<T, vm_pair<vm_bf16>> && VM_ARCH >= 900) {
    VM_ATOMIC_INSTRUCTIONS("add.noftz.bf16x2", "r");
  } else if constexpr (vm_is_integer<T> && T::bits == 64 && Operation < vm_atomic_exchange) {
    if constexpr (is_add) {
      VM_ATOMIC_INSTRUCTIONS("add.u64", "l");
    } else if constexpr (is_min && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("min.s64", "l");
    } else if constexpr (is_min) {
      VM_ATOMIC_INSTRUCTIONS("min.u64", "l");
    } else if constexpr (is_max && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("max.s64", "l");
    } else if constexpr (is_max) {
      VM_ATOMIC_INSTRUCTIONS("max.u64", "l");
    } else if constexpr (Operation == vm_atomic_and) {
      VM_ATOMIC_INSTRUCTIONS("and.b64", "l");
    } else if constexpr (Operation == vm_atomic_or) {
      VM_ATOMIC_INSTRUCTIONS("or.b64", "l");
    } else {
      VM_ATOMIC_INSTRUCTIONS("xor.b64", "l");
    }
  } else if constexpr (vm_is_integer<T> && T::bits == 32 && Operation < vm_atomic_exchange) {
    if constexpr (is_add) {
      VM_ATOMIC_INSTRUCTIONS("add.u32", "r");
    } else if constexpr (is_min && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("min.s32", "r");
    } else if constexpr (is_min) {
      VM_ATOMIC_INSTRUCTIONS("min.u32", "r");
    } else if constexpr (is_max && is_signed) {
      VM_ATOMIC_INSTRUCTIONS("max.s32", "r");
    } else if constexpr (is_max) {
      VM_ATOMIC_INSTRUCTIONS("max.u32", "r");
    } else if constexpr (Operation == vm_atomic_and) {
      VM_ATOMIC_INSTRUCTIONS("and.b32", "r");
    } else if constexpr (Operation == vm_atomic_or) {
      VM_ATOMIC_INSTRUCTIONS("or.b32", "r");
    } else {
      VM_ATOMIC_INSTRUCTIONS("xor.b32", "r");
    }
  } else {
    code seen = 0;  // a guess: where it is wrong, the swap gives what is there
    do {
      before = seen;
      seen = vm_compare_swap<Shared, T::bits>(address, before,
                                              vm_atomic_result<Operation, T>(before, value));
    } while (seen != before);
  }
  if constexpr (Returns) {
    old[0] = (unsigned)before;
    if constexpr (T::bits == 64) old[1] = (unsigned)(before >> 32);
  }
}
#undef VM_ATOMIC_SWAP
#undef VM_ATOMIC_INSTRUCTIONS
#undef VM_ATOMIC_ACCESS
#define VM_ATOMIC_GLOBAL(bytes) address
#define VM_ATOMIC_SHARED(bytes) vm_shared_window(address)

VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value, bool predicate = true) {
  unsigned seen;
  if (predicate) do {
    asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(seen) : "l"(address) : "memory");
  } while (seen != value);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value, bool predicate = true) {
  if (predicate) asm volatile("st.release.gpu.global.b32 [%0], %1;" :: "l"(address), "r"(value) : "memory");
}
#if VM_ARCH >= 900
VM_FUNCTION void vm_grid_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
VM_FUNCTION void vm_grid_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
#else  // grids of one stream run one after another
VM_FUNCTION void vm_grid_wait() {}
VM_FUNCTION void vm_grid_launch_dependents() {}
#endif

#else
#if VM_HIP
// Compare and swap until no one came between: right for every type and operation.
template <bool Shared, bool Returns, vm_atomic_operation Operation, class T, class Pointer>
VM_FUNCTION void vm_atomic_run(unsigned* old, Pointer pointer, const unsigned* operands) {
  typedef typename vm_unit<T::bits / 8>::type word;
  word* at = (word*)pointer;
  const typename T::code value = vm_atomic_operand<T>(operands);
  word before = __atomic_load_n(at, __ATOMIC_RELAXED), next;
  do {
    next = (word)vm_atomic_result<Operation, T>(before, value);
    if constexpr (Operation == vm_atomic_cas)
      next = before == (word)value ? (word)vm_atomic_operand<T>(operands + (T::bits == 64 ? 2 : 1)) : before;
  } while (!__atomic_compare_exchange_n(at, &before, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  if constexpr (Returns) {
    old[0] = (unsigned)before;
    if constexpr (T::bits == 64) old[1] = (unsigned)((unsigned long long)before >> 32);
  }
}
#define VM_ATOMIC_GLOBAL(bytes) address
#define VM_ATOMIC_SHARED(bytes) (vm_shared_memory + address)
VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value, bool predicate = true) {
  while (predicate && __atomic_load_n(address, __ATOMIC_ACQUIRE) != value) __builtin_amdgcn_s_sleep(1);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value, bool predicate = true) {
  if (predicate) __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
#else
// In the open: the emulator's threads never run at once.
template <bool Shared, bool Returns, vm_atomic_operation Operation, class T>
VM_FUNCTION void vm_atomic_run(unsigned* old, void* pointer, const unsigned* operands) {
  const typename T::code value = vm_atomic_operand<T>(operands);
  typename T::code before = 0;
  __builtin_memcpy(&before, pointer, T::bits / 8);
  typename T::code next = vm_atomic_result<Operation, T>(before, value);
  if constexpr (Operation == vm_atomic_cas)
    next = before == value ? vm_atomic_operand<T>(operands + (T::bits == 64 ? 2 : 1)) : before;
  __builtin_memcpy(pointer, &next, T::bits / 8);
  if constexpr (Returns) {
    old[0] = (unsigned)before;
    if constexpr (T::bits == 64) old[1] = (unsigned)((unsigned long long)before >> 32);
  }
}
#define VM_ATOMIC_GLOBAL(bytes) vm_emulator_global(address, bytes, bytes, true, place)
#define VM_ATOMIC_SHARED(bytes) vm_emulator_shared(address, bytes, bytes, place)
VM_FUNCTION void vm_wait_for(const unsigned* address, unsigned value, bool predicate = true VM_PLACE) {
  if (!predicate) return;
  const unsigned* word = (const unsigned*)vm_emulator_global(address, 4, 4, false, place);
  for (bool again = false; *word != value; again = true) vm_emulator_poll("wait_for", place, again);
}
VM_FUNCTION void vm_signal(unsigned* address, unsigned value, bool predicate = true VM_PLACE) {
  if (predicate) *(unsigned*)vm_emulator_global(address, 4, 4, true, place) = value;
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
      vm_atomic_run<shared, true, Operation, T>(old, pointer(T::bits / 8), operands);      \
      if constexpr (Order == vm_acquire || Order == vm_acquire_release) fence();                     \
    }                                                                                                \
  }                                                                                                  \
  template <vm_atomic_operation Operation, class T, vm_order Order = vm_relaxed>                     \
  VM_FUNCTION void vm_reduce_##space(address_type address, const unsigned* operands,                 \
                                     bool predicate = true VM_PLACE) {                               \
    static_assert(Operation != vm_atomic_cas, "whether it was done is its result");                  \
    if (predicate) {                                                                                 \
      if constexpr (Order == vm_release || Order == vm_acquire_release) fence();                     \
      vm_atomic_run<shared, false, Operation, T>((unsigned*)nullptr, pointer(T::bits / 8), \
                                                 operands);                                          \
    }                                                                                                \
  }

// Elements that share a word with others.
#define VM_ATOMIC_SLOTS(space, address_type)                                                         \
  template <vm_atomic_operation Operation, class T, int N, int M>                                    \
  VM_FUNCTION void vm_atomic_slot_##space(vm_register<T, N>& old, int k, address_type address,       \
                                          const vm_register<T, M>& x, bool predicate = true VM_PLACE) { \
    const unsigned operand = vm_get_code(x, k);                                                      \
    unsigned before = vm_get_code(old, k);                                                           \
    vm_atomic_##space<Operation, T>(&before, address, &operand, predicate VM_AT);                    \
    vm_set_code(old, k, before);                                                                     \
  }                                                                                                  \
  template <vm_atomic_operation Operation, class T, int N>                                           \
  VM_FUNCTION void vm_reduce_slot_##space(address_type address, const vm_register<T, N>& x, int k,   \
                                          bool predicate = true VM_PLACE) {                          \
    const unsigned operand = vm_get_code(x, k);                                                      \
    vm_reduce_##space<Operation, T>(address, &operand, predicate VM_AT);                             \
  }

VM_ATOMIC_FUNCTIONS(global, void*, vm_fence_device, VM_ATOMIC_GLOBAL, false)
VM_ATOMIC_FUNCTIONS(shared, unsigned, vm_fence_block, VM_ATOMIC_SHARED, true)
#undef VM_ATOMIC_FUNCTIONS
VM_ATOMIC_SLOTS(global, void*)
VM_ATOMIC_SLOTS(shared, unsigned)
#undef VM_ATOMIC_SLOTS
