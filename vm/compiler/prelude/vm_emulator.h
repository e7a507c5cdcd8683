// What the emulator's bodies of the prelude use; the functions are in emulator_host.cpp. Kernels are
// compiled against this header alone, without any of the standard library, so that they compile fast.
#pragma once

// Where in the emitted text a call stands.
struct vm_place {
  const char* file;
  int line;
};
constexpr vm_place vm_here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {file, line};
}

// A range of global memory that the kernel was given, and whether it may write there.
struct vm_emulator_buffer {
  unsigned char* begin;
  unsigned char* end;
  bool writable;
};

// The thread that runs now.
struct vm_emulator_self {
  int thread;
  int threads;
  int block[3];
  int grid[3];
  unsigned char* shared;
  unsigned shared_bytes;
  vm_emulator_buffer recent;  // the buffer of the last global access
};
extern vm_emulator_self* vm_self;

// What a warp's last lane gets when all have come: the operands that each lane handed over.
typedef void (*vm_emulator_collective_body)(void** operands, int lanes);

// Ends the launch with a fault of that kind at that place.
[[noreturn]] void vm_emulator_fault(const char* kind, vm_place place, const char* message);
[[noreturn]] void vm_emulator_fault_access(const char* space, vm_place place, const void* address,
                                           unsigned long long offset, int bytes, const char* why);
void vm_emulator_find_buffer(const void* address, int bytes, bool writes, vm_place place);
void vm_emulator_need_shared(unsigned bytes);
// Waits until all lanes of the warp call it with the same name and place, then runs `body` once.
void vm_emulator_collective(const char* name, vm_place place, vm_emulator_collective_body body,
                            void* operands);
// Arrives at a barrier of the block; with `waits`, until `threads` have.
void vm_emulator_barrier(int id, int threads, bool waits, const char* name, vm_place place);
// Lets others run while this thread waits for memory to change; `again` after the first time.
void vm_emulator_poll(const char* name, vm_place place, bool again);
void vm_emulator_copy_async(void* target, const void* source, int bytes);
void vm_emulator_commit();
void vm_emulator_wait(int pending);
// An mbarrier's 8 bytes: the arrivals and bytes that its phase still waits for, and its parity.
void vm_emulator_mbarrier_init(unsigned long long* barrier, int arrivals);
void vm_emulator_mbarrier_arrive(unsigned long long* barrier, int bytes, vm_place place);
bool vm_emulator_mbarrier_done(unsigned long long* barrier, int parity);
void vm_emulator_bulk_copy(void* target, const void* source, unsigned bytes,
                           unsigned long long* barrier);
void vm_emulator_print(const char* text);
void vm_emulator_print_float(double value);
void vm_emulator_print_integer(long long value);

// The host's address of `bytes` bytes of global or shared memory, which have to lie inside and be
// aligned.
static inline void* vm_emulator_global(const void* address, int bytes, int alignment, bool writes,
                                       vm_place place) {
  const unsigned char* begin = (const unsigned char*)address;
  if (__builtin_expect((unsigned long long)begin % alignment != 0, 0))
    vm_emulator_fault_access("global", place, address, 0, bytes, "misaligned");
  const vm_emulator_buffer& recent = vm_self->recent;
  if (__builtin_expect(
          begin < recent.begin || begin + bytes > recent.end || (writes && !recent.writable), 0))
    vm_emulator_find_buffer(address, bytes, writes, place);
  return (void*)address;
}
static inline void* vm_emulator_shared(unsigned address, unsigned bytes, unsigned alignment,
                                       vm_place place) {
  if (__builtin_expect(address % alignment != 0, 0))
    vm_emulator_fault_access("shared", place, nullptr, address, (int)bytes, "misaligned");
  if (__builtin_expect(
          address > vm_self->shared_bytes || bytes > vm_self->shared_bytes - address, 0))
    vm_emulator_fault_access("shared", place, nullptr, address, (int)bytes, "out of range");
  return vm_self->shared + address;
}

// How the host calls a kernel whose parameters it knows only here.
template <int... I> struct vm_emulator_indices {};
template <int N, int... I>
struct vm_emulator_make_indices : vm_emulator_make_indices<N - 1, N - 1, I...> {};
template <int... I> struct vm_emulator_make_indices<0, I...> {
  typedef vm_emulator_indices<I...> type;
};
template <class... P, int... I>
static inline void vm_emulator_apply(void (*kernel)(P...), void** arguments,
                                     vm_emulator_indices<I...>) {
  kernel(*(P*)arguments[I]...);
}
template <class... P>
static inline void vm_emulator_call(void (*kernel)(P...), void** arguments) {
  vm_emulator_apply(kernel, arguments, typename vm_emulator_make_indices<sizeof...(P)>::type());
}
// The parameters' types, a letter each, as Python's `struct` names them; P is a pointer.
template <class P> struct vm_emulator_letter {
  static constexpr char value = sizeof(P) == 8 ? 'q' : sizeof(P) == 4 ? 'i' : sizeof(P) == 2 ? 'h' : 'b';
};
template <class P> struct vm_emulator_letter<P*> { static constexpr char value = 'P'; };
template <> struct vm_emulator_letter<float> { static constexpr char value = 'f'; };
template <> struct vm_emulator_letter<double> { static constexpr char value = 'd'; };
template <class... P> struct vm_emulator_letters {
  static constexpr char text[] = {vm_emulator_letter<P>::value..., 0};
};
template <class... P> constexpr const char* vm_emulator_parameters(void (*)(P...)) {
  return vm_emulator_letters<P...>::text;
}

// A kernel as the host finds it; compile_host appends one line per kernel.
struct vm_emulator_kernel {
  const char* name;
  void (*call)(void** arguments);
  const char* parameters;
  int threads;
  vm_emulator_kernel* next;
};
extern vm_emulator_kernel* vm_emulator_kernels;
#define VM_EMULATOR_EXPORT(name)                                                             \
  static vm_emulator_kernel vm_export_##name = {                                             \
      #name, [](void** arguments) { vm_emulator_call(&name, arguments); },                   \
      vm_emulator_parameters(&name), name##_threads, nullptr};                               \
  static int vm_exported_##name = (vm_export_##name.next = vm_emulator_kernels,              \
                                   vm_emulator_kernels = &vm_export_##name, 0);
