// The emulator: runs a kernel compiled for the host, each GPU thread a fiber of one thread.
//
// A fiber runs until it has to wait: at a barrier, in a collective of its warp, or for memory. Blocks
// run one after another; where all threads of the blocks that have begun wait for memory, the next
// block begins. Where nothing can go on, the launch ends with a fault that names every place.
//
// Asynchronous copies arrive as late as they may: their destination is poisoned when they are issued,
// and the bytes come at the wait that completes them. In random order half of them come at once.
#include "emulator_context.h"
#include "vm_emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <tuple>
#include <vector>

vm_emulator_self* vm_self;
vm_emulator_kernel* vm_emulator_kernels;

extern "C" {
// One place that threads of a block wait at (or "exited"), how many, and the first of them.
struct vm_emulator_site {
  char name[32];
  char file[224];
  int line;
  int count;
  int thread;
  int block[3];
};
// What a launch came to; `kind` is empty where it ended well.
struct vm_emulator_result {
  char kind[32];
  char message[512];
  int site_count;
  vm_emulator_site sites[16];
  unsigned long long switches;
};
struct vm_emulator_launch {
  const char* kernel;
  int grid[3];
  int threads;
  unsigned shared_bytes;
  int warp_width;
  int order;  // 0 forward, 1 reverse, 2 random
  unsigned long long seed;
  void** arguments;
  vm_emulator_buffer* buffers;
  int buffer_count;
};
}

namespace {

struct Block;

struct Copy {
  void* target;
  const void* source;
  unsigned bytes;
  unsigned long long* barrier;
  void deliver() const {
    if (source)
      memcpy(target, source, bytes);
    else
      memset(target, 0, bytes);
  }
};

enum class State { ready, waiting, polling, done };

struct Fiber {
  vm_emulator_self self{};
  Block* block = nullptr;
  State state = State::ready;
  const char* name = "";
  vm_place place{"", 0};
  bool polled_again = false;
  std::vector<Copy> uncommitted;
  std::deque<std::vector<Copy>> groups;
  Context context;
};

struct Barrier {
  int arrived = 0;
  int expected = 0;
  std::vector<Fiber*> waiting;
  // The first to arrive, and where: it may have gone on since.
  const Fiber* first = nullptr;
  const char* name = "";
  vm_place place{"", 0};
};

struct Warp {
  std::vector<Fiber*> arrived;
  void* operands[64];
};

struct Block {
  int index[3];
  std::unique_ptr<unsigned char, void (*)(void*)> shared{nullptr, free};
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Barrier> barriers{16};
  std::vector<Warp> warps;
  std::vector<Copy> bulk;
  int live = 0;
};

struct Machine {
  const vm_emulator_launch* launch = nullptr;
  const vm_emulator_kernel* kernel = nullptr;
  vm_emulator_result* result = nullptr;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Fiber*> ready, polling;
  std::mt19937_64 random;
  std::string printed;
  Fiber* running = nullptr;
  Context main;
};

Machine machine;
std::mutex one_launch;

void to_main(bool ends) { go(machine.running->context, machine.main, ends); }

void run_fiber(Fiber* fiber) {
  machine.running = fiber;
  machine.result->switches++;
  vm_self = &fiber->self;
  go(machine.main, fiber->context);
}

void fiber_main() {
  arrived_from(machine.main);
  machine.kernel->call(machine.launch->arguments);
  machine.running->state = State::done;
  machine.running->block->live--;
  to_main(true);
  abort();
}

void copy_text(char* target, size_t size, const char* source) {
  snprintf(target, size, "%s", source);
}

void add_site(const Fiber* fiber, const char* name, vm_place place) {
  vm_emulator_result& result = *machine.result;
  for (int i = 0; i < result.site_count; i++) {
    vm_emulator_site& site = result.sites[i];
    if (site.line == place.line && !strcmp(site.name, name) &&
        !strncmp(site.file, place.file, sizeof(site.file) - 1) &&
        !memcmp(site.block, fiber->self.block, sizeof(site.block))) {
      site.count++;
      return;
    }
  }
  if (result.site_count == 16) return;
  vm_emulator_site& site = result.sites[result.site_count++];
  copy_text(site.name, sizeof(site.name), name);
  copy_text(site.file, sizeof(site.file), place.file);
  site.line = place.line;
  site.count = 1;
  site.thread = fiber->self.thread;
  memcpy(site.block, fiber->self.block, sizeof(site.block));
}

[[noreturn]] void end_with_fault() {
  machine.running->state = State::done;
  to_main(false);
  abort();
}

void set_fault(const char* kind, const char* message) {
  copy_text(machine.result->kind, sizeof(machine.result->kind), kind);
  copy_text(machine.result->message, sizeof(machine.result->message), message);
}

void wait_here(State state, const char* name, vm_place place) {
  Fiber* fiber = machine.running;
  fiber->state = state;
  fiber->name = name;
  fiber->place = place;
  if (state == State::polling) machine.polling.push_back(fiber);
  to_main(false);
}

void release(Fiber* fiber) {
  fiber->state = State::ready;
  machine.ready.push_back(fiber);
}

}  // namespace

