"""Actors of the reference machine: a block, or a group of its threads, that runs statements.

An `Actor` is the `machine` that the instructions' `run` methods see. It computes on registers and
hands accesses of memory on: by tiles to
reference_tiles.py, by bytes to reference_bytes.py, asynchronous ones to reference_copies.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.errors import InternalError, Origin, VmError
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.types import Immediate, Value
from vm.runtime.races import Clock, Shadow
from vm.runtime.reference_access import Checks
from vm.runtime.reference_arguments import rounded_number
from vm.runtime.reference_bytes import ByteAccesses, new_shared_memory
from vm.runtime.reference_copies import Copies
from vm.runtime.reference_mbarrier_bytes import MbarrierBytes
from vm.runtime.reference_mbarriers import MbarrierAccesses, Mbarriers
from vm.runtime.reference_memory import Buffer, MemoryTensor, contiguous_strides
from vm.runtime.reference_semaphores import SemaphoreAccesses
from vm.runtime.reference_tiles import TileAccesses

if TYPE_CHECKING:
    from vm.runtime.reference import Machine

SPINNING = object()
"""What an actor yields where it could go on but has turned in a loop for a while."""

PATIENCE = 16
"""Turns of `while` loops between two such yields."""


class Exit(Exception):
    """An actor leaves all its statements."""


@dataclass(eq=False)
class Meeting:
    """A barrier that not all warps have come to yet."""

    instruction: Instruction
    warps: int = 0
    arrived: list[tuple[Clock, int]] = field(default_factory=list)
    waiting: list[Clock] = field(default_factory=list)
    is_over: bool = False


class Block:
    """One block of the grid: its shared memory, its barriers and its actors."""

    def __init__(self, machine: Machine, number: int, values: dict[Any, Any]):
        self.machine = machine
        self.number = number
        self.index = machine.block_index(number)
        self.is_spinning = False
        self.meetings: dict[int, Meeting] = {}
        self.ended: list[Clock] = []
        self.allocations: dict[tuple[int, Value], MemoryTensor] = {}
        self._shared_memory: Buffer | None = None
        self.mbarriers = Mbarriers()
        self.name = machine.block_name(number)
        kernel = machine.kernel
        clock = machine.races.start(self.slot_of(0))
        self.actors = [Actor(self, None, clock, dict(values), kernel.body)]

    def shared_memory(self) -> Buffer:
        """The block's shared memory as machine instructions address it."""
        if self._shared_memory is None:
            self._shared_memory = new_shared_memory(self.machine.kernel, self.machine.checks)
        return self._shared_memory

    def can_go_on(self) -> bool:
        """Whether an actor has something to do, or all wait for what only they themselves can do,
        which running it finds out."""
        waits = any(actor.waits_for_blocks for actor in self.actors)
        return not waits or any(actor.is_ready() for actor in self.actors)

    def slot_of(self, group: int) -> int:
        """The component of clocks that belongs to a group of this block; 0 is the block itself."""
        return self.number * self.machine.races.groups + group

    def end(self, actor: Actor) -> None:
        """An actor has come to its end."""
        self.actors.remove(actor)
        actor.has_ended = True
        self.ended.append(actor.clock)
        if not self.actors:
            actor.mbarriers.end_block()
        self.machine.instructions += actor.instructions

    def describe(self, slot: int) -> str:
        """The block and group that a component of clocks belongs to; an mbarrier's is its block's.
        """
        races = self.machine.races
        number, group = races.block_of(slot), 0 if slot < 0 else slot % races.groups
        shown = "the block"
        for each, first in self.machine.group_slots.items():
            if first <= group < first + each.copies:
                shown = group_name(each, group - first)
        if number == self.number:
            return shown if group else "this block"
        return f"{shown + ' of ' if group else ''}{self.machine.block_name(number)}"


def group_name(group: control.Group, index: int) -> str:
    """A group, or one of its copies, for messages."""
    return f"group `{group.name}`" + (f" number {index}" if group.copies > 1 else "")


