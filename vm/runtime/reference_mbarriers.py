"""Mbarriers of the reference machine, and the bulk copies that count in their phases.

An mbarrier has a component of clocks of its own: how many of its phases a group knows to be over
follows from its clock. A phase is over for the machine as soon as all its arrivals have come and
all its bytes have been asked for; the data moves as it is issued, at a random moment, or at the
first wait for the phase.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.isa.instruction import Instruction
from vm.isa.mbarriers import BULK_BYTES
from vm.isa.types import Tile, Value
from vm.runtime.races import Clock
from vm.runtime.reference_access import Checks, Reach, synchronizer
from vm.runtime.reference_copies import Copy
from vm.runtime.reference_tiles import TileAccesses, read_reach

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor

BULK_BITS = 8 * BULK_BYTES


@dataclass(eq=False)
class Phase:
    """What has come in a phase: warps, the bytes expected and those that copies bring.

    `ended` is the access number of its end, 0 until then; `before` is what comes before that.
    """

    arrived: int = 0
    expected: int = 0
    brought: int = 0
    arrivals: list[tuple[Clock, int]] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    latest: Instruction | None = None
    ended: int = 0
    before: dict[int, int] = field(default_factory=dict)


class Mbarrier:
    """One mbarrier of a block; `slot` is its component of clocks."""

    def __init__(self, name: str, warps: int, slot: int):
        self.name = name
        self.warps = warps
        self.slot = slot
        self.phases = [Phase()]

    @property
    def present(self) -> Phase:
        """The phase that has not ended."""
        return self.phases[-1]

    @property
    def over(self) -> int:
        """How many phases have ended."""
        return len(self.phases) - 1

    def known(self, clock: Clock) -> int:
        """How many phases have ended before whatever a group does next."""
        limit, count = clock.limits.get(self.slot, 0), self.over
        while count and self.phases[count - 1].ended >= limit:
            count -= 1
        return count

    def missing(self) -> str:
        """What the present phase still waits for."""
        phase, shown = self.present, f"phase {self.over} of {self.name}"
        if phase.arrived < self.warps:
            return f"{shown} has the arrivals of {phase.arrived} of {self.warps} warps"
        return f"{shown} expects {phase.expected} bytes, and copies bring {phase.brought}"


@dataclass
class Mbarriers:
    """The mbarriers of a block: of its arrays by value, and by address at the machine level."""

    arrays: dict[Value, np.ndarray] = field(default_factory=dict)
    places: dict[int, Mbarrier] = field(default_factory=dict)
    flying: list[Copy] = field(default_factory=list)


class MbarrierAccesses:
    """What the instructions of an actor ask of mbarriers."""

    def __init__(self, actor: Actor, checks: Checks, tiles: TileAccesses):
        self.actor = actor
        self.checks = checks
        self.tiles = tiles
        self.races = actor.machine.races
        self.all = actor.block.mbarriers

    def new(self, name: str, warps: int) -> Mbarrier:
        """An mbarrier in its phase 0."""
        return Mbarrier(name, warps, self.races.new_slot(self.actor.block.number))

    def allocate(self, value: Value) -> np.ndarray:
        """An array of mbarriers in phase 0."""
        array = np.empty(value.type.shape, object)
        for index in np.ndindex(*array.shape):
            array[index] = self.new(f"`{value.name or 'mbarrier'}`{list(index)}", value.type.warps)
        return array

    def stir(self) -> None:
        """Gives every copy on its way a chance to move its data."""
        for copy in self.all.flying:
            if not copy.has_moved and self.actor.machine.effects.moves_now():
                copy.move()

    # --- by tiles ---
    def arrive(self, tile: Tile, count: int, instruction: Instruction) -> None:
        """All warps of the group arrive, and `count` bytes more are expected."""
        barrier = synchronizer(self.actor, tile, instruction, "barrier")
        self.arrived(barrier, instruction.scope.warps, count, instruction)

    def wait(self, instruction: Any) -> Generator[Any, None, None]:
        barrier = synchronizer(self.actor, instruction.barrier, instruction, "barrier")
        parity = int(self.actor.value(instruction.parity))
        yield from self.waited(barrier, parity, instruction)

    def copy_bulk(self, instruction: Any) -> None:
        """Starts a bulk copy of a tile."""
        barrier = synchronizer(self.actor, instruction.barrier, instruction, "barrier")
        target = self.tiles.reach(instruction.target, instruction, "target", True)
        source = self.tiles.reach(instruction.source, instruction, "source", True)
        for reach, place in ((target, "target"), (source, "source")):
            starts = (part.start for part in reach.region)
            first = reach.tensor.start + sum(
                start * stride for start, stride in zip(starts, reach.tensor.strides, strict=True)
            )
            if first % BULK_BITS:
                raise self.actor.trap(
                    "E0511", f"a bulk copy at {_bit(first)} of `{reach.name}`", instruction, place,
                    "not aligned", fix=f"begin at a multiple of {BULK_BYTES} bytes",
                )  # fmt: skip

        def perform() -> None:
            target.tensor.write(target.region, read_reach(source).reshape(target.extents))

        self.started(barrier, target, source, instruction.bits // 8, perform, instruction)

    # --- what they come to, at the core and at the machine level ---
    def arrived(
        self, barrier: Mbarrier, warps: int, count: int, instruction: Instruction
    ) -> None:
        self.stir()
        self._require_known(barrier, instruction, "arrives")
        phase = barrier.present
        if phase.arrived + warps > barrier.warps:
            raise self.actor.trap(
                "E0607", f"{warps} more warps arrive at {barrier.name}, whose phase {barrier.over} "
                f"has {phase.arrived} of {barrier.warps}", instruction, "barrier",
                "too many arrivals", others=_latest(phase, "the arrival before"),
                fix="make it for as many warps as arrive in one phase, and wait for the phase "
                "before arriving again",
            )  # fmt: skip
        seen = Clock(self.actor.clock.slot, 0, 0, dict(self.actor.clock.limits))
        phase.arrivals.append((seen, self.races.now))
        phase.arrived += warps
        phase.expected += count
        phase.latest = instruction
        self._end(barrier, instruction)

    def started(
        self, barrier: Mbarrier, target: Reach, source: Reach, count: int,
        perform: Callable[[], None], instruction: Instruction,
    ) -> None:  # fmt: skip
        """A copy of `count` bytes is on its way; `perform` moves its data."""
        self.stir()
        self._require_known(barrier, instruction, "copies")
        # It is the engine's access, ordered behind what comes before it for this group.
        mine = self.actor.clock
        engine = Clock(barrier.slot, mine.first, mine.covered, mine.limits)
        numbers = []
        if source.is_tracked:
            numbers.append(self.races.now)
            self.checks.read(source, instruction, "source", clock=engine, flying=True)
        if target.is_tracked:
            numbers.append(self.races.now)
            self.checks.write(target, instruction, "target", clock=engine, flying=True)
        copy = Copy(instruction, target, source, tuple(numbers), perform)
        if self.actor.machine.effects.at_issue:
            copy.move()
        self.all.flying.append(copy)
        phase = barrier.present
        phase.copies.append(copy)
        phase.brought += count
        self._end(barrier, instruction)

    def waited(
        self, barrier: Mbarrier, parity: int, instruction: Instruction
    ) -> Generator[Any, None, None]:
        self.stir()
        known = barrier.known(self.actor.clock)
        if parity not in (0, 1):
            raise self._misuse(barrier, instruction, f"no phase has parity {parity}")
        if parity == known % 2:
            yield from self.actor.wait_until(
                lambda: barrier.over > known, instruction, barrier.missing
            )
            self._acquire(barrier.phases[known])
            known += 1
        if barrier.over > known:
            raise self._misuse(
                barrier, instruction,
                f"phase {barrier.over - 1} of {barrier.name} is over, of which this group knows "
                f"nothing: whether the phase of parity {parity} is, depends on when it looks",
            )  # fmt: skip

    def _misuse(self, barrier: Mbarrier, instruction: Instruction, message: str):
        return self.actor.trap(
            "E0609", message, instruction, "parity", "this phase",
            others=_latest(barrier.phases[max(0, barrier.over - 1)], "an arrival of the last"),
            fix="wait for every phase once, in order: phase n has parity n % 2; and let no phase "
            "end before those who wait for the one before have arrived",
        )  # fmt: skip

    def _require_known(self, barrier: Mbarrier, instruction: Instruction, verb: str) -> None:
        """What counts in a phase must come after the end of the one before, in every run."""
        known = barrier.known(self.actor.clock)
        if known < barrier.over:
            raise self.actor.trap(
                "E0607", f"`{instruction.opcode}` {verb} in phase {barrier.over} of "
                f"{barrier.name}, and nothing orders it behind the end of phase {known}",
                instruction, "barrier", "may count in an earlier phase",
                others=_latest(barrier.phases[known], "an arrival of that phase"),
                fix="let this group wait for that phase first, or for another that comes after it",
            )  # fmt: skip

    def _end(self, barrier: Mbarrier, instruction: Instruction) -> None:
        """Ends the present phase if everything has come."""
        phase = barrier.present
        if phase.arrived < barrier.warps:
            return
        if phase.brought > phase.expected:
            raise self.actor.trap(
                "E0608", f"copies bring {phase.brought} bytes in phase {barrier.over} of "
                f"{barrier.name}, which expects {phase.expected}", instruction, "barrier",
                "more than is expected", others=_latest(phase, "the last arrival"),
                fix="expect the sum of what the copies of the phase bring: mbarrier_expect",
            )  # fmt: skip
        if phase.brought == phase.expected:
            phase.ended, phase.before = self.races.publish(
                barrier.slot, phase.arrivals, instruction, "barrier"
            )
            barrier.phases.append(Phase())

    def _acquire(self, phase: Phase) -> None:
        """What the phase brought comes before whatever this group does next."""
        clock = self.actor.clock
        for copy in phase.copies:
            copy.move()
            self.all.flying.remove(copy)
            if copy.target.is_tracked:
                source = (copy.source.tensor, copy.source.region)
                self.races.land(
                    (copy.target.tensor, copy.target.region),
                    source if copy.source.is_tracked else None,
                    Clock(self._slot_of(phase), 0, 0), copy.instruction, copy.numbers,
                )  # fmt: skip
        if phase.copies:
            phase.copies = []
            phase.before[self._slot_of(phase)] = self.races.now
        clock.join(phase.before)

    def _slot_of(self, phase: Phase) -> int:
        return self.races.access(phase.ended).slot

    def end_block(self) -> None:
        """The block has come to its end: no copy may still write to its shared memory."""
        for copy in self.all.flying:
            raise self.actor.trap(
                "E0604", "the block ends while a bulk copy is on its way", copy.instruction,
                "target", "no one waits for this copy",
                fix="wait for its phase: mbarrier_wait",
            )  # fmt: skip


def _latest(phase: Phase, label: str) -> tuple:
    return () if phase.latest is None else ((phase.latest.place("barrier"), label),)


def _bit(position: int) -> str:
    return f"bit {position}" if position % 8 else f"byte {position // 8}"