void vm_emulator_fault(const char* kind, vm_place place, const char* message) {
  set_fault(kind, message);
  add_site(machine.running, kind, place);
  end_with_fault();
}

void vm_emulator_fault_access(const char* space, vm_place place, const void* address,
                              unsigned long long offset, int bytes, const char* why) {
  char message[512];
  if (address) {
    const unsigned char* begin = (const unsigned char*)address;
    long long nearest = -1, distance = 0;
    for (int i = 0; i < machine.launch->buffer_count; i++) {
      const vm_emulator_buffer& buffer = machine.launch->buffers[i];
      const long long inside = begin - buffer.begin;
      const long long away = begin < buffer.begin ? buffer.begin - begin
                             : begin >= buffer.end ? begin - buffer.end
                                                   : 0;
      if (nearest < 0 || away < distance) nearest = i, distance = away, offset = (unsigned long long)inside;
    }
    snprintf(message, sizeof(message), "%s access of %d bytes is %s: byte %lld of argument buffer %lld",
             space, bytes, why, (long long)offset, nearest);
  } else {
    snprintf(message, sizeof(message), "%s access of %d bytes at byte %llu is %s (the block has %u)",
             space, bytes, offset, why, machine.launch->shared_bytes);
  }
  vm_emulator_fault(why[0] == 'm' ? "misaligned" : "access", place, message);
}

void vm_emulator_find_buffer(const void* address, int bytes, bool writes, vm_place place) {
  const unsigned char* begin = (const unsigned char*)address;
  for (int i = 0; i < machine.launch->buffer_count; i++) {
    const vm_emulator_buffer& buffer = machine.launch->buffers[i];
    if (begin >= buffer.begin && begin + bytes <= buffer.end) {
      if (writes && !buffer.writable)
        vm_emulator_fault_access("global", place, address, 0, bytes, "a write to a read-only array");
      vm_self->recent = buffer;
      return;
    }
  }
  vm_emulator_fault_access("global", place, address, 0, bytes, "out of range");
}

void vm_emulator_need_shared(unsigned bytes) {
  if (bytes > machine.launch->shared_bytes)
    vm_emulator_fault("launch", vm_place{"", 0}, "the launch gives less shared memory than the kernel needs");
}

namespace {

bool same(vm_place a, vm_place b) { return a.line == b.line && !strcmp(a.file, b.file); }

// Waits for the other lanes of the warp. True for the last one, which finds all in `arrived`; the
// others return, released, when it has done what is to be done.
bool last_of_warp(Warp& warp, const char* name, vm_place place, void* operands) {
  Fiber* fiber = machine.running;
  const int width = machine.launch->warp_width, lane = fiber->self.thread % width;
  const int lanes = std::min(width, fiber->self.threads - fiber->self.thread / width * width);
  const Fiber* first = warp.arrived.empty() ? nullptr : warp.arrived[0];
  if (first && (strcmp(first->name, name) || !same(first->place, place))) {
    const bool barrier = strstr(name, "synchronize") || strstr(name, "barrier");
    set_fault(barrier ? "divergent barrier" : "divergent warp",
              "lanes of one warp are at different places, but all have to be at one");
    for (const Fiber* other : warp.arrived) add_site(other, other->name, other->place);
    add_site(fiber, name, place);
    end_with_fault();
  }
  fiber->name = name;
  fiber->place = place;
  warp.operands[lane] = operands;
  warp.arrived.push_back(fiber);
  if ((int)warp.arrived.size() == lanes) return true;
  wait_here(State::waiting, name, place);
  return false;
}

}  // namespace

