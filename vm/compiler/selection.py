"""The pass that turns a kernel with layouts into one of the machine level.

Instructions that work slot by slot stay as they are, once their operands have the result's slots;
the others go to the rules of the target.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vm.compiler.addresses import AddressWriter
from vm.compiler.dead_code import remove_dead_code
from vm.compiler.facts import ALIGNED, Facts
from vm.compiler.launch_memory import launch_memory
from vm.compiler.rules import Refused
from vm.compiler.targets.target import Target
from vm.errors import Origin, VmError, fail
from vm.isa import control
from vm.isa.asynchronous import CommitAsync, WaitAsync
from vm.isa.debugging import Assert, Print
from vm.isa.elementwise import Elementwise, Less
from vm.isa.instruction import Instruction, Operand
from vm.isa.kernel import Kernel
from vm.isa.lanes import (
    Interleave,
    Pad,
    Pick,
    SlotConstants,
    Spread,
    ThreadIndex,
    Undefined,
    Uniform,
)
from vm.isa.memory import GlobalView, SharedAllocate
from vm.isa.randomness import Philox
from vm.isa.registers import Cast, Fill, View
from vm.isa.synchronization import (
    Barrier,
    BlockIndex,
    Exit,
    GridLaunchDependents,
    GridSize,
    GridWait,
    GroupIndex,
    Synchronize,
)
from vm.isa.types import INDEX, Immediate, RegisterType, Type, Value
from vm.layouts import RegisterLayout

# What every target does as it stands: slot by slot, or once for the group.
SLOTWISE = (Elementwise, Cast, Philox)
UNCHANGED = (
    View, Fill, control.Control, control.Copy, Synchronize, Barrier, BlockIndex, GridSize,
    GroupIndex, GridLaunchDependents, GridWait, Exit, CommitAsync, WaitAsync, Print, Assert,
    SharedAllocate, GlobalView, Interleave, Pad, Pick, SlotConstants, Spread, ThreadIndex,
    Undefined, Uniform,
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which rule was taken for an instruction, and why those before it were not."""

    origin: Origin
    opcode: str
    rule: str
    refused: tuple[tuple[str, str], ...]


@dataclass
class Selected:
    """The kernel of the machine level, what was chosen, and the shared memory it needs in all."""

    kernel: Kernel
    choices: list[Choice] = field(default_factory=list)
    shared_bytes: int = 0


