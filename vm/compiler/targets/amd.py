"""AMD GPUs of the CDNA family: compiled, and run on the emulator; not launched yet."""

from __future__ import annotations

from vm.compiler.rules import RuleSet
from vm.compiler.selection import Selection
from vm.compiler.targets import (  # noqa: F401  (importing them registers their rules)
    gpu_global,
    gpu_indexed,
    gpu_matrix,
    gpu_semaphores,
    gpu_shared,
    gpu_threads,
)
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.target import MachineInstructions, Target
from vm.isa import amd, elementwise
from vm.isa.debugging import Print
from vm.isa.launch_memory import SemaphoreRelease
from vm.isa.synchronization import Barrier, GridLaunchDependents, GridWait, Synchronize
from vm.layouts.fragments import MFMA_ROWS

AMD = RuleSet("amd", COMMON)

INSTRUCTIONS = MachineInstructions(
    amd.LoadGlobal, amd.StoreGlobal, amd.LoadGlobalBits, amd.StoreGlobalBits, amd.LoadShared,
    amd.StoreShared, amd.LoadSharedBits, amd.StoreSharedBits, amd.AtomicGlobal, amd.ReduceGlobal,
    amd.AtomicShared, amd.ReduceShared, amd.MatrixMultiply, amd.ShuffleXor,
    amd.Vote, amd.WaitFor, amd.Signal,
)  # fmt: skip


@AMD.rule(SemaphoreRelease, rank=0)
def fenced_and_signalled(s: Selection, i: SemaphoreRelease) -> None:
    """Every thread brings what it did to the device's memory before it comes to the barrier."""
    s.emit(amd.Fence)
    gpu_semaphores.one_thread_signals(s, i)


AMD.lack(Barrier, because="a barrier is for all threads of a block")
AMD.lack(
    Synchronize, because="a barrier is for all threads of a block or for one warp",
    when=lambda i: i.scope.group is not None and i.scope.warps > 1,
)  # fmt: skip
AMD.lack(GridWait, GridLaunchDependents, because="a grid begins when the one before it has ended")
AMD.lack(Print, because="nothing carries text to the host")
AMD.lack(
    elementwise.Exponential, elementwise.Exponential2, elementwise.Logarithm,
    elementwise.Logarithm2, elementwise.ReciprocalSquareRoot, elementwise.Tangent,
    elementwise.Sine, elementwise.Cosine,
    because="the hardware has approximations of f32 alone",
    when=lambda i: i.x.type.dtype.name == "f64",
)  # fmt: skip


def _target(name: str) -> Target:
    capability = _number(name)
    fragments = tuple(row for row in MFMA_ROWS if _number(row.capability) <= capability)
    return Target(name, "amd", "amd.", INSTRUCTIONS, capability, 64, 64 * 1024,
                  "amd_cdna3", 512, fragments, AMD)  # fmt: skip


def _number(name: str) -> int:
    """The version in a name such as gfx90a: its steppings are hexadecimal digits."""
    return int(name.removeprefix("gfx"), 16)


# Local data share and vector registers: AMD's instruction set architectures of MI200 and MI300.
# What is known of the banks of CDNA3 is taken for CDNA2 too.
TARGETS = {target.name: target for target in map(_target, ("gfx90a", "gfx942"))}
