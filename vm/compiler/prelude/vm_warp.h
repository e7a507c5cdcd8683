// Exchange among the lanes of a warp; all of them execute the call. Words, or whole registers.
//
//   vm_shuffle(target, source, lane)      the value of that lane (modulo the width)
//   vm_shuffle_xor(target, source, mask)  the value of lane ^ mask
//   vm_shuffle_up(target, source, delta)  the value of lane - delta; a lane without one keeps its own
//   vm_shuffle_down(target, source, delta)  the value of lane + delta, likewise
//   vm_ballot(condition)                  bit l is the condition of lane l (64-bit)
//   vm_any(condition), vm_all(condition)
//   vm_vote_any(target, source), vm_vote_all(target, source)   of every element of a register of vm_bool
//   vm_warp_uniform(value)                a value that all lanes have, so that the compiler knows
#pragma once

#if VM_CUDA
VM_FUNCTION unsigned vm_shuffle_word(unsigned word, int lane) {
  unsigned result;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(word), "r"(lane));
  return result;
}
VM_FUNCTION unsigned vm_shuffle_xor_word(unsigned word, int mask) {
  unsigned result;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(word), "r"(mask));
  return result;
}
VM_FUNCTION unsigned vm_shuffle_up_word(unsigned word, int delta) {
  unsigned result;
  asm volatile("shfl.sync.up.b32 %0, %1, %2, 0, 0xffffffff;" : "=r"(result) : "r"(word), "r"(delta));
  return result;
}
VM_FUNCTION unsigned vm_shuffle_down_word(unsigned word, int delta) {
  unsigned result;
  asm volatile("shfl.sync.down.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(result) : "r"(word), "r"(delta));
  return result;
}
VM_FUNCTION unsigned long long vm_ballot(bool condition) {
  return __ballot_sync(0xffffffffu, condition);
}
VM_FUNCTION int vm_warp_uniform(int value) { return __shfl_sync(0xffffffffu, value, 0); }
#elif VM_HIP
VM_FUNCTION unsigned vm_shuffle_word(unsigned word, int lane) {
  return (unsigned)__builtin_amdgcn_ds_bpermute((lane & (VM_WARP_WIDTH - 1)) * 4, (int)word);
}
VM_FUNCTION int vm_own_lane() { return VM_LANE; }
VM_FUNCTION unsigned vm_shuffle_xor_word(unsigned word, int mask) {
  return vm_shuffle_word(word, vm_own_lane() ^ mask);
}
VM_FUNCTION unsigned vm_shuffle_up_word(unsigned word, int delta) {
  const int lane = vm_own_lane();
  return vm_shuffle_word(word, lane - delta < 0 ? lane : lane - delta);
}
VM_FUNCTION unsigned vm_shuffle_down_word(unsigned word, int delta) {
  const int lane = vm_own_lane();
  return vm_shuffle_word(word, lane + delta >= VM_WARP_WIDTH ? lane : lane + delta);
}
VM_FUNCTION unsigned long long vm_ballot(bool condition) {
#if VM_WARP_WIDTH == 64
  return __builtin_amdgcn_ballot_w64(condition);
#else
  return __builtin_amdgcn_ballot_w32(condition);
#endif
}
VM_FUNCTION int vm_warp_uniform(int value) { return __builtin_amdgcn_readfirstlane(value); }
#else
VM_FUNCTION int vm_warp_uniform(int value) { return value; }
struct vm_shuffle_operands {
  unsigned word;
  int lane;
  unsigned result;
};
static void vm_shuffle_body(void** operands, int lanes) {
  vm_shuffle_operands** all = (vm_shuffle_operands**)operands;
  for (int lane = 0; lane < lanes; lane++) all[lane]->result = all[all[lane]->lane]->word;
}
VM_FUNCTION unsigned vm_shuffle_from(const char* name, unsigned word, int lane, vm_place place) {
  vm_shuffle_operands mine = {word, lane, 0};
  vm_emulator_collective(name, place, vm_shuffle_body, &mine);
  return mine.result;
}
VM_FUNCTION unsigned vm_shuffle_word(unsigned word, int lane VM_PLACE) {
  return vm_shuffle_from("shuffle", word, lane & (VM_WARP_WIDTH - 1), place);
}
VM_FUNCTION unsigned vm_shuffle_xor_word(unsigned word, int mask VM_PLACE) {
  return vm_shuffle_from("shuffle_xor", word, (VM_LANE ^ mask) & (VM_WARP_WIDTH - 1), place);
}
VM_FUNCTION unsigned vm_shuffle_up_word(unsigned word, int delta VM_PLACE) {
  return vm_shuffle_from("shuffle_up", word, VM_LANE < delta ? VM_LANE : VM_LANE - delta, place);
}
VM_FUNCTION unsigned vm_shuffle_down_word(unsigned word, int delta VM_PLACE) {
  const int lane = VM_LANE + delta < VM_WARP_WIDTH ? VM_LANE + delta : VM_LANE;
  return vm_shuffle_from("shuffle_down", word, lane, place);
}
struct vm_ballot_operands {
  bool condition;
  unsigned long long result;
};
static void vm_ballot_body(void** operands, int lanes) {
  vm_ballot_operands** all = (vm_ballot_operands**)operands;
  unsigned long long bits = 0;
  for (int lane = 0; lane < lanes; lane++) bits |= (unsigned long long)all[lane]->condition << lane;
  for (int lane = 0; lane < lanes; lane++) all[lane]->result = bits;
}
VM_FUNCTION unsigned long long vm_ballot(bool condition VM_PLACE) {
  vm_ballot_operands mine = {condition, 0};
  vm_emulator_collective("ballot", place, vm_ballot_body, &mine);
  return mine.result;
}
#endif

VM_FUNCTION bool vm_any(bool condition VM_PLACE) { return vm_ballot(condition VM_AT) != 0; }
VM_FUNCTION bool vm_all(bool condition VM_PLACE) { return vm_ballot(!condition VM_AT) == 0; }

#define VM_VOTE(name)                                                                          \
  template <int N>                                                                             \
  VM_FUNCTION void vm_vote_##name(vm_register<vm_bool, N>& target,                             \
                                  const vm_register<vm_bool, N>& source VM_PLACE) {            \
    vm_register<vm_bool, N> result = vm_zero<vm_bool, N>();                                    \
    VM_UNROLL for (int k = 0; k < N; k++)                                                      \
      vm_set_code(result, k, vm_##name(vm_get_code(source, k) != 0 VM_AT) ? 1u : 0u);          \
    target = result;                                                                           \
  }
VM_VOTE(any)
VM_VOTE(all)
#undef VM_VOTE

#define VM_SHUFFLE(name)                                                                       \
  template <class T, int N>                                                                    \
  VM_FUNCTION void name(vm_register<T, N>& target, const vm_register<T, N>& source,            \
                        int lane VM_PLACE) {                                                   \
    VM_UNROLL for (int i = 0; i < source.count; i++)                                           \
      target.words[i] = name##_word(source.words[i], lane VM_AT);                              \
  }
VM_SHUFFLE(vm_shuffle)
VM_SHUFFLE(vm_shuffle_xor)
VM_SHUFFLE(vm_shuffle_up)
VM_SHUFFLE(vm_shuffle_down)
#undef VM_SHUFFLE
