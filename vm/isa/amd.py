"""Machine instructions of AMD GPUs of the CDNA family, whose warps have 64 lanes.

What other families have too is in gpu.py. Source: AMD, "AMD Instinct MI300 Instruction Set
Architecture", on vector memory, data share and matrix arithmetic.
"""

from __future__ import annotations

from typing import Any

from vm.isa import gpu, gpu_atomics, launch_memory
from vm.isa.instruction import Instruction


class LoadGlobal(gpu.LoadGlobal, opcode="amd.load_global"):
    """Loads 1 to 16 bytes per thread from global memory (global_load).

    The address is a multiple of the number of bytes. Where the predicate does not hold it gives 0.
    """


class StoreGlobal(gpu.StoreGlobal, opcode="amd.store_global"):
    """Stores 1 to 16 bytes per thread to global memory (global_store) where the predicate holds."""


class LoadShared(gpu.LoadShared, opcode="amd.load_shared"):
    """Loads 1 to 16 bytes per thread from shared memory (ds_read).

    The address is a multiple of the number of bytes. Where the predicate does not hold it gives 0.
    """


class StoreShared(gpu.StoreShared, opcode="amd.store_shared"):
    """Stores 1 to 16 bytes per thread to shared memory (ds_write) where the predicate holds."""


class MatrixMultiply(gpu.MatrixMultiply, opcode="amd.mfma"):
    """One matrix product of each warp with its matrix unit (v_mfma): c + a * b.

    `fragment` names the shape and the layouts of the operands; `at_a`, `at_b`, `at_c` are the words
    of the operands that hold them. Sums are exact within the reference machine and rounded once.
    """


class ShuffleXor(gpu.ShuffleXor, opcode="amd.shuffle_xor"):
    """The tensor as lane `lane ^ mask` of the same warp holds it, slot by slot (ds_bpermute_b32).

    What comes out keeps the layout of x only if x is a file; that is all it takes.
    """


class Vote(gpu.Vote, opcode="amd.vote"):
    """Whether any lane of the warp, or all, hold true, slot by slot (v_cmp).

    What comes out keeps the layout of x only if x is a file; that is all it takes.
    """


class LoadGlobalBits(gpu.LoadGlobalBits, opcode="amd.load_global_bits"):
    """Loads one element per thread that begins at any bit of global memory."""


class StoreGlobalBits(gpu.StoreGlobalBits, opcode="amd.store_global_bits"):
    """Stores one element per thread at any bit of global memory, and no other bit."""


class LoadSharedBits(gpu.LoadSharedBits, opcode="amd.load_shared_bits"):
    """Loads one element per thread that begins at any bit of shared memory."""


class StoreSharedBits(gpu.StoreSharedBits, opcode="amd.store_shared_bits"):
    """Stores one element per thread at any bit of shared memory, and no other bit."""


class AtomicGlobal(gpu_atomics.AtomicGlobal, opcode="amd.atomic_global"):
    """Combines slot `slot` of x with an element of global memory; `old` gets what was there
    (global_atomic)."""


class ReduceGlobal(gpu_atomics.ReduceGlobal, opcode="amd.reduce_global"):
    """Combines slot `slot` of x with an element of global memory (global_atomic)."""


class AtomicShared(gpu_atomics.AtomicShared, opcode="amd.atomic_shared"):
    """Combines slot `slot` of x with an element of shared memory; `old` gets what was there
    (ds_atomic)."""


class ReduceShared(gpu_atomics.ReduceShared, opcode="amd.reduce_shared"):
    """Combines slot `slot` of x with an element of shared memory (ds_atomic)."""


class WaitFor(launch_memory.WaitFor, opcode="amd.wait_for"):
    """Waits until a semaphore, `offset` bytes behind the beginning of an array of them, is a value
    (global_load in a loop, then buffer_inv).

    What came before the signal is before what these threads do next; for others they speak at the
    next barrier.
    """


class Signal(launch_memory.Signal, opcode="amd.signal"):
    """Gives a semaphore a value, behind all that these threads have seen (buffer_wbl2, then
    global_store): what others of the group did must be ordered before it by a barrier."""


class Fence(Instruction, opcode="amd.fence"):
    """What a thread did is in the device's memory before it goes on, for all blocks to see
    (buffer_wbl2, s_waitcnt): a barrier of the block alone waits for its own waves' caches."""

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        return None
