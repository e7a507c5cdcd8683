"""What a target is."""

from __future__ import annotations

from dataclasses import dataclass

from vm.compiler.rules import RuleSet
from vm.isa import gpu, gpu_atomics, launch_memory
from vm.layouts import Fragment

RESERVED_BYTES = 1024
"""Shared memory of a block that the system takes (CUDA C++ Programming Guide, "Shared Memory")."""


@dataclass(frozen=True)
class MachineInstructions:
    """A family's classes for what all families of GPUs do: rules for all of them emit these."""

    load_global: type[gpu.LoadGlobal]
    store_global: type[gpu.StoreGlobal]
    load_global_bits: type[gpu.LoadGlobalBits]
    store_global_bits: type[gpu.StoreGlobalBits]
    load_shared: type[gpu.LoadShared]
    store_shared: type[gpu.StoreShared]
    load_shared_bits: type[gpu.LoadSharedBits]
    store_shared_bits: type[gpu.StoreSharedBits]
    atomic_global: type[gpu_atomics.AtomicGlobal]
    reduce_global: type[gpu_atomics.ReduceGlobal]
    atomic_shared: type[gpu_atomics.AtomicShared]
    reduce_shared: type[gpu_atomics.ReduceShared]
    matrix_multiply: type[gpu.MatrixMultiply]
    shuffle_xor: type[gpu.ShuffleXor]
    vote: type[gpu.Vote]
    wait_for: type[launch_memory.WaitFor]
    signal: type[launch_memory.Signal]


@dataclass(frozen=True)
class Target:
    """A kind of device.

    `prefix` is that of its machine instructions, `machine` those that other families have too;
    `capability` orders the members of a family; `shared_bytes` is the shared memory that one block
    may have and `banks` how it serves a warp (a name of vm/layouts/banks.py); `registers` are those
    of a thread; `fragments` are what its matrix unit multiplies.
    """

    name: str
    family: str
    prefix: str
    machine: MachineInstructions
    capability: int
    warp_width: int
    shared_bytes: int
    banks: str
    registers: int
    fragments: tuple[Fragment, ...]
    rules: RuleSet

    def blocks(self, shared_bytes: int) -> int:
        """How many blocks of so much shared memory a multiprocessor has room for. Each takes
        RESERVED_BYTES more, and what one block may have is all of it but those."""
        return (self.shared_bytes + RESERVED_BYTES) // (shared_bytes + RESERVED_BYTES)
