"""NVIDIA GPUs from sm_80 on."""

from __future__ import annotations

from vm.compiler.targets import (  # noqa: F401  (importing them registers their rules)
    gpu_global,
    gpu_indexed,
    gpu_matrix,
    gpu_semaphores,
    gpu_shared,
    gpu_threads,
    nvidia_bulk,
    nvidia_casts,
    nvidia_copies,
    nvidia_fields,
    nvidia_matrix,
)
from vm.compiler.targets.nvidia_rules import NVIDIA, WARP
from vm.compiler.targets.target import MachineInstructions, Target
from vm.isa import nvidia, nvidia_atomics
from vm.layouts.fragments import MMA_ROWS

INSTRUCTIONS = MachineInstructions(
    nvidia.LoadGlobal, nvidia.StoreGlobal, nvidia.LoadGlobalBits, nvidia.StoreGlobalBits,
    nvidia.LoadShared, nvidia.StoreShared, nvidia.LoadSharedBits, nvidia.StoreSharedBits,
    nvidia_atomics.AtomicGlobal, nvidia_atomics.ReduceGlobal, nvidia_atomics.AtomicShared,
    nvidia_atomics.ReduceShared, nvidia.MatrixMultiply, nvidia.ShuffleXor,
    nvidia.Vote, nvidia_atomics.WaitFor, nvidia_atomics.Signal,
)  # fmt: skip


def _target(name: str, capability: int, shared_kilobytes: int) -> Target:
    fragments = tuple(
        row for row in MMA_ROWS if int(row.capability.removeprefix("sm_")) <= capability
    )
    return Target(name, "nvidia", "nv.", INSTRUCTIONS, capability, WARP, shared_kilobytes * 1024,
                  "nvidia", 255, fragments, NVIDIA)  # fmt: skip


# Shared memory per block: CUDA C Programming Guide, table of technical specifications.
TARGETS = {
    target.name: target
    for target in (
        _target("sm_80", 80, 163),
        _target("sm_89", 89, 99),
        _target("sm_90a", 90, 227),
        _target("sm_100a", 100, 227),
        _target("sm_120", 120, 99),
    )
}