void vm_emulator_collective(const char* name, vm_place place, vm_emulator_collective_body body,
                            void* operands) {
  Fiber* fiber = machine.running;
  const int width = machine.launch->warp_width;
  Warp& warp = fiber->block->warps[fiber->self.thread / width];
  if (body && fiber->self.thread / width * width + width > fiber->self.threads)
    vm_emulator_fault("partial warp", place, "a warp without all its lanes executes a warp instruction");
  if (!last_of_warp(warp, name, place, operands)) return;
  if (body) body(warp.operands, width);
  for (Fiber* other : warp.arrived)
    if (other != fiber) release(other);
  warp.arrived.clear();
}

// Warps arrive as a whole, as the hardware counts them.
void vm_emulator_barrier(int id, int threads, bool waits, const char* name, vm_place place) {
  Fiber* fiber = machine.running;
  const int width = machine.launch->warp_width;
  if (id < 0 || id >= 16) vm_emulator_fault("barrier", place, "barriers are numbered 0 to 15");
  if (threads <= 0 || threads > fiber->self.threads ||
      (threads % width && threads != fiber->self.threads))
    vm_emulator_fault("barrier", place, "a barrier is for whole warps of the block");
  Warp& warp = fiber->block->warps[fiber->self.thread / width];
  if (!last_of_warp(warp, name, place, nullptr)) return;
  Barrier& barrier = fiber->block->barriers[id];
  const bool other_count = barrier.first && barrier.expected != threads;
  const bool whole = !strcmp(name, "synchronize");
  if (other_count || (barrier.first && whole && !same(barrier.place, place))) {
    set_fault("divergent barrier", other_count ? "threads name one barrier with different thread counts"
                                               : "threads wait for each other at different places");
    add_site(barrier.first, barrier.name, barrier.place);
    add_site(fiber, name, place);
    end_with_fault();
  }
  if (!barrier.first) {
    barrier.first = fiber;
    barrier.name = name;
    barrier.place = place;
    barrier.expected = threads;
  }
  barrier.arrived += (int)warp.arrived.size();
  std::vector<Fiber*> lanes = std::move(warp.arrived);
  warp.arrived.clear();
  const bool complete = barrier.arrived == threads;
  if (complete) {
    for (Fiber* other : barrier.waiting) release(other);
    barrier = Barrier();
  }
  for (Fiber* lane : lanes) {
    if (waits && !complete)
      barrier.waiting.push_back(lane);
    else if (lane != fiber)
      release(lane);
  }
  if (waits && !complete) wait_here(State::waiting, name, place);
}

void vm_emulator_poll(const char* name, vm_place place, bool again) {
  machine.running->polled_again = again;
  wait_here(State::polling, name, place);
}

void vm_emulator_copy_async(void* target, const void* source, int bytes) {
  const Copy copy{target, source, (unsigned)bytes, nullptr};
  if (machine.launch->order == 2 && (machine.random() & 1)) {
    copy.deliver();
    return;
  }
  memset(target, 0xff, bytes);
  machine.running->uncommitted.push_back(copy);
}

void vm_emulator_commit() {
  Fiber* fiber = machine.running;
  fiber->groups.push_back(std::move(fiber->uncommitted));
  fiber->uncommitted.clear();
}

void vm_emulator_wait(int pending) {
  Fiber* fiber = machine.running;
  for (; (int)fiber->groups.size() > pending; fiber->groups.pop_front())
    for (const Copy& copy : fiber->groups.front()) copy.deliver();
}

