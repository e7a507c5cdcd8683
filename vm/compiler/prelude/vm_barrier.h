// Waiting for other threads of the block, and for memory to be in order.
//
//   vm_synchronize()               all threads of the block; their shared and global accesses before it
//                                  are seen after it
//   vm_barrier(id, threads)        the same for `threads` threads (whole warps) that name barrier `id`,
//                                  1 to 15; vm_synchronize is id 0
//   vm_barrier_arrive(id, threads) counts as arriving and goes on
//   vm_synchronize_warp()          the lanes of a warp
//   vm_fence_block(), vm_fence_device(), vm_fence_system()   order this thread's accesses as seen by the
//                                  block, the device, the host
//   vm_fence_async_shared()        ordinary accesses of shared memory before those of the copy engine and
//                                  wgmma (sm_90)
//   vm_fence_async_global()        ordinary accesses of global memory before those of the copy engine (sm_90)
#pragma once

#if VM_CUDA
VM_FUNCTION void vm_synchronize() { asm volatile("bar.sync 0;" ::: "memory"); }
VM_FUNCTION void vm_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory");
}
VM_FUNCTION void vm_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory");
}
VM_FUNCTION void vm_synchronize_warp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
VM_FUNCTION void vm_fence_block() { asm volatile("fence.acq_rel.cta;" ::: "memory"); }
VM_FUNCTION void vm_fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
VM_FUNCTION void vm_fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
#if VM_ARCH >= 900
VM_FUNCTION void vm_fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
VM_FUNCTION void vm_fence_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }
#endif
#elif VM_HIP
VM_FUNCTION void vm_synchronize() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
VM_FUNCTION void vm_synchronize_warp() {
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
}
VM_FUNCTION void vm_fence_block() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "workgroup"); }
VM_FUNCTION void vm_fence_device() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "agent"); }
VM_FUNCTION void vm_fence_system() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, ""); }
#else
VM_FUNCTION void vm_synchronize(VM_ONLY_PLACE) {
  vm_emulator_barrier(0, vm_self->threads, true, "synchronize", place);
}
VM_FUNCTION void vm_barrier(int id, int threads VM_PLACE) {
  vm_emulator_barrier(id, threads, true, "barrier", place);
}
VM_FUNCTION void vm_barrier_arrive(int id, int threads VM_PLACE) {
  vm_emulator_barrier(id, threads, false, "barrier_arrive", place);
}
VM_FUNCTION void vm_synchronize_warp(VM_ONLY_PLACE) {
  vm_emulator_collective("synchronize_warp", place, nullptr, nullptr);
}
VM_FUNCTION void vm_fence_block() {}
VM_FUNCTION void vm_fence_device() {}
VM_FUNCTION void vm_fence_system() {}
VM_FUNCTION void vm_fence_async_shared() {}
VM_FUNCTION void vm_fence_async_global() {}
#endif
