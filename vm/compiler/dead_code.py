"""The pass that removes what nobody reads."""

from __future__ import annotations

import copy as shallow
from dataclasses import replace

from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.types import Value


def remove_dead_code(kernel: Kernel) -> Kernel:
    """The kernel without pure instructions whose results no instruction reads."""
    body = kernel.body
    while True:
        read = {value for i in control.walk(body) for value in i.used_values()}
        kept = _kept(body, read)
        if _count(kept) == _count(body):
            return replace(kernel, body=kept)
        body = kept


def _count(statements: list[Instruction]) -> int:
    return sum(1 for _ in control.walk(statements))


def _kept(statements: list[Instruction], read: set[Value]) -> list[Instruction]:
    result = []
    for instruction in statements:
        unread = not any(value in read for value in instruction.results)
        if instruction.pure and instruction.results and unread:
            continue
        if any(True for _ in instruction.blocks()):
            instruction = shallow.copy(instruction)
            if isinstance(instruction, control.If):
                instruction.then = _kept(instruction.then, read)
                instruction.otherwise = _kept(instruction.otherwise, read)
            else:
                instruction.body = _kept(instruction.body, read)
        result.append(instruction)
    return result
