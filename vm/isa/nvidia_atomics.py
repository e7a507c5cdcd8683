"""Atomic accesses of NVIDIA GPUs (atom and red), one element of each thread at a time; acquire and
release (PTX ISA 9.0, "Memory Consistency Model")."""

from __future__ import annotations

from vm.isa import gpu_atomics, launch_memory


class AtomicGlobal(gpu_atomics.AtomicGlobal, opcode="nv.atomic_global"):
    """Combines slot `slot` of x with an element of global memory; `old` gets what was there
    (atom.global)."""


class ReduceGlobal(gpu_atomics.ReduceGlobal, opcode="nv.reduce_global"):
    """Combines slot `slot` of x with an element of global memory (red.global)."""


class AtomicShared(gpu_atomics.AtomicShared, opcode="nv.atomic_shared"):
    """Combines slot `slot` of x with an element of shared memory; `old` gets what was there
    (atom.shared)."""


class ReduceShared(gpu_atomics.ReduceShared, opcode="nv.reduce_shared"):
    """Combines slot `slot` of x with an element of shared memory (red.shared)."""


class WaitFor(launch_memory.WaitFor, opcode="nv.wait_for"):
    """Waits until a semaphore, `offset` bytes behind the beginning of an array of them, is a value
    (ld.acquire.gpu in a loop).

    What came before the signal is before what these threads do next; for others they speak at the
    next barrier.
    """


class Signal(launch_memory.Signal, opcode="nv.signal"):
    """Gives a semaphore a value, behind all that these threads have seen (st.release.gpu): what
    others of the group did must be ordered before it by a barrier."""
