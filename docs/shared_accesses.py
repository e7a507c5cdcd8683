"""Every access of shared memory that programs/*.vm make when compiled for a target, and the
transactions that it takes.

Programs are lowered and run on the reference machine. Each access gives the address of each thread,
so what is counted is what the machine instructions do, whatever chose them: a word of a bank is
served once per transaction, to all lanes of a phase that want it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from vm.compiler import pipeline
from vm.errors import VmError
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.memory import SharedAllocate
from vm.isa.program import load
from vm.layouts.shared_memories import TARGETS, Banks
from vm.runtime import cases, reference
from vm.runtime.reference_bytes import BYTE, ByteAccesses

FOLDER = Path(__file__).parents[1] / "programs"

# The case of each program that is run, cut down to whole tiles of one or two blocks.
SIZES: dict[str, dict[str, int]] = {
    "gemm_w4a16": {"M": 8, "N": 64, "K": 1024},
    "gemm_w4a16_sm80": {"M": 8, "N": 64, "K": 1024},
    "layer_norm": {"M": 4, "N": 256},
    "matmul_f16": {"M": 64, "N": 128, "K": 96},
    "matmul_w4a16": {"M": 64, "N": 128, "K": 256},
    "softmax": {"M": 4, "N": 256},
    "transpose": {"M": 64, "N": 64},
    "vector_add": {"N": 1024},
}

TRIED = ("sm_80", "sm_90a")
UNSUPPORTED = "E0901"
OWN = "the compiler's own"
# Bytes that one lane moves at most.
WIDEST = 16


@dataclass(frozen=True, order=True)
class Place:
    """What stands in a program: a line, and the machine instruction that it became."""

    program: str
    line: int
    text: str
    instruction: str
    tensor: str


@dataclass
class Cost:
    """Accesses of warps, the transactions they take, and those that would do."""

    accesses: int = 0
    transactions: int = 0
    ideal: int = 0


def shared_accesses(name: str, settings: dict[str, int], target: str) -> dict[Place, Cost]:
    """Those of one program's main case; raises the `VmError` that its run ends in."""
    found: dict[Place, Cost] = defaultdict(Cost)
    machine = pipeline.target(target)
    banks = TARGETS[machine.banks]
    original_run, original_reach = reference.run, ByteAccesses.reach
    planned: list[Kernel] = []

    def run(kernel: Kernel, values: Any, **options: Any) -> Any:
        stages = pipeline.stages(kernel, machine)
        planned.append(stages["shared"])
        return original_run(stages["select"], values, **options)

    def reach(self, base, offsets, count, unit, active, instruction, *rest):
        if base is None:
            place = _place(name, instruction, planned[-1], offsets[active], count)
            first, width = (offsets, count) if unit == BYTE else (offsets // 8, 1)
            write = instruction.opcode not in ("nv.load_shared", "nv.ldmatrix")
            for warp in range(0, len(offsets), banks.warp_width):
                lanes = slice(warp, warp + banks.warp_width)
                _add(found[place], first[lanes], active[lanes], width, write, banks)
        return original_reach(self, base, offsets, count, unit, active, instruction, *rest)

    module = load(FOLDER / f"{name}.vm")
    with (
        mock.patch.object(reference, "run", run),
        mock.patch.object(ByteAccesses, "reach", reach),
    ):
        result = cases.run_case(module, module.cases["main"], settings=settings)
    if result.fault is not None:
        raise result.fault
    return dict(sorted(found.items()))


def _place(
    program: str, instruction: Instruction, kernel: Kernel, offsets: np.ndarray, count: int
) -> Place:
    origin = instruction.origin
    tensor = OWN
    for each in control.walk(kernel.body):
        if isinstance(each, SharedAllocate):
            end = each.address + each.result.type.bytes
            if len(offsets) and each.address <= offsets.min() and offsets.max() + count <= end:
                tensor = f"{each.result.name}: {each.layout}"
    return Place(
        program, origin.line, origin.text_line().split("#")[0].strip(),
        f"{instruction.opcode}, {count} bytes", tensor,
    )  # fmt: skip


def _add(
    cost: Cost, first: np.ndarray, active: np.ndarray, width: int, write: bool, banks: Banks
) -> None:
    if not active.any():
        return
    cost.accesses += 1
    if width > WIDEST:  # a bulk copy, which writes whole lines of all banks
        lines = -(-width // (banks.banks * banks.word_bytes))
        cost.transactions, cost.ideal = cost.transactions + lines, cost.ideal + lines
        return
    for phase in (banks.writes if write else banks.reads)[max(4, width)]:
        words = {
            (int(first[lane]) + byte) // banks.word_bytes
            for lane in phase
            if lane < len(first) and active[lane]
            for byte in range(0, width, banks.word_bytes)
        }
        busy = [0] * banks.banks
        for word in words:
            busy[word % banks.banks] += 1
        cost.transactions += max(busy)
        cost.ideal += -(-len(words) // banks.banks)


def all_accesses() -> Iterator[tuple[str, Place, Cost]]:
    """Those of all programs, each for the first target of TRIED that can do it."""
    for name in sorted(path.stem for path in FOLDER.glob("*.vm")):
        for target in TRIED:
            try:
                found = shared_accesses(name, SIZES.get(name, {}), target)
            except VmError as error:
                if error.code != UNSUPPORTED or target == TRIED[-1]:
                    raise
                continue
            yield from ((target, place, cost) for place, cost in found.items())
            break
