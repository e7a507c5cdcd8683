"""The reference machine: runs a kernel as its instructions mean, and checks every access.

Each block is a set of *actors*: the block itself and, while they last, its groups. An actor is a
Python generator that yields where it must wait. Registers hold NumPy arrays that nothing changes in
place; memory is bytes (reference_memory.py), shadowed by who touched it (races.py).

What the machine settles where the language leaves it open:
- copies are waited for by the group that started them; a block ends by finishing its own, without
  anyone having to wait, and what they bring is lost;
- a `shared_alloc` that runs again is the same memory: its contents are undefined again, and what
  touched it before must be ordered before what touches it now;
- an atomic access sees all that was ordered before the atomic accesses whose values it reads, and
  orders it before everything this group does next; it gives on only what a barrier ordered before
  it;
- outside a tensor lies the value of code 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from vm.errors import VmError, fail
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.launch_memory import SemaphoreAllocate
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType
from vm.runtime import schedule as schedules
from vm.runtime.races import Races
from vm.runtime.reference_actor import SPINNING, Actor, Block
from vm.runtime.reference_arguments import bind
from vm.runtime.reference_semaphores import check_left_zero, launch_memory
from vm.runtime.reference_values import ReferenceResult, run_reference

__all__ = ["MAXIMUM_TURNS", "Machine", "ReferenceResult", "Report", "run", "run_reference"]

MAXIMUM_TURNS = 1_000_000
"""Turns of `while` loops in one run, before it counts as one that never ends."""


@dataclass(frozen=True)
class Report:
    """What a run gave: every `out` and `inout` tensor by name, and what it took."""

    outputs: dict[str, Tensor]
    blocks: int
    instructions: int
    seconds: float


def run(
    kernel: Kernel,
    arguments: Mapping[str, Any],
    *,
    schedule: str = "program",
    effects: str = "wait",
    checks: bool = True,
    output: Callable[[str], None] = print,
    maximum_turns: int = MAXIMUM_TURNS,
) -> Report:
    """Runs every block of a program.

    `arguments` are by name: `Tensor`, NumPy array or number; sizes follow from shapes and may be
    given too. `out` and `inout` tensors are written in place; an `out` tensor given as None is made
    by the machine. `schedule` is program, reverse or random:SEED; `effects` says when asynchronous
    copies move their data: issue, wait or random:SEED. Blocks run one after another; one that waits
    for a semaphore, or turns in a `while` loop, lets others run meanwhile, and blocks that have
    semaphores take turns at random in a random schedule. Without `checks` no races of accesses and
    no reads of undefined memory are looked for. `output` takes what `print` shows.

    Raises `VmError`: E0509 and E0306 for arguments that do not fit, E0501 to E0512 for faults of
    the program, E0601 to E0611 for missing synchronization.
    """
    started = time.perf_counter()
    bound = bind(kernel, arguments, checks=checks)
    machine = Machine(kernel, bound.grid, schedule, effects, checks, output, maximum_turns)
    machine.launch_memory = launch_memory(kernel, bound.sizes, machine.races, checks)
    with np.errstate(all="ignore"):  # what overflows or is no number is the program's result
        machine.run(bound.values)
    check_left_zero(machine.launch_memory, kernel)
    outputs = {
        parameter.name: bound.tensors[parameter.name]
        for parameter in kernel.parameters
        if isinstance(parameter.type, GlobalType) and parameter.type.is_written
    }
    return Report(
        outputs, prod(bound.grid), machine.instructions, time.perf_counter() - started
    )


class Machine:
    """What all blocks of one run share."""

    def __init__(
        self,
        kernel: Kernel,
        grid: tuple[int, ...],
        schedule: str,
        effects: str,
        checks: bool,
        output: Callable[[str], None],
        maximum_turns: int,
    ):
        self.kernel = kernel
        self.grid = grid
        self.schedule = schedules.schedule(schedule)
        self.effects = schedules.effects(effects)
        self.checks = checks
        self.races = Races()
        self.output = output
        self.instructions = 0
        self.turns_left = self.maximum_turns = maximum_turns
        self.launch_memory: dict[Any, Any] = {}
        # Whether blocks may wait for each other, so that each can be held up at any moment.
        self.concurrent = any(isinstance(s, SemaphoreAllocate) for s in kernel.body)
        groups = [s for s in control.walk(kernel.body) if isinstance(s, control.Group)]
        # Component 0 of a block's clocks is the block itself; each copy of a group has its own.
        self.group_slots: dict[control.Group, int] = {}
        self.races.groups = 1
        for group in groups:
            self.group_slots[group] = self.races.groups
            self.races.groups += group.copies

    def run(self, values: dict[Any, Any]) -> None:
        """Runs the blocks one after another; a block that waits for others makes room for them."""
        unborn = list(self.schedule.blocks(prod(self.grid)))
        unborn.reverse()
        running: list[Block] = []
        while unborn or running:
            able = [block for block in running if block.can_go_on() and not block.is_spinning]
            if unborn and (not able or (self.concurrent and self.schedule.preempts())):
                for block in running:
                    block.is_spinning = False  # its condition may have changed
                running.append(Block(self, unborn.pop(), values))
                self.races.interleaved |= len(running) > 1
            elif able:
                block = self.schedule.choose(able)
                if not self._advance(block):
                    running.remove(block)
            elif any(block.is_spinning for block in running):
                for block in running:
                    block.is_spinning = False
            else:
                raise self._deadlock(running)

    def _advance(self, block: Block) -> bool:
        """Runs a block until it has ended (False), or until all its groups wait for other blocks,
        or turn in loops."""
        spun: set[Actor] = set()
        while block.actors:
            ready = [actor for actor in block.actors if actor.is_ready()]
            if not ready:
                if any(actor.waits_for_blocks for actor in block.actors):
                    return True
                raise self._deadlock([block])
            fresh = [actor for actor in ready if actor not in spun]
            if not fresh:
                block.is_spinning = True
                return True
            actor = self.schedule.choose(fresh)
            try:
                if next(actor.generator) is SPINNING:
                    spun.add(actor)
                elif self.concurrent and not spun:
                    return True
            except StopIteration:
                block.end(actor)
        return False

    def block_index(self, number: int) -> tuple[int, ...]:
        """The position of a block in the grid: the first dimension counts fastest."""
        index = []
        for extent in self.grid:
            index.append(number % extent)
            number //= extent
        return tuple(index)

    def block_name(self, number: int) -> str:
        index = self.block_index(number)
        return f"block {index[0] if len(index) == 1 else index}"

    def count_turn(self, actor: Actor, instruction: Any) -> None:
        """One more turn of a `while` loop; raises E0605 where there were too many."""
        self.turns_left -= 1
        if self.turns_left < 0:
            raise fail(
                "E0605", f"`while` loops turned {self.maximum_turns} times", instruction.origin,
                "still turns", notes=actor.notes(),
                fix="let the condition change, or give the run a larger maximum_turns",
            )  # fmt: skip

    def _deadlock(self, blocks: list[Block]) -> VmError:
        first = min(blocks, key=lambda block: block.number)
        places: dict[Any, list[Actor]] = {}
        for block in [first, *(block for block in blocks if block is not first)]:
            for actor in sorted(block.actors, key=lambda actor: actor.group is None):
                if actor.waits_at is not None:
                    # Of other blocks the first at each instruction is shown, and how many more.
                    key = (actor.waits_at, actor.block is first and actor)
                    places.setdefault(key, []).append(actor)
        positions = [
            (actor.waits_at.origin, f"{self._name(actor, len(blocks) > 1)} waits here: "
             f"{actor.waits_for}" + (f"; so do {len(more)} more" if more else ""))
            for actor, *more in places.values()
        ]  # fmt: skip
        (origin, label), *others = positions
        if not self.concurrent:
            message = "deadlock: every group of a block waits for another"
            fix = "let every group that a barrier counts come to it, in the same order"
        else:
            message = "deadlock: what has begun waits for what no one will do"
            fix = "let someone release the semaphore with this value, or come to the barrier"
        return fail(
            "E0603", message, origin, label, others=tuple(others), notes=first.actors[0].notes(),
            fix=fix,
        )  # fmt: skip

    def _name(self, actor: Actor, several: bool) -> str:
        """An actor for messages, with its block where others wait too."""
        if not several:
            return actor.name
        return actor.block.name + (f", {actor.name}" if actor.group is not None else "")
