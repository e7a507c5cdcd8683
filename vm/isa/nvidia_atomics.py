"""Atomic accesses of NVIDIA GPUs (atom and red), one element of each thread at a time."""

from __future__ import annotations

from vm.isa import gpu_atomics


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
