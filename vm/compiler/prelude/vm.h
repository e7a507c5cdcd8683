// The prelude: everything that emitted kernels call. One text compiles for NVIDIA GPUs (NVRTC), for
// AMD GPUs (hiprtc, clang) and for the host, where the emulator runs it.
//
// Conventions
// - A kernel holds only `vm_*` calls, plain C++ on integers and pointers, and the macros below.
// - A register tensor is a `vm_register<T, N>`; T is a tag such as `vm_f16`, `vm_u4`.
// - Functions on registers take the destination first. An operand with one element is broadcast.
// - Functions of one hardware instruction take `unsigned*`: the words of its registers, such as
//   `c.words + 4`; `at` is a byte offset into these words.
// - A shared address is an `unsigned` byte offset into the block's dynamic shared memory.
// - A `predicate` that is false makes a load give 0, a copy write 0, and a store do nothing; the
//   address is then not used.
// - Words, `at` and slots have to be constants once loops are unrolled (VM_UNROLL), else the
//   registers go to local memory.
#pragma once
#include "vm_target.h"
#include "vm_types.h"
#include "vm_register.h"
#include "vm_number.h"
#include "vm_round.h"
#include "vm_packed.h"
#include "vm_cast.h"
#include "vm_operation.h"
#include "vm_math.h"
#include "vm_elementwise.h"
#include "vm_memory.h"
#include "vm_bits.h"
#include "vm_async.h"
#include "vm_matrix.h"
#include "vm_mfma.h"
#include "vm_warp.h"
#include "vm_barrier.h"
#include "vm_atomic.h"
#include "vm_report.h"
#include "vm_index.h"
#include "vm_random.h"
#include "vm_words.h"
