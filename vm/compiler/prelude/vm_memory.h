// Loads and stores of 1, 2, 4, 8 or 16 bytes, aligned to their size, between memory and the words of a
// register; they land at byte `at` of the words. Bytes 4, 8 and 16 need `at % 4 == 0`; a load of 1 or 2
// bytes to the beginning of a word clears the bytes above them, else it replaces only its bytes.
//
//   vm_load_global<Bytes, Cache>(words, at, address, predicate)
//   vm_store_global<Bytes, Cache>(address, words, at, predicate)
//   vm_load_shared<Bytes>(words, at, address, predicate)
//   vm_store_shared<Bytes>(address, words, at, predicate)
#pragma once

// How an access uses the caches: as usual; its lines first to go (`cs`: read or written once); not
// kept in L1; through the path for memory that no one writes during the kernel; the last two, with a
// hint to fetch 256 bytes into L2 (streams of weights).
enum vm_cache {
  vm_cache_default,
  vm_cache_streaming,
  vm_cache_no_allocate,
  vm_cache_constant,
  vm_cache_constant_stream
};

// Puts `Bytes` bytes of `parts` at byte `at` of the words.
template <int Bytes> VM_FUNCTION void vm_put_bytes(unsigned* words, int at, const unsigned* parts) {
  if constexpr (Bytes < 4) {
    const int shift = 8 * (at % 4);
    const unsigned mask = (1u << (8 * Bytes)) - 1u;
    const unsigned others = shift == 0 ? 0u : words[at / 4] & ~(mask << shift);
    words[at / 4] = others | parts[0] << shift;
  } else {
    VM_UNROLL for (int i = 0; i < Bytes / 4; i++) words[at / 4 + i] = parts[i];
  }
}
template <int Bytes> VM_FUNCTION void vm_take_bytes(unsigned* parts, const unsigned* words, int at) {
  if constexpr (Bytes < 4) {
    parts[0] = words[at / 4] >> (8 * (at % 4));
  } else {
    VM_UNROLL for (int i = 0; i < Bytes / 4; i++) parts[i] = words[at / 4 + i];
  }
}

#if VM_CUDA
// The bodies of all sizes for one instruction prefix; v[] are the words. The predicate is inside the
// asm so that it never becomes a branch.
#define VM_LOAD_BODY(prefix, constraint, address)                                                   \
  if constexpr (Bytes == 1)                                                                         \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p " prefix ".u8 %0, [%1];}"  \
                 : "=&r"(v[0]) : constraint(address), "r"(on) : "memory");                          \
  else if constexpr (Bytes == 2)                                                                    \
    asm volatile("{.reg .pred p; .reg .b16 h; setp.ne.b32 p, %2, 0; mov.b16 h, 0; @p " prefix       \
                 ".u16 h, [%1]; cvt.u32.u16 %0, h;}"                                                \
                 : "=&r"(v[0]) : constraint(address), "r"(on) : "memory");                          \
  else if constexpr (Bytes == 4)                                                                    \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p " prefix ".b32 %0, [%1];}" \
                 : "=&r"(v[0]) : constraint(address), "r"(on) : "memory");                          \
  else if constexpr (Bytes == 8)                                                                    \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %3, 0; mov.b32 %0, 0; mov.b32 %1, 0; @p " prefix    \
                 ".v2.b32 {%0, %1}, [%2];}"                                                         \
                 : "=&r"(v[0]), "=&r"(v[1]) : constraint(address), "r"(on) : "memory");             \
  else                                                                                              \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; "              \
                 "mov.b32 %2, 0; mov.b32 %3, 0; @p " prefix ".v4.b32 {%0, %1, %2, %3}, [%4];}"      \
                 : "=&r"(v[0]), "=&r"(v[1]), "=&r"(v[2]), "=&r"(v[3])                               \
                 : constraint(address), "r"(on) : "memory")
#define VM_STORE_BODY(prefix, constraint, address)                                                  \
  if constexpr (Bytes == 1)                                                                         \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; @p " prefix ".u8 [%0], %1;}"                 \
                 :: constraint(address), "r"(v[0]), "r"(on) : "memory");                            \
  else if constexpr (Bytes == 2)                                                                    \
    asm volatile("{.reg .pred p; .reg .b16 h; setp.ne.b32 p, %2, 0; cvt.u16.u32 h, %1; @p " prefix  \
                 ".u16 [%0], h;}"                                                                   \
                 :: constraint(address), "r"(v[0]), "r"(on) : "memory");                            \
  else if constexpr (Bytes == 4)                                                                    \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %2, 0; @p " prefix ".b32 [%0], %1;}"                \
                 :: constraint(address), "r"(v[0]), "r"(on) : "memory");                            \
  else if constexpr (Bytes == 8)                                                                    \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %3, 0; @p " prefix ".v2.b32 [%0], {%1, %2};}"       \
                 :: constraint(address), "r"(v[0]), "r"(v[1]), "r"(on) : "memory");                 \
  else                                                                                              \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %5, 0; @p " prefix ".v4.b32 [%0], {%1, %2, %3, %4};}" \
                 :: constraint(address), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(on)        \
                 : "memory")

// The address of a shared byte in the window that shared instructions take.
VM_FUNCTION unsigned vm_shared_window(unsigned address) {
  return address + (unsigned)__cvta_generic_to_shared(vm_shared_memory);
}

