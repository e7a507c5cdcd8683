"""Asynchronous copies of an actor: started, committed in groups, waited for.

The data moves as it is issued, as it is waited for, or at a random moment between (schedule.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vm.isa.instruction import Instruction
from vm.isa.types import Tile
from vm.runtime.reference_access import Checks, Reach
from vm.runtime.reference_tiles import TileAccesses, read_reach

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor


@dataclass(eq=False)
class Copy:
    """A copy on its way; `numbers` are those of its accesses (races.py)."""

    instruction: Instruction
    target: Reach
    source: Reach
    numbers: tuple[int, ...]
    perform: Callable[[], None]
    has_moved: bool = False

    def move(self) -> None:
        """Moves the data, once."""
        if not self.has_moved:
            self.has_moved = True
            self.perform()


class Copies:
    """The copies that one actor has started and not waited for."""

    def __init__(self, actor: Actor, checks: Checks, tiles: TileAccesses):
        self.actor = actor
        self.checks = checks
        self.tiles = tiles
        self._open: list[Copy] = []
        self._committed: list[list[Copy]] = []

    def under_way(self) -> list[Copy]:
        return [copy for group in (*self._committed, self._open) for copy in group]

    def stir(self) -> None:
        """Gives every copy on its way a chance to move its data."""
        if self._open or self._committed:
            for copy in self.under_way():
                if self.actor.machine.effects.moves_now():
                    copy.move()

    def copy_async(self, target: Tile, source: Tile, instruction: Any) -> None:
        """Starts a copy from global to shared memory; outside the source lies 0."""
        to = self.tiles.reach(target, instruction, "target", True)
        origin = self.tiles.reach(source, instruction, "source", instruction.inside)

        def perform() -> None:
            data = read_reach(origin)
            if data.size:
                to.tensor.write(to.region, data.reshape(to.extents))

        self.start(instruction, to, origin, perform)

    def start(
        self, instruction: Instruction, target: Reach, source: Reach, perform: Callable[[], None]
    ) -> None:
        """Puts a copy on its way; `perform` moves its data."""
        self.stir()
        races, numbers = self.actor.machine.races, []
        if source.is_tracked:
            numbers.append(races.now)
            self.checks.read(source, instruction, "source", flying=True)
        if target.is_tracked:
            numbers.append(races.now)
            self.checks.write(target, instruction, "target", flying=True)
        copy = Copy(instruction, target, source, tuple(numbers), perform)
        if self.actor.machine.effects.at_issue:
            copy.move()
        self._open.append(copy)

    def commit_async(self, instruction: Instruction) -> None:
        self.stir()
        self._committed.append(self._open)
        self._open = []

    def wait_async(self, pending: int, instruction: Instruction) -> None:
        """Ends this group's commit groups but for the latest `pending`."""
        self.stir()
        ready = max(0, len(self._committed) - pending)
        landed, self._committed = self._committed[:ready], self._committed[ready:]
        for copy in (copy for group in landed for copy in group):
            copy.move()
            target, source = copy.target, copy.source
            if target.is_tracked:
                self.actor.machine.races.land(
                    (target.tensor, target.region),
                    (source.tensor, source.region) if source.is_tracked else None,
                    self.actor.clock, copy.instruction, copy.numbers,
                )  # fmt: skip
