// Fibers: several stacks for one thread of the host, and going from one to another.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VM_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define VM_SANITIZED 1
#endif
#if VM_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a call keeps, and goes on with another stack.
#if defined(__x86_64__)
extern "C" void vm_emulator_switch(void** save, void* load);
asm(R"(
.text
.hidden vm_emulator_switch
.globl vm_emulator_switch
.type vm_emulator_switch, @function
vm_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vm_emulator_switch, .-vm_emulator_switch
)");
#endif

namespace {

constexpr size_t stack_bytes = 256 * 1024;

// Where a fiber, or the thread itself, goes on. The sanitizer is told of every change of stack.
struct Context {
  char* stack = nullptr;
  size_t bytes = stack_bytes;
  void* fake_stack = nullptr;
#if defined(__x86_64__)
  void* top = nullptr;
#else
  ucontext_t state;
#endif
};

std::vector<char*> free_stacks;

// Makes `context` begin with `entry`, which never returns.
void prepare(Context& context, void (*entry)()) {
  if (free_stacks.empty()) {
    void* memory = mmap(nullptr, stack_bytes + 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    mprotect(memory, 4096, PROT_NONE);  // so that running over shows
    free_stacks.push_back((char*)memory + 4096);
  }
  context.stack = free_stacks.back();
  free_stacks.pop_back();
#if VM_SANITIZED
  __asan_unpoison_memory_region(context.stack, stack_bytes);  // an abandoned fiber may have been here
#endif
#if defined(__x86_64__)
  void** top = (void**)(context.stack + stack_bytes);
  *--top = nullptr;       // where `entry` would return to
  *--top = (void*)entry;  // where the first switch returns to
  for (int i = 0; i < 6; i++) *--top = nullptr;
  context.top = top;
#else
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = context.stack;
  context.state.uc_stack.ss_size = stack_bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
#endif
}

// Goes on at `to`; returns when someone comes back to `from`. `ends`: no one will.
void go(Context& from, Context& to, bool ends = false) {
  (void)ends;
#if VM_SANITIZED
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.bytes);
#endif
#if defined(__x86_64__)
  vm_emulator_switch(&from.top, to.top);
#else
  swapcontext(&from.state, &to.state);
#endif
#if VM_SANITIZED
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The first thing that a fiber does: tells where it came from.
void arrived_from(Context& from) {
  (void)from;
#if VM_SANITIZED
  const void* stack = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &from.bytes);
  from.stack = (char*)stack;
#endif
}

}  // namespace