class Actor:
    """A block, or a group of its threads, as the `run` methods of instructions see it."""

    def __init__(
        self,
        block: Block,
        group: control.Group | None,
        clock: Clock,
        registers: dict[Any, Any],
        body: Sequence[Instruction],
        group_index: int = 0,
    ):
        self.clock = clock
        self.registers = registers
        self.allocated: list[MemoryTensor] = []
        self.block = block
        self.machine = block.machine
        self.block_index = block.index
        self.grid = block.machine.grid
        self.group = group
        self.group_index = group_index
        self.name = group_name(group, group_index) if group is not None else "the block"
        self.body = body
        self.has_ended = False
        self.waits_at: Instruction | None = None
        self.waits_for_blocks = False
        self._waits_for: Callable[[], str] = str
        self.instructions = 0
        self._ready: Callable[[], bool] | None = None
        self._turns = 0
        self._constants: dict[tuple[Any, str], Any] = {}
        self._give_memory()
        self.generator = self._run()

    def _give_memory(self) -> None:
        """What instructions ask of memory."""
        checks = Checks(self)
        tiles = TileAccesses(self, checks)
        self.read, self.write = tiles.read, tiles.write
        self.gather, self.scatter, self.atomic = tiles.gather, tiles.scatter, tiles.atomic
        self.global_view = tiles.global_view
        self.copies = copies = Copies(self, checks, tiles)
        self.copy_async, self.commit_async = copies.copy_async, copies.commit_async
        self.wait_async = copies.wait_async
        self.mbarriers = MbarrierAccesses(self, checks, tiles)
        by_bytes = ByteAccesses(self, checks, copies)
        self.load_bytes, self.store_bytes = by_bytes.load_bytes, by_bytes.store_bytes
        self.load_bits, self.store_bits = by_bytes.load_bits, by_bytes.store_bits
        self.copy_bytes_async = by_bytes.copy_bytes_async
        self.atomic_bytes = by_bytes.atomic_bytes
        self.mbarrier_bytes = MbarrierBytes(self, by_bytes)
        self.semaphores = SemaphoreAccesses(self)

    def _run(self) -> Generator[Any, None, None]:
        try:
            yield from self.execute(self.body)
        except Exit:
            return

    def is_ready(self) -> bool:
        return self._ready is None or self._ready()

    @property
    def waits_for(self) -> str:
        """What this actor waits for, for messages."""
        return self._waits_for()

    def notes(self) -> tuple[str, ...]:
        """Where this actor is, for messages."""
        group = f", {self.name}" if self.group is not None else ""
        return (f"in `{self.machine.kernel.name}`, {self.block.name}{group}",)

    # --- values ---
    def value(self, operand: Any) -> Any:
        """The NumPy array or number that a value or immediate stands for."""
        if operand.__class__ is Immediate:
            dtype = operand.dtype
            if dtype is None or dtype.kind != "float" or dtype.name in ("f32", "f64"):
                return operand.value
            key = (operand.value, dtype.name)
            if key not in self._constants:
                self._constants[key] = rounded_number(operand.value, dtype)
            return self._constants[key]
        return self.registers[operand]

    def assign(self, variable: Value, data: Any) -> None:
        self.registers[variable] = data

    def declare(self, variable: Value) -> None:
        self.registers.pop(variable, None)

    # --- control ---
    def execute(self, statements: Sequence[Instruction]) -> Generator[Any, None, str | None]:
        """Runs statements; the result is "break" or "continue" where one of them was."""
        registers = self.registers
        allocated = len(self.allocated)
        preempts = self.machine.schedule.preempts
        position, count = 0, len(statements)
        jump = None
        while position < count:
            instruction = statements[position]
            position += 1
            self.instructions += 1
            kind = instruction.__class__
            if kind is control.Jump:
                jump = instruction.kind
                break
            if kind is control.Group:
                groups = [instruction]
                while position < count and isinstance(statements[position], control.Group):
                    groups.append(statements[position])
                    position += 1
                yield from self._fork(groups)
                continue
            result = instruction.run(self)
            if instruction.suspends:
                result = yield from result
            results = instruction.results
            if results:
                if len(results) == 1:
                    registers[results[0]] = result
                else:
                    registers.update(zip(results, result, strict=True))
            elif result is not None and instruction.suspends:
                jump = result
                break
            if (self.machine.concurrent or len(self.block.actors) > 1) and preempts():
                yield None
        if len(self.allocated) > allocated:
            self._end_of_life(statements, allocated)
        return jump

    def _fork(self, groups: list[control.Group]) -> Generator[Any, None, None]:
        """Runs groups side by side, to their ends."""
        block, races = self.block, self.machine.races
        children = [
            Actor(
                block, group,
                races.fork(self.clock, block.slot_of(self.machine.group_slots[group] + index)),
                dict(self.registers), group.body, index,
            )
            for group in groups
            for index in range(group.copies)
        ]  # fmt: skip
        block.actors += children
        yield from self.wait_until(
            lambda: all(child.has_ended for child in children), groups[0],
            lambda: "for its groups to end",
        )  # fmt: skip

    def wait_until(
        self, ready: Callable[[], bool], instruction: Instruction, what: Callable[[], str],
        for_blocks: bool = False,
    ) -> Generator[Any, None, None]:  # fmt: skip
        """Goes on once `ready()` holds, which other blocks may see to if `for_blocks`; `what` says
        to what it has come, for messages."""
        self._ready, self.waits_at, self._waits_for = ready, instruction, what
        self.waits_for_blocks = for_blocks
        while not ready():
            yield None
        self._ready = self.waits_at = None
        self.waits_for_blocks = False

    def turn(self, instruction: Instruction) -> Generator[Any, None, None]:
        """One more turn of a `while` loop, which may wait for what others do."""
        self.machine.count_turn(self, instruction)
        self._turns += 1
        if self._turns % PATIENCE == 0:
            yield SPINNING

    def exit(self) -> None:
        raise Exit

    def print(self, text: str) -> None:
        self.machine.output(text)

    # --- meeting others ---
    def stir(self) -> None:
        """Gives every copy on its way a chance to move its data."""
        self.copies.stir()
        self.mbarriers.stir()

    def synchronize(self, instruction: Instruction) -> Generator[Any, None, None]:
        """The threads of this group have met; outside groups those of the whole block have."""
        self.stir()
        ended = None
        if self.group is None:
            ended, self.block.ended = self.block.ended, []
        self.machine.races.synchronize(self.clock, ended)
        return
        yield

    def barrier(self, instruction: Any) -> Generator[Any, None, None]:
        self.stir()
        block = self.block
        meeting = block.meetings.setdefault(instruction.id, Meeting(instruction))
        first = meeting.instruction
        meeting.warps += instruction.scope.warps
        if first.warps != instruction.warps or meeting.warps > instruction.warps:
            came = f"{meeting.warps} warps have come" if first.warps == instruction.warps else (
                f"{first.warps} warps are expected elsewhere"
            )  # fmt: skip
            raise self.trap(
                "E0606", f"barrier {instruction.id} expects {instruction.warps} warps, but {came}",
                instruction, "warps", "these warps",
                others=((first.place("warps"), "the first to come"),),
                fix="give every barrier with this id the number of all warps that come to it",
            )  # fmt: skip
        races = self.machine.races
        seen = Clock(self.clock.slot, 0, 0, dict(self.clock.limits))
        meeting.arrived.append((seen, races.now))
        if not instruction.arrive:
            meeting.waiting.append(self.clock)
        if meeting.warps == instruction.warps:
            races.meet(meeting.arrived, meeting.waiting)
            meeting.is_over = True
            del block.meetings[instruction.id]
        elif not instruction.arrive:
            yield from self.wait_until(
                lambda: meeting.is_over, instruction,
                lambda: f"barrier {instruction.id} has {meeting.warps} of {instruction.warps} "
                "warps",
            )  # fmt: skip

    # --- memory that is made here ---
    def launch_memory(self, instruction: Instruction) -> Any:
        """What the launch owns for the result of an instruction: one for all blocks."""
        return self.machine.launch_memory[instruction.result]

    def allocate_shared(self, value: Value) -> MemoryTensor:
        """Shared memory of the value's type, its contents undefined."""
        key = (self.clock.slot, value)
        tensor = self.block.allocations.get(key)
        if tensor is None:
            type_ = value.type
            strides = contiguous_strides(type_.shape, type_.dtype)
            data = np.zeros(-(-type_.dtype.bits * int(np.prod(type_.shape)) // 8), np.uint8)
            shadow = None
            if self.machine.checks:
                shadow = Shadow(8 * len(data), gcd(type_.dtype.bits, *strides), False)
            buffer = Buffer(value.name or "shared memory", "shared", data, value.origin, shadow)
            tensor = MemoryTensor(buffer, type_.dtype, type_.shape, strides)
            self.block.allocations[key] = tensor
        elif tensor.buffer.shadow is not None:
            tensor.buffer.shadow.forget_values()
        self.allocated.append(tensor)
        return tensor

    def _end_of_life(self, statements: Sequence[Instruction], kept: int) -> None:
        """Shared memory of a block of statements is given back: no copy may still fill it."""
        ended, self.allocated = self.allocated[kept:], self.allocated[:kept]
        if statements is self.machine.kernel.body:
            return
        for tensor in ended:
            for copy in (*self.copies.under_way(), *self.block.mbarriers.flying):
                if copy.target.tensor.buffer is tensor.buffer:
                    raise self.trap(
                        "E0604", f"`{tensor.buffer.name}` ends while a copy to it is on its way",
                        copy.instruction, "target", "this copy is not waited for",
                        others=((tensor.buffer.origin, "alive to the end of its block"),),
                        fix="wait for it before the end of the block of statements",
                    )  # fmt: skip

    # --- faults ---
    def trap(
        self,
        code: str,
        message: str,
        instruction: Instruction,
        field: str | None = None,
        label: str = "",
        others: tuple[tuple[Origin | None, str], ...] = (),
        notes: tuple[str, ...] = (),
        fix: str | None = None,
    ) -> VmError:
        """The error to raise for a fault of the program, at an argument of an instruction."""
        return instruction.refuse(
            code, message, field, label, others=others, notes=(*self.notes(), *notes), fix=fix
        )

    def finish(self, value: Any) -> None:
        raise InternalError("a program does not return a value")