// Bits of an mbarrier: 0 parity, 1..20 arrivals pending, 21..40 arrivals of a phase, 41..63 the bytes
// pending, signed.
namespace {
struct Phase {
  unsigned long long parity : 1, pending : 20, arrivals : 20;
  long long bytes : 23;
};
static_assert(sizeof(Phase) == 8, "an mbarrier has 8 bytes");

void finish_phase(unsigned long long* barrier) {
  Phase phase;
  memcpy(&phase, barrier, 8);
  if (phase.pending == 0 && phase.bytes == 0) {
    phase.parity ^= 1;
    phase.pending = phase.arrivals;
    memcpy(barrier, &phase, 8);
  }
}
void complete_bytes(unsigned long long* barrier, unsigned bytes) {
  Phase phase;
  memcpy(&phase, barrier, 8);
  phase.bytes -= bytes;
  memcpy(barrier, &phase, 8);
  finish_phase(barrier);
}
}  // namespace

void vm_emulator_mbarrier_init(unsigned long long* barrier, int arrivals) {
  Phase phase{0, (unsigned)arrivals, (unsigned)arrivals, 0};
  memcpy(barrier, &phase, 8);
}

void vm_emulator_mbarrier_arrive(unsigned long long* barrier, int bytes, vm_place place) {
  Phase phase;
  memcpy(&phase, barrier, 8);
  if (phase.pending == 0)
    vm_emulator_fault("mbarrier", place, "more arrivals than the mbarrier's phase waits for");
  phase.bytes += bytes;
  phase.pending--;
  memcpy(barrier, &phase, 8);
  finish_phase(barrier);
}

bool vm_emulator_mbarrier_done(unsigned long long* barrier, int parity) {
  std::vector<Copy>& bulk = machine.running->block->bulk;
  Phase phase;
  memcpy(&phase, barrier, 8);
  for (size_t i = 0; i < bulk.size() && (int)phase.parity == parity;) {
    if (bulk[i].barrier == barrier) {
      const Copy copy = bulk[i];
      bulk.erase(bulk.begin() + i);
      copy.deliver();
      complete_bytes(barrier, copy.bytes);
      memcpy(&phase, barrier, 8);
    } else {
      i++;
    }
  }
  return (int)phase.parity != parity;
}

void vm_emulator_bulk_copy(void* target, const void* source, unsigned bytes,
                           unsigned long long* barrier) {
  const Copy copy{target, source, bytes, barrier};
  if (machine.launch->order == 2 && (machine.random() & 1)) {
    copy.deliver();
    complete_bytes(barrier, bytes);
    return;
  }
  memset(target, 0xff, bytes);
  machine.running->block->bulk.push_back(copy);
}

void vm_emulator_print(const char* text) { machine.printed += text; }
void vm_emulator_print_float(double value) {
  char text[64];
  snprintf(text, sizeof(text), "%.9g", value);
  machine.printed += text;
}
void vm_emulator_print_integer(long long value) { machine.printed += std::to_string(value); }