class Selection(AddressWriter):
    """The rewriter that rules write through."""

    def __init__(self, kernel: Kernel, target: Target, shared_bytes: int, variant: str = ALIGNED):
        super().__init__(kernel)
        self.target = target
        self.machine = target.machine
        self.facts = Facts(kernel, variant)
        self.launch_memory = launch_memory(kernel)
        self.choices: list[Choice] = []
        self.read = {v for i in control.walk(kernel.body) for v in i.used_values()}
        self.shared_bytes = shared_bytes

    def select(self) -> Selected:
        for size in self.kernel.sizes:
            self.facts.know_natural(size)
        kernel = remove_dead_code(self.run())
        return Selected(kernel, self.choices, self.shared_bytes)

    def block(self, statements: list[Instruction]) -> list[Instruction]:
        if self._blocks or self.facts.grid:
            return super().block(statements)
        with self.open_block() as made:
            # The grid bounds the block index; its extents are computed once, at the beginning.
            self.facts.grid = tuple(self.expression(extent) for extent in self.kernel.grid)
            self.statements(statements)
        return made

    # --- what is known ---
    def defined(self, instruction: Instruction) -> None:
        lacking = self.target.rules.reason_against(instruction, self.target.capability)
        if lacking is not None:
            raise self.unsupported(instruction, [(self.target.family, lacking)])
        self.facts.define(instruction)

    @contextmanager
    def where_true(self, condition: Any):
        made = self.facts.definitions.get(condition) if isinstance(condition, Value) else None
        known = [(made.x, made.y)] if isinstance(made, Less) else []
        self.facts.bounds += known
        yield
        del self.facts.bounds[len(self.facts.bounds) - len(known) :]

    @contextmanager
    def inside_loop(self, loop: control.For):
        upwards = isinstance(loop.step, Immediate) and loop.step.value > 0
        if upwards and self.facts.is_natural(loop.start):
            self.facts.know_natural(loop.variable)
        if upwards:
            self.facts.bounds.append((loop.variable, loop.stop))
        yield
        if upwards:
            self.facts.bounds.pop()

    # --- choosing ---
    def rewrite(self, instruction: Instruction) -> None:
        refused: list[tuple[str, str]] = []
        for rule in self.target.rules.of(type(instruction)):
            if self.target.capability < rule.capability:
                refused.append((rule.name, f"it needs a capability of {rule.capability}"))
                continue
            try:
                result = rule.expand(self, instruction)
            except Refused as reason:
                refused.append((rule.name, str(reason)))
                continue
            self.choices.append(
                Choice(instruction.origin, instruction.opcode, rule.name, tuple(refused))
            )
            if instruction.results:
                self.bind(instruction, result)
            return
        if isinstance(instruction, SLOTWISE):
            self._slotwise(instruction)
            return
        if isinstance(instruction, UNCHANGED) or instruction.opcode.startswith(
            self.target.prefix
        ):
            self.copy(instruction)
            return
        raise self.unsupported(instruction, refused)

    def unsupported(self, instruction: Instruction, refused: list[tuple[str, str]]) -> VmError:
        """What to raise where no rule of the target does an instruction."""
        return fail(
            "E0901", f"{self.target.name} cannot do `{instruction.opcode}` here",
            instruction.origin, "unsupported",
            notes=tuple(f"{name}: {why}" for name, why in refused),
            fix="see what it can do: vm explain FILE --selection",
        )  # fmt: skip

    def bind(self, instruction: Instruction, result: Any) -> None:
        """Makes `result` what the (only) result of the instruction stands for."""
        value = instruction.result
        if value.mutable:
            variable = self.values[value]
            if result is not variable:
                self.emit(control.Copy, into=variable, x=result)
            return
        self.values[value] = result

    def _slotwise(self, instruction: Instruction) -> None:
        """Copies an instruction that works slot by slot, its operands brought to those slots."""
        result = instruction.results[0].type
        if not isinstance(result, RegisterType):
            self.copy(instruction)
            return
        changed = False
        fields: dict[str, Any] = {}
        for name, item in instruction.fields.items():
            value = getattr(instruction, name)
            if isinstance(item, Operand) and value is not None:
                value = self.operand(value)
                type_ = value.type
                if isinstance(type_, RegisterType) and type_.layout != result.layout:
                    value = self.spread_slots(value, result)
                    changed = True
            fields[name] = value
        if not changed:
            self.copy(instruction)
            return
        variable = instruction.result
        into = self.values[variable] if variable.mutable else None
        made = self.emit(type(instruction), into, variable.name, **fields)
        if into is None:
            self.values[variable] = made

    def spread_slots(self, value: Value, result: RegisterType) -> Value:
        """A broadcast operand in the slots of the result."""
        source: RegisterLayout = value.type.layout
        shape = value.type.shape
        index = result.layout.table()[..., len(result.shape) - len(shape) :]
        index = np.where(np.array(shape) == 1, 0, index)
        return self.picked(value, index, result.layout, source)

    def picked(
        self, value: Value, index: np.ndarray, layout: RegisterLayout, source: RegisterLayout
    ) -> Value:
        """Slot s of thread t becomes the element of `value` at index[t, s]; `layout` is what they
        stand for. Refuses where a thread does not hold it, or threads hold it in other slots."""
        slots = slots_of(source, index)
        if slots is None:
            raise Refused(f"{layout} needs elements of {source} that its threads do not hold")
        if slots == tuple(range(source.slots)) and source == layout:
            return value
        return self.emit(Pick, x=value, slots=slots, layout=layout)

    # --- for rules ---
    def target_variable(self, instruction: Instruction, apart: tuple[Any, ...] = ()) -> Value:
        """A variable for the result: the one it is assigned to, or a new one.

        A new one too where it is among `apart`, the operands that are still read.
        """
        value = instruction.result
        if value.mutable and self.values[value] not in apart:
            return self.values[value]
        return self.declare(self.result_type(value), value.name)

    def undefined(self, type_: Type, name: str | None = None) -> Value:
        """A new variable without contents, to be filled in parts."""
        variable = self.declare(type_, name)
        self.make_undefined(variable)
        return variable

    def make_undefined(self, variable: Value) -> None:
        type_ = variable.type
        self.emit(Undefined, into=variable, dtype=type_.dtype, shape=type_.shape,
                  layout=type_.layout)  # fmt: skip

    def is_used(self, value: Value) -> bool:
        """Whether an instruction of the program reads the value."""
        return value in self.read

    def scratch(self, count: int) -> Any:
        """The address of `count` bytes of shared memory of the compiler's own; each copy of a group
        has bytes of its own."""
        address = -(-self.shared_bytes // 128) * 128
        stride = -(-count // 128) * 128
        copies = self.scope.copies
        self.shared_bytes = address + stride * copies
        if copies == 1:
            return Immediate(address, INDEX)
        index = self.emit(GroupIndex)
        return self.add(self.multiply(index, stride), Immediate(address, INDEX))


def slots_of(source: RegisterLayout, index: np.ndarray) -> tuple[int, ...] | None:
    """For each slot s, the slot of `source` in which every thread t holds element index[t, s]."""
    shape = source.shape
    wanted = np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), shape) if shape else np.zeros(
        index.shape[:-1], np.int64
    )  # fmt: skip
    # All threads that hold an element hold it in the same slot.
    slots = source.owner()[wanted] % source.slots
    held = source.flat()[np.arange(len(wanted))[:, None], slots]
    if (held != wanted).any() or (slots != slots[0]).any():
        return None
    return tuple(map(int, slots[0]))


def select(kernel: Kernel, target: Target, shared_bytes: int, variant: str = ALIGNED) -> Selected:
    """The kernel at the machine level of `target`.

    `shared_bytes` is what the author's shared tensors take; the compiler's own comes behind them.
    Raises E0901 for what the target cannot do.
    """
    return Selection(replace(kernel), target, shared_bytes, variant).select()
