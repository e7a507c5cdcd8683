// What differs between the targets before any function: how a kernel is declared, where a thread
// is, the shared memory, and the words behind a float.
#pragma once

#if defined(__HIP__) || defined(__HIPCC_RTC__)
#define VM_HIP 1
#elif defined(__CUDACC_RTC__) || defined(__CUDACC__)
#define VM_CUDA 1
#else
#define VM_EMULATOR 1
#endif

// VM_KERNEL(name, threads, blocks_per_multiprocessor)(parameters) { ... } defines the kernel.
// VM_SHARED(bytes) in it says how much dynamic shared memory the launch must give.
// VM_THREAD is the index of the thread in its block, VM_BLOCK_INDEX(axis) and VM_GRID_SIZE(axis)
// the block's index and the number of blocks along axis 0, 1 or 2; all are int.
// VM_WARP_WIDTH is the number of lanes of a warp, VM_LANE the thread's lane, VM_WARP its warp.
// VM_UNROLL before a loop with constant bounds unrolls it; VM_UNROLL_BY(n) n times.
// VM_ARCH is the compute capability times 10 (800, 890, 900) on CUDA.

#if VM_CUDA
#ifdef __CUDA_ARCH__
#define VM_ARCH __CUDA_ARCH__
#else
#define VM_ARCH 0
#endif
#define VM_FUNCTION static __device__ __forceinline__
#define VM_UNROLL _Pragma("unroll")
#define VM_UNROLL_BY(count) VM_PRAGMA(unroll count)
#define VM_PRAGMA(text) _Pragma(#text)
#define VM_WARP_WIDTH 32
#define VM_KERNEL(name, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define VM_THREAD ((int)threadIdx.x)
#define VM_BLOCK_INDEX(axis) ((int)((axis) == 0 ? blockIdx.x : (axis) == 1 ? blockIdx.y : blockIdx.z))
#define VM_GRID_SIZE(axis) ((int)((axis) == 0 ? gridDim.x : (axis) == 1 ? gridDim.y : gridDim.z))
#define VM_THREAD_COUNT ((int)blockDim.x)
#define VM_SHARED(bytes)
extern __shared__ __align__(1024) unsigned char vm_shared_memory[];

#elif VM_HIP
#pragma clang fp contract(off)
#define VM_ARCH 0
#define VM_FUNCTION static inline __attribute__((device)) __attribute__((always_inline))
#define VM_UNROLL _Pragma("unroll")
#define VM_UNROLL_BY(count) VM_PRAGMA(unroll count)
#define VM_PRAGMA(text) _Pragma(#text)
#ifdef __AMDGCN_WAVEFRONT_SIZE__
#define VM_WARP_WIDTH __AMDGCN_WAVEFRONT_SIZE__
#elif defined(__GFX9__)
#define VM_WARP_WIDTH 64
#else
#define VM_WARP_WIDTH 32
#endif
#define VM_KERNEL(name, threads, blocks)                                                 \
  extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, threads))) void \
      name
#define VM_THREAD ((int)__builtin_amdgcn_workitem_id_x())
#define VM_BLOCK_INDEX(axis)                           \
  ((int)((axis) == 0   ? __builtin_amdgcn_workgroup_id_x() \
         : (axis) == 1 ? __builtin_amdgcn_workgroup_id_y() \
                       : __builtin_amdgcn_workgroup_id_z()))
#define VM_GRID_SIZE(axis)                                                                  \
  ((int)((axis) == 0   ? __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x() \
         : (axis) == 1 ? __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y() \
                       : __builtin_amdgcn_grid_size_z() / __builtin_amdgcn_workgroup_size_z()))
#define VM_THREAD_COUNT ((int)__builtin_amdgcn_workgroup_size_x())
#define VM_SHARED(bytes)
extern __attribute__((shared)) __attribute__((aligned(1024))) unsigned char vm_shared_memory[];

#else
#define VM_ARCH 0
#define VM_FUNCTION static inline
#define VM_UNROLL
#define VM_UNROLL_BY(count)
#ifndef VM_WARP_WIDTH
#define VM_WARP_WIDTH 32
#endif
#include "vm_emulator.h"
#define VM_KERNEL(name, threads, blocks) \
  extern "C" constexpr int name##_threads = threads; \
  extern "C" void name
#define VM_THREAD (vm_self->thread)
#define VM_BLOCK_INDEX(axis) (vm_self->block[axis])
#define VM_GRID_SIZE(axis) (vm_self->grid[axis])
#define VM_THREAD_COUNT (vm_self->threads)
#define VM_SHARED(bytes) vm_emulator_need_shared(bytes)
#endif

#define VM_LANE (VM_THREAD % VM_WARP_WIDTH)
#define VM_WARP (VM_THREAD / VM_WARP_WIDTH)

// The emulator's functions that may fault or wait take the place of their call as a last, defaulted
// parameter; on a GPU there is none. VM_PLACE declares it and VM_AT hands it on.
#if VM_EMULATOR
#define VM_PLACE , vm_place place = vm_here()
#define VM_ONLY_PLACE vm_place place = vm_here()
#define VM_AT , place
#define VM_ONLY_AT place
#else
#define VM_PLACE
#define VM_ONLY_PLACE
#define VM_AT
#define VM_ONLY_AT
#endif

// The words behind numbers. All are exact.
#if VM_CUDA
VM_FUNCTION unsigned vm_word_of(float value) { return __float_as_uint(value); }
VM_FUNCTION float vm_float_of(unsigned word) { return __uint_as_float(word); }
VM_FUNCTION unsigned long long vm_words_of(double value) {
  return (unsigned long long)__double_as_longlong(value);
}
VM_FUNCTION double vm_double_of(unsigned long long words) {
  return __longlong_as_double((long long)words);
}
VM_FUNCTION int vm_leading_zeros(unsigned long long value) { return __clzll((long long)value); }
#else
VM_FUNCTION unsigned vm_word_of(float value) {
  unsigned word;
  __builtin_memcpy(&word, &value, 4);
  return word;
}
VM_FUNCTION float vm_float_of(unsigned word) {
  float value;
  __builtin_memcpy(&value, &word, 4);
  return value;
}
VM_FUNCTION unsigned long long vm_words_of(double value) {
  unsigned long long words;
  __builtin_memcpy(&words, &value, 8);
  return words;
}
VM_FUNCTION double vm_double_of(unsigned long long words) {
  double value;
  __builtin_memcpy(&value, &words, 8);
  return value;
}
// Of a value that is not 0.
VM_FUNCTION int vm_leading_zeros(unsigned long long value) { return __builtin_clzll(value); }
#endif
