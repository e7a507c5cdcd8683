"""NVIDIA GPUs from sm_80 on."""

from __future__ import annotations

from vm.compiler.targets import (  # noqa: F401  (importing them registers their rules)
    nvidia_casts,
    nvidia_global,
    nvidia_indexed,
    nvidia_matrix,
    nvidia_shared,
    nvidia_threads,
)
from vm.compiler.targets.nvidia_rules import NVIDIA, WARP
from vm.compiler.targets.target import Target


def _target(name: str, capability: int, shared_kilobytes: int) -> Target:
    return Target(name, "nvidia", "nv.", capability, WARP, shared_kilobytes * 1024, 255, NVIDIA)


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