namespace {

void begin_block(long long number) {
  const vm_emulator_launch& launch = *machine.launch;
  auto block = std::make_unique<Block>();
  block->index[0] = (int)(number % launch.grid[0]);
  block->index[1] = (int)(number / launch.grid[0] % launch.grid[1]);
  block->index[2] = (int)(number / launch.grid[0] / launch.grid[1]);
  const size_t bytes = (launch.shared_bytes + 1023) / 1024 * 1024 + 1024;
  block->shared.reset((unsigned char*)aligned_alloc(1024, bytes));
  memset(block->shared.get(), 0xff, bytes);
  block->warps.resize((launch.threads + launch.warp_width - 1) / launch.warp_width);
  block->live = launch.threads;
  for (int thread = 0; thread < launch.threads; thread++) {
    auto fiber = std::make_unique<Fiber>();
    fiber->block = block.get();
    fiber->self.thread = thread;
    fiber->self.threads = launch.threads;
    memcpy(fiber->self.block, block->index, sizeof(block->index));
    memcpy(fiber->self.grid, launch.grid, sizeof(launch.grid));
    fiber->self.shared = block->shared.get();
    fiber->self.shared_bytes = launch.shared_bytes;
    prepare(fiber->context, fiber_main);
    machine.ready.push_back(fiber.get());
    block->fibers.push_back(std::move(fiber));
  }
  machine.blocks.push_back(std::move(block));
}

void put_in_order(std::vector<Fiber*>& fibers) {
  const int order = machine.launch->order;
  if (order == 2) {
    std::shuffle(fibers.begin(), fibers.end(), machine.random);
    return;
  }
  const auto rank = [](const Fiber* fiber) {
    const int* index = fiber->block->index;
    return std::make_tuple(index[2], index[1], index[0], fiber->self.thread);
  };
  std::sort(fibers.begin(), fibers.end(), [&](const Fiber* a, const Fiber* b) {
    return order == 1 ? rank(b) < rank(a) : rank(a) < rank(b);
  });
}

void drop_finished_blocks() {
  for (size_t i = 0; i < machine.blocks.size();) {
    if (machine.blocks[i]->live) {
      i++;
      continue;
    }
    for (auto& fiber : machine.blocks[i]->fibers) free_stacks.push_back(fiber->context.stack);
    machine.blocks.erase(machine.blocks.begin() + i);
  }
}

bool faulted() { return machine.result->kind[0] != 0; }

// Runs what is ready, then what polls, until nothing moves.
void run_to_rest() {
  std::vector<Fiber*> batch;
  for (bool moved = true; moved && !faulted();) {
    moved = false;
    if (machine.ready.empty()) {
      batch.swap(machine.polling);
    } else {
      batch.swap(machine.ready);
      moved = true;
    }
    put_in_order(batch);
    for (Fiber* fiber : batch) {
      run_fiber(fiber);
      if (faulted()) return;
      if (!(fiber->state == State::polling && fiber->polled_again)) moved = true;
    }
    batch.clear();
  }
}

void report_deadlock() {
  bool barrier = false;
  for (auto& block : machine.blocks)
    for (auto& fiber : block->fibers) {
      if (block->live == 0) continue;
      const bool exited = fiber->state == State::done;
      add_site(fiber.get(), exited ? "exited" : fiber->name, exited ? vm_place{"", 0} : fiber->place);
      barrier = barrier || fiber->state == State::waiting;
    }
  set_fault("deadlock", barrier ? "threads wait for others that never come"
                                : "threads wait for memory that nothing will change");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* vm_emulator_parameters_of(const char* name) {
  for (vm_emulator_kernel* kernel = vm_emulator_kernels; kernel; kernel = kernel->next)
    if (!strcmp(kernel->name, name)) return kernel->parameters;
  return nullptr;
}

// Runs one launch; what it printed is left in `printed` until the next.
extern "C" __attribute__((visibility("default"))) void vm_emulator_run(
    const vm_emulator_launch* launch, vm_emulator_result* result, const char** printed) {
  std::lock_guard<std::mutex> lock(one_launch);
  *result = vm_emulator_result{};
  machine.launch = launch;
  machine.result = result;
  machine.printed.clear();
  machine.random.seed(launch->seed);
  for (vm_emulator_kernel* kernel = vm_emulator_kernels; kernel; kernel = kernel->next)
    if (!strcmp(kernel->name, launch->kernel)) machine.kernel = kernel;
  std::vector<long long> order((size_t)launch->grid[0] * launch->grid[1] * launch->grid[2]);
  for (size_t i = 0; i < order.size(); i++) order[i] = (long long)i;
  if (launch->order == 1) std::reverse(order.begin(), order.end());
  if (launch->order == 2) std::shuffle(order.begin(), order.end(), machine.random);
  size_t next = 0;
  while (!faulted()) {
    drop_finished_blocks();
    if (next < order.size())
      begin_block(order[next++]);
    else if (machine.blocks.empty())
      break;
    else
      report_deadlock();
    if (!faulted()) run_to_rest();
    // Without a thread that waits for memory, no other block can help.
    bool unfinished = false;
    for (auto& block : machine.blocks) unfinished = unfinished || block->live;
    if (!faulted() && unfinished && machine.polling.empty()) report_deadlock();
  }
  for (auto& block : machine.blocks)
    for (auto& fiber : block->fibers) free_stacks.push_back(fiber->context.stack);
  machine.blocks.clear();
  machine.ready.clear();
  machine.polling.clear();
  *printed = machine.printed.c_str();
}

#if VM_EMULATOR_MAIN
#include "emulator_process.h"
#endif
