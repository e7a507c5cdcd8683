"""Barriers, and where a block stands in its grid."""

from __future__ import annotations

from typing import Any

from vm.isa.instruction import Attribute, Instruction
from vm.isa.types import INDEX, ScalarType, Type


class BlockIndex(Instruction, opcode="block_index"):
    """The position of this block in the grid: one i32 for each dimension of the grid."""

    def check(self) -> tuple[Type, ...]:
        return (ScalarType(INDEX),) * self.scope.grid_rank

    def run(self, machine: Any) -> Any:
        index = machine.block_index
        return index if len(index) > 1 else index[0]


class GridSize(Instruction, opcode="grid_size"):
    """The extents of the grid: one i32 for each of its dimensions."""

    def check(self) -> tuple[Type, ...]:
        return (ScalarType(INDEX),) * self.scope.grid_rank

    def run(self, machine: Any) -> Any:
        grid = machine.grid
        return grid if len(grid) > 1 else grid[0]


class GroupIndex(Instruction, opcode="group_index"):
    """Which of the copies of its group this one is, from 0: i32."""

    def check(self) -> Type:
        if self.scope.group is None:
            raise self.refuse(
                "E0403", "only a group has an index", None, "outside groups",
                fix="write it in `group name(warps=1, copies=8) { ... }`",
            )  # fmt: skip
        return ScalarType(INDEX)

    def run(self, machine: Any) -> int:
        return machine.group_index


class Synchronize(Instruction, opcode="synchronize"):
    """Waits for every thread of the group (of the block, outside groups).

    What they did to shared and global memory before is seen by all of them after.
    """

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any):
        yield from machine.synchronize(self)


class Barrier(Instruction, opcode="barrier"):
    """Waits until `warps` warps, of this and of other groups, have come to barrier `id`.

    With `arrive` this group only announces itself and goes on. Ids 1 to 15; what came before is
    seen by those who wait after.
    """

    pure = False
    id = Attribute("integer")
    warps = Attribute("integer")
    arrive = Attribute("boolean", False)

    def check(self) -> None:
        if not 1 <= self.id <= 15:
            raise self.refuse(
                "E0404", f"barrier {self.id}", "id", "there is no such barrier",
                fix="use an id from 1 to 15; synchronize() is the block's own",
            )  # fmt: skip
        if self.warps < self.scope.warps:
            raise self.refuse(
                "E0404", f"{self.warps} warps, but this group alone has {self.scope.warps}",
                "warps", "too few", fix="count the warps of every group that comes here",
            )  # fmt: skip

    def run(self, machine: Any):
        yield from machine.barrier(self)


class GridLaunchDependents(Instruction, opcode="grid_launch_dependents"):
    """Lets the grid that is launched next begin, once every block has come here or ended.

    It may then run beside this one until it comes to its own `grid_wait`.
    """

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        return None


class GridWait(Instruction, opcode="grid_wait"):
    """Waits until the grids before this one have ended and their writes are seen.

    Before it, a program reads only memory that is declared `constant` and writes none. Without it
    a grid begins when those before it have ended.
    """

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        return None


class Exit(Instruction, opcode="exit"):
    """Ends this block's (inside a group: this group's) part of the program."""

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        machine.exit()
