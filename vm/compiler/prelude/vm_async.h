// Copies from global into shared memory that go on while the thread does.
//
//   vm_copy_async<Bytes>(shared, global, predicate)   4, 8 or 16 bytes, aligned to their size; where the
//                                                     predicate is false the bytes become 0
//   vm_commit_async()                                 the copies since the last commit are a group
//   vm_wait_async<Pending>()                          until at most `Pending` groups of this thread are
//                                                     not done; others see the bytes after a barrier
//
// An mbarrier is 8 bytes of shared memory that count arrivals and copied bytes, phase after phase (sm_90):
//
// Those with a predicate (true where it is left out) do nothing where it is false.
//
//   vm_mbarrier_init(barrier, arrivals, predicate)    each phase waits for that many arrivals
//   vm_fence_mbarrier_init()                          before other threads or the copy engine use it
//   vm_mbarrier_arrive(barrier, predicate)            one arrival
//   vm_mbarrier_arrive_expect(barrier, bytes, predicate)  one arrival; the phase waits for `bytes` bytes
//                                                     more
//   vm_mbarrier_wait(barrier, parity)                 until the phase of that parity (0, 1, 0 ...) is done
//   vm_copy_bulk(shared, global, bytes, barrier, predicate)  the copy engine moves `bytes` bytes; addresses
//                                                     and size are multiples of 16; one thread asks for it
//   vm_elect()                                           true in one lane of each warp
#pragma once

#if VM_CUDA
template <int Bytes>
VM_FUNCTION void vm_copy_async(unsigned shared, const void* global, bool predicate = true) {
  const unsigned window = vm_shared_window(shared);
  const int size = predicate ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"(window), "l"(global), "r"(size) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :: "r"(window), "l"(global), "n"(Bytes), "r"(size) : "memory");
}
VM_FUNCTION void vm_commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Pending> VM_FUNCTION void vm_wait_async() {
  asm volatile("cp.async.wait_group %0;" :: "n"(Pending) : "memory");
}
#if VM_ARCH >= 900
VM_FUNCTION void vm_mbarrier_init(unsigned barrier, int arrivals, bool predicate = true) {
  if (predicate) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
               :: "r"(vm_shared_window(barrier)), "r"(arrivals) : "memory");
}
VM_FUNCTION void vm_fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
VM_FUNCTION void vm_mbarrier_arrive(unsigned barrier, bool predicate = true) {
  if (predicate)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(vm_shared_window(barrier)) : "memory");
}
VM_FUNCTION void vm_mbarrier_arrive_expect(unsigned barrier, int bytes, bool predicate = true) {
  if (predicate) asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :: "r"(vm_shared_window(barrier)), "r"(bytes) : "memory");
}
VM_FUNCTION void vm_mbarrier_wait(unsigned barrier, int parity) {
  const unsigned window = vm_shared_window(barrier);
  unsigned done;
  do {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                 "selp.b32 %0, 1, 0, p;}"
                 : "=r"(done) : "r"(window), "r"(parity) : "memory");
  } while (!done);
}
VM_FUNCTION bool vm_elect() {
  unsigned elected;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 %0, 1, 0, p;}" : "=r"(elected));
  return elected != 0;
}
VM_FUNCTION void vm_copy_bulk(unsigned shared, const void* global, int bytes, unsigned barrier,
                              bool predicate = true) {
  if (predicate) asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :: "r"(vm_shared_window(shared)), "l"(global), "r"(bytes), "r"(vm_shared_window(barrier))
               : "memory");
}
#endif
#elif VM_HIP
template <int Bytes>
VM_FUNCTION void vm_copy_async(unsigned shared, const void* global, bool predicate = true) {
  unsigned words[4];
  vm_load_global<Bytes>(words, 0, global, predicate);
  vm_store_shared<Bytes>(shared, words, 0);
}
VM_FUNCTION void vm_commit_async() {}
template <int Pending> VM_FUNCTION void vm_wait_async() {}
#else
template <int Bytes>
VM_FUNCTION void vm_copy_async(unsigned shared, const void* global,
                               bool predicate = true VM_PLACE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "4, 8 or 16 bytes");
  void* target = vm_emulator_shared(shared, Bytes, Bytes, place);
  const void* source = predicate ? vm_emulator_global(global, Bytes, Bytes, false, place) : nullptr;
  vm_emulator_copy_async(target, source, Bytes);
}
VM_FUNCTION void vm_commit_async() { vm_emulator_commit(); }
template <int Pending> VM_FUNCTION void vm_wait_async() { vm_emulator_wait(Pending); }

VM_FUNCTION unsigned long long* vm_mbarrier_of(unsigned barrier, vm_place place) {
  return (unsigned long long*)vm_emulator_shared(barrier, 8, 8, place);
}
VM_FUNCTION void vm_mbarrier_init(unsigned barrier, int arrivals, bool predicate = true VM_PLACE) {
  if (predicate) vm_emulator_mbarrier_init(vm_mbarrier_of(barrier, place), arrivals);
}
VM_FUNCTION void vm_fence_mbarrier_init() {}
VM_FUNCTION void vm_mbarrier_arrive_expect(unsigned barrier, int bytes, bool predicate = true VM_PLACE) {
  if (predicate) vm_emulator_mbarrier_arrive(vm_mbarrier_of(barrier, place), bytes, place);
}
VM_FUNCTION void vm_mbarrier_arrive(unsigned barrier, bool predicate = true VM_PLACE) {
  if (predicate) vm_emulator_mbarrier_arrive(vm_mbarrier_of(barrier, place), 0, place);
}
VM_FUNCTION void vm_mbarrier_wait(unsigned barrier, int parity VM_PLACE) {
  unsigned long long* words = vm_mbarrier_of(barrier, place);
  for (bool again = false; !vm_emulator_mbarrier_done(words, parity); again = true)
    vm_emulator_poll("mbarrier_wait", place, again);
}
VM_FUNCTION bool vm_elect() { return VM_LANE == 0; }
VM_FUNCTION void vm_copy_bulk(unsigned shared, const void* global, int bytes, unsigned barrier,
                              bool predicate = true VM_PLACE) {
  if (!predicate) return;
  if (bytes <= 0 || bytes % 16)
    vm_emulator_fault("bulk copy", place, "the size of a bulk copy is a positive multiple of 16 bytes");
  void* target = vm_emulator_shared(shared, (unsigned)bytes, 16, place);
  const void* source = vm_emulator_global(global, bytes, 16, false, place);
  vm_emulator_bulk_copy(target, source, (unsigned)bytes, vm_mbarrier_of(barrier, place));
}
#endif