template <int Bytes, vm_cache Cache = vm_cache_default>
VM_FUNCTION void vm_load_global(unsigned* words, int at, const void* address, bool predicate = true) {
  unsigned v[4];
  const int on = predicate;
  if constexpr (Cache == vm_cache_streaming) {
    VM_LOAD_BODY("ld.global.cs", "l", address);
  } else if constexpr (Cache == vm_cache_no_allocate) {
    VM_LOAD_BODY("ld.global.L1::no_allocate", "l", address);
  } else if constexpr (Cache == vm_cache_constant) {
    VM_LOAD_BODY("ld.global.nc", "l", address);
  } else if constexpr (Cache == vm_cache_constant_stream) {
    VM_LOAD_BODY("ld.global.nc.L1::no_allocate.L2::256B", "l", address);
  } else {
    VM_LOAD_BODY("ld.global", "l", address);
  }
  vm_put_bytes<Bytes>(words, at, v);
}
template <int Bytes, vm_cache Cache = vm_cache_default>
VM_FUNCTION void vm_store_global(void* address, const unsigned* words, int at, bool predicate = true) {
  unsigned v[4];
  const int on = predicate;
  vm_take_bytes<Bytes>(v, words, at);
  if constexpr (Cache == vm_cache_streaming) {
    VM_STORE_BODY("st.global.cs", "l", address);
  } else if constexpr (Cache == vm_cache_no_allocate) {
    VM_STORE_BODY("st.global.L1::no_allocate", "l", address);
  } else {
    VM_STORE_BODY("st.global", "l", address);
  }
}
template <int Bytes>
VM_FUNCTION void vm_load_shared(unsigned* words, int at, unsigned address, bool predicate = true) {
  unsigned v[4];
  const int on = predicate;
  const unsigned window = vm_shared_window(address);
  VM_LOAD_BODY("ld.shared", "r", window);
  vm_put_bytes<Bytes>(words, at, v);
}
template <int Bytes>
VM_FUNCTION void vm_store_shared(unsigned address, const unsigned* words, int at, bool predicate = true) {
  unsigned v[4];
  const int on = predicate;
  const unsigned window = vm_shared_window(address);
  vm_take_bytes<Bytes>(v, words, at);
  VM_STORE_BODY("st.shared", "r", window);
}
#undef VM_LOAD_BODY
#undef VM_STORE_BODY

#else
#if VM_EMULATOR
#define VM_GLOBAL_SPACE
#define VM_SHARED_SPACE
#define VM_GLOBAL_POINTER(address, bytes, writes) \
  vm_emulator_global(address, bytes, bytes, writes, place)
#define VM_SHARED_POINTER(address, bytes) vm_emulator_shared(address, bytes, bytes, place)
#else
#define VM_GLOBAL_SPACE __attribute__((address_space(1)))
#define VM_SHARED_SPACE __attribute__((address_space(3)))
#define VM_GLOBAL_POINTER(address, bytes, writes) (VM_GLOBAL_SPACE void*)(address)
#define VM_SHARED_POINTER(address, bytes) \
  ((VM_SHARED_SPACE unsigned char*)vm_shared_memory + (address))
#endif
// Moves of one size between memory and v[], which each target makes one instruction.
template <int Bytes> struct vm_unit;
template <> struct vm_unit<1> { typedef unsigned char type; };
template <> struct vm_unit<2> { typedef unsigned short type; };
template <> struct vm_unit<4> { typedef unsigned type; };
template <> struct vm_unit<8> { typedef unsigned long long type; };
template <> struct vm_unit<16> { typedef unsigned type __attribute__((vector_size(16))); };

#define VM_LOAD_BODY(space, pointer)                                     \
  unsigned v[4] = {0, 0, 0, 0};                                          \
  if (predicate) {                                                       \
    typedef typename vm_unit<Bytes>::type unit;                          \
    const unit value = *(const space unit*)(pointer);                    \
    __builtin_memcpy(v, &value, Bytes);                                  \
  }                                                                      \
  vm_put_bytes<Bytes>(words, at, v)
#define VM_STORE_BODY(space, pointer)                                    \
  if (predicate) {                                                       \
    typedef typename vm_unit<Bytes>::type unit;                          \
    unsigned v[4];                                                       \
    unit value;                                                          \
    vm_take_bytes<Bytes>(v, words, at);                                  \
    __builtin_memcpy(&value, v, Bytes);                                  \
    *(space unit*)(pointer) = value;                                     \
  }

template <int Bytes, vm_cache Cache = vm_cache_default>
VM_FUNCTION void vm_load_global(unsigned* words, int at, const void* address,
                                bool predicate = true VM_PLACE) {
  VM_LOAD_BODY(VM_GLOBAL_SPACE, VM_GLOBAL_POINTER(address, Bytes, false));
}
template <int Bytes, vm_cache Cache = vm_cache_default>
VM_FUNCTION void vm_store_global(void* address, const unsigned* words, int at,
                                 bool predicate = true VM_PLACE) {
  VM_STORE_BODY(VM_GLOBAL_SPACE, VM_GLOBAL_POINTER(address, Bytes, true));
}
template <int Bytes>
VM_FUNCTION void vm_load_shared(unsigned* words, int at, unsigned address,
                                bool predicate = true VM_PLACE) {
  VM_LOAD_BODY(VM_SHARED_SPACE, VM_SHARED_POINTER(address, Bytes));
}
template <int Bytes>
VM_FUNCTION void vm_store_shared(unsigned address, const unsigned* words, int at,
                                 bool predicate = true VM_PLACE) {
  VM_STORE_BODY(VM_SHARED_SPACE, VM_SHARED_POINTER(address, Bytes));
}
#undef VM_LOAD_BODY
#undef VM_STORE_BODY
#endif
