// Functions of one float. `floor`, `ceil`, `round` (to even), `sqrt` are exact or rounded once. The
// others stay within this many units in the last place of f32 on CUDA (CUDA C++ Programming Guide,
// "Mathematical Functions", without fast math): exp 2, exp2 2, log 1, log2 1, rsqrt 2, tanh 2, sin 2,
// cos 2; of f64: exp 1, exp2 1, log 1, log2 1, rsqrt 1, tanh 2, sin 2, cos 2. In narrower types they
// are computed in f32 and rounded. The emulator computes f32 in f64: within 1.
#pragma once

#if VM_CUDA
#define VM_MATH(name, of_f32, of_f64)                                     \
  struct vm_operation_##name {                                            \
    template <class T> VM_FUNCTION float run(float x) { return of_f32; }  \
    template <class T> VM_FUNCTION double run(double x) { return of_f64; } \
  };
VM_MATH(exp, expf(x), exp(x))
VM_MATH(exp2, exp2f(x), exp2(x))
VM_MATH(log, logf(x), log(x))
VM_MATH(log2, log2f(x), log2(x))
VM_MATH(sqrt, __fsqrt_rn(x), __dsqrt_rn(x))
VM_MATH(rsqrt, rsqrtf(x), rsqrt(x))
VM_MATH(tanh, tanhf(x), tanh(x))
VM_MATH(sin, sinf(x), sin(x))
VM_MATH(cos, cosf(x), cos(x))
VM_MATH(floor, floorf(x), floor(x))
VM_MATH(ceil, ceilf(x), ceil(x))
VM_MATH(round, rintf(x), rint(x))
#elif VM_HIP
// Without the device library: f32 alone, from the approximate instructions (1 unit in the last place,
// subnormals flushed); nothing is promised of these beyond that, and f64 is refused.
#define VM_MATH(name, of_f32)                                            \
  struct vm_operation_##name {                                           \
    template <class T> VM_FUNCTION float run(float x) { return of_f32; } \
    template <class T> VM_FUNCTION double run(double x) = delete;        \
  };
VM_MATH(exp2, __builtin_amdgcn_exp2f(x))
VM_MATH(exp, __builtin_amdgcn_exp2f(x * 1.44269504f))
VM_MATH(log2, __builtin_amdgcn_logf(x))
VM_MATH(log, __builtin_amdgcn_logf(x) * 0.693147181f)
VM_MATH(rsqrt, __builtin_amdgcn_rsqf(x))
VM_MATH(tanh, 1.0f - 2.0f / (__builtin_amdgcn_exp2f(x * 2.88539008f) + 1.0f))
VM_MATH(sin, __builtin_amdgcn_sinf(__builtin_amdgcn_fractf(x * 0.159154943f)))
VM_MATH(cos, __builtin_amdgcn_cosf(__builtin_amdgcn_fractf(x * 0.159154943f)))
#undef VM_MATH
#define VM_MATH(name, of_f32, of_f64)                                      \
  struct vm_operation_##name {                                             \
    template <class T> VM_FUNCTION float run(float x) { return of_f32; }   \
    template <class T> VM_FUNCTION double run(double x) { return of_f64; } \
  };
VM_MATH(sqrt, __builtin_sqrtf(x), __builtin_sqrt(x))
VM_MATH(floor, __builtin_floorf(x), __builtin_floor(x))
VM_MATH(ceil, __builtin_ceilf(x), __builtin_ceil(x))
VM_MATH(round, __builtin_rintf(x), __builtin_rint(x))
#else
#define VM_MATH(name, of_f32, of_f64)                                      \
  struct vm_operation_##name {                                             \
    template <class T> VM_FUNCTION float run(float x) { return of_f32; }   \
    template <class T> VM_FUNCTION double run(double x) { return of_f64; } \
  };
VM_MATH(exp, (float)__builtin_exp(x), __builtin_exp(x))
VM_MATH(exp2, (float)__builtin_exp2(x), __builtin_exp2(x))
VM_MATH(log, (float)__builtin_log(x), __builtin_log(x))
VM_MATH(log2, (float)__builtin_log2(x), __builtin_log2(x))
VM_MATH(sqrt, __builtin_sqrtf(x), __builtin_sqrt(x))
VM_MATH(rsqrt, (float)(1.0 / __builtin_sqrt(x)), 1.0 / __builtin_sqrt(x))
VM_MATH(tanh, (float)__builtin_tanh(x), __builtin_tanh(x))
VM_MATH(sin, (float)__builtin_sin(x), __builtin_sin(x))
VM_MATH(cos, (float)__builtin_cos(x), __builtin_cos(x))
VM_MATH(floor, __builtin_floorf(x), __builtin_floor(x))
VM_MATH(ceil, __builtin_ceilf(x), __builtin_ceil(x))
VM_MATH(round, __builtin_rintf(x), __builtin_rint(x))
#endif
#undef VM_MATH
