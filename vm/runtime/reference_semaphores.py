"""Memory of a launch on the reference machine: scratch, and semaphores with their history.

A semaphore keeps every value it has had and who gave it, in an order that the program has to
settle: each release behind the one before it and behind the waits for the value that it replaces,
each wait for one value and no other. Then a run in any order gives the same. A semaphore has a
component of clocks of its own: how many releases a group knows follows from its clock.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.errors import Origin, VmError, fail
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.launch_memory import GlobalAllocate, SemaphoreAllocate
from vm.isa.types import Value
from vm.runtime.races import Clock, Races, Shadow
from vm.runtime.reference_access import synchronizer
from vm.runtime.reference_arguments import extent_at_launch
from vm.runtime.reference_memory import Buffer, MemoryTensor, row_major_strides

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor


@dataclass(frozen=True)
class Access:
    """A wait or a release: which, by what block, in which component of clocks, and its number."""

    instruction: Instruction
    block: int
    slot: int
    number: int


@dataclass(frozen=True)
class Release(Access):
    """A release; `before` is what comes before the next access of whoever waits for its value."""

    before: dict[int, int]


@dataclass(eq=False)
class Semaphore:
    """`values` are all it has had, `releases` those that gave it the values behind the first;
    `waits` are those that the present value has let go on, `waiting` those that still wait, with
    the values that they wait for."""

    name: str
    origin: Origin
    slot: int
    values: list[int] = field(default_factory=lambda: [0])
    releases: list[Release] = field(default_factory=list)
    waits: list[Access] = field(default_factory=list)
    waiting: list[tuple[Instruction, int]] = field(default_factory=list)

    @property
    def value(self) -> int:
        return self.values[-1]

    def known(self, clock: Clock) -> int:
        """How many releases come before whatever a group does next."""
        limit, count = clock.limits.get(self.slot, 0), len(self.releases)
        while count and self.releases[count - 1].number >= limit:
            count -= 1
        return count

    def missed(self, clock: Clock, value: int) -> Release | None:
        """The release that took a value away which a wait for it could have seen in another run:
        nothing orders it before the wait or behind it."""
        for version in range(self.known(clock), len(self.releases)):
            if self.values[version] == value:
                return self.releases[version]
        return None


def launch_memory(kernel: Kernel, sizes: dict[str, int], races: Races, checks: bool) -> Any:
    """The scratch and the semaphores that a kernel declares, by value; raises E0509 for extents
    that the sizes do not make."""
    made: dict[Value, Any] = {}
    for instruction in kernel.body:
        if not isinstance(instruction, (GlobalAllocate, SemaphoreAllocate)):
            continue
        value = instruction.result
        shape = tuple(
            extent_at_launch(e, sizes, instruction.place("shape")) for e in instruction.shape
        )
        if isinstance(instruction, GlobalAllocate):
            made[value] = _scratch(value, shape, checks)
            continue
        array = made[value] = np.empty(shape, object)
        for index in np.ndindex(*shape):
            name = f"`{value.name or 'semaphore'}`{list(index)}"
            array[index] = Semaphore(name, value.origin, races.new_slot(-1))
    return made


def _scratch(value: Value, shape: tuple[int, ...], checks: bool) -> MemoryTensor:
    """Global memory without contents."""
    dtype = value.type.dtype
    strides = row_major_strides(shape, dtype)
    count = strides[0] * shape[0] if shape else dtype.bits
    data = np.zeros(-(-count // 8), np.uint8)
    shadow = Shadow(8 * len(data), gcd(dtype.bits, *strides), False) if checks else None
    name = value.name or "memory of the launch"
    buffer = Buffer(name, "launch", data, value.origin, shadow)
    return MemoryTensor(buffer, dtype, shape, strides)


def check_left_zero(memory: dict[Value, Any], kernel: Kernel) -> None:
    """The grid has ended: raises E0512 for a semaphore that is not 0."""
    for array in memory.values():
        if not isinstance(array, np.ndarray):
            continue
        for semaphore in array.flat:
            if semaphore.value:
                release = semaphore.releases[-1].instruction
                raise fail(
                    "E0512", f"{semaphore.name} is {semaphore.value} when the grid has ended",
                    release.place("value"), "the last value that it was given",
                    others=((semaphore.origin, "must be 0 again: the next launch begins with it"),),
                    notes=(f"in `{kernel.name}`",),
                    fix="let the last who waits for it set it back: semaphore_release(s[i], 0)",
                )  # fmt: skip


class SemaphoreAccesses:
    """What the instructions of an actor ask of semaphores."""

    def __init__(self, actor: Actor):
        self.actor = actor
        self.races = actor.machine.races

    def wait(self, instruction: Any) -> Generator[Any, None, None]:
        semaphore = synchronizer(self.actor, instruction.semaphore, instruction, "semaphore")
        value = int(self.actor.value(instruction.value))
        yield from self._wait(semaphore, value, instruction)

    def release(self, instruction: Any) -> None:
        """All that the group's threads did is before it."""
        semaphore = synchronizer(self.actor, instruction.semaphore, instruction, "semaphore")
        self._release(
            semaphore, int(self.actor.value(instruction.value)), self.races.now, instruction
        )

    # --- at the machine level: one of the threads speaks for itself ---
    def wait_for(self, instruction: Any) -> Generator[Any, None, None]:
        for semaphore, value in self._places(instruction):
            yield from self._wait(semaphore, value, instruction)

    def signal(self, instruction: Any) -> None:
        """What the group's threads did before they met is before it."""
        own = self.actor.clock.limits.get(self.actor.clock.slot, 0)
        for semaphore, value in self._places(instruction):
            self._release(semaphore, value, own, instruction)

    def _places(self, instruction: Any) -> list[tuple[Semaphore, int]]:
        array = self.actor.registers[instruction.base.base].reshape(-1)
        offsets = self.actor.value(instruction.offset)
        values = self.actor.value(instruction.value)
        found = []
        for thread in np.flatnonzero(instruction.active(self.actor)):
            word, rest = divmod(int(offsets[thread]), 4)
            if rest or not 0 <= word < len(array):
                raise self.actor.trap(
                    "E0501", f"thread {thread} reaches byte {int(offsets[thread])} of "
                    f"{len(array)} semaphores", instruction, "offset", "reaches outside",
                    fix="give offsets of whole words of the array",
                )  # fmt: skip
            found.append((array[word], int(values[thread])))
        return found

    # --- what they come to ---
    def _wait(
        self, semaphore: Semaphore, value: int, instruction: Any
    ) -> Generator[Any, None, None]:
        actor = self.actor
        actor.stir()
        missed = semaphore.missed(actor.clock, value)
        if missed is not None:
            raise self._race(
                instruction, f"{semaphore.name} has been {value}, and nothing orders this wait for "
                "it before the release that replaced it, or behind",
                missed.instruction, f"the release that replaced {value}",
            )  # fmt: skip
        waiting = (instruction, value)
        semaphore.waiting.append(waiting)
        yield from actor.wait_until(
            lambda: semaphore.value == value, instruction,
            lambda: f"{semaphore.name} is {semaphore.value}, not {value}", for_blocks=True,
        )  # fmt: skip
        semaphore.waiting.remove(waiting)
        block = actor.block.number
        if semaphore.releases:
            release = semaphore.releases[-1]
            if release.block > block:
                raise self._behind(semaphore, release, instruction)
            actor.clock.join(release.before)
        number = self.races.mark(actor.clock.slot, instruction, "semaphore")
        semaphore.waits.append(Access(instruction, block, actor.clock.slot, number))

    def _release(self, semaphore: Semaphore, value: int, own: int, instruction: Any) -> None:
        """`own` is the number below which this group's own accesses are before the release."""
        actor, races = self.actor, self.races
        actor.stir()
        clock = actor.clock
        if semaphore.known(clock) < len(semaphore.releases):
            raise self._race(
                instruction, f"nothing orders this release of {semaphore.name} behind the one "
                "before it", semaphore.releases[-1].instruction,
                f"the release that made it {semaphore.value}",
            )  # fmt: skip
        seen_by = [
            wait.instruction
            for wait in semaphore.waits
            if wait.slot != clock.slot and not races.is_before(wait.number, clock)
        ]
        seen_by += [other for other, wanted in semaphore.waiting if wanted == semaphore.value]
        for wait in seen_by:
            raise self._race(
                instruction, f"nothing orders this release of {semaphore.name} behind a wait for "
                f"{semaphore.value}, the value that it replaces", wait, "this wait",
            )  # fmt: skip
        seen = Clock(clock.slot, 0, 0, dict(clock.limits))
        number, before = races.publish(semaphore.slot, [(seen, own)], instruction, "semaphore")
        semaphore.values.append(value)
        semaphore.releases.append(
            Release(instruction, actor.block.number, semaphore.slot, number, before)
        )
        semaphore.waits = []
        clock.limits[semaphore.slot] = number + 1

    def _race(
        self, instruction: Instruction, message: str, other: Instruction, label: str
    ) -> VmError:
        return self.actor.trap(
            "E0610", f"a race: {message}", instruction, _place(instruction), "here",
            others=((other.place(_place(other)), label),),
            notes=("in another order of blocks another value is seen, or none",),
            fix="let every release come behind the one before it and behind all waits for the "
            "value that it replaces: wait first for a value that only the last of them releases",
        )  # fmt: skip

    def _behind(self, semaphore: Semaphore, release: Release, instruction: Any) -> VmError:
        name = self.actor.machine.block_name
        return self.actor.trap(
            "E0611", f"{self.actor.block.name} waits for {name(release.block)}, which is behind "
            "it", instruction, _place(instruction), f"waits for {semaphore.value}",
            others=((release.instruction.place(_place(release.instruction)),
                     f"released by {name(release.block)}"),),
            notes=("a block behind it may not begin before it has ended",),
            fix="let blocks wait only for blocks before them, the first dimension of the grid "
            "counting fastest: give the one that waits the larger index",
        )  # fmt: skip


def _place(instruction: Instruction) -> str:
    return "semaphore" if "semaphore" in instruction.fields else "base"
