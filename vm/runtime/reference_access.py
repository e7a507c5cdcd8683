"""Accesses of memory by an actor, checked: races, and reads of what is undefined."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.errors import VmError
from vm.isa.instruction import Instruction
from vm.isa.types import Tile
from vm.runtime.races import Clock
from vm.runtime.reference_memory import MemoryTensor, Region

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor


_UNDEFINED = {
    "global": "an `out` tensor", "launch": "memory of the launch", "shared": "shared memory",
}  # fmt: skip


@dataclass(eq=False)
class Reach:
    """What an access touches: a region of a tensor, and what messages call the tensor.

    For a tile, `extents` are the tile's (1 for dimensions given by a single position), and `inner`
    is the part of it that lies inside the tensor, None where all of it does.
    """

    name: str
    tensor: MemoryTensor
    region: Region
    extents: tuple[int, ...] = ()
    inner: tuple[Any, ...] | None = None

    @property
    def is_empty(self) -> bool:
        return not prod(self.tensor.shape_of(self.region))

    @property
    def is_tracked(self) -> bool:
        """Whether anyone asks who touches it."""
        return self.tensor.buffer.shadow is not None and not self.is_empty

    def element(self, index: tuple[int, ...]) -> str:
        """The name and position of an element, from its index within the region."""
        at = [
            part.start + i if isinstance(part, slice) else int(part[i])
            for part, i in zip(self.region, index, strict=False)
        ]
        return f"`{self.name}`{at}"


def synchronizer(actor: Actor, tile: Tile, instruction: Instruction, field: str) -> Any:
    """The mbarrier or semaphore that a tile names: an element of an array of them."""
    array: np.ndarray = actor.registers[tile.base]
    index = tuple(int(actor.value(offset)) for offset in tile.offsets)
    if any(not 0 <= i < extent for i, extent in zip(index, array.shape, strict=True)):
        raise actor.trap(
            "E0501", f"element {list(index)} of `{tile.base.name}`, which is "
            f"{list(array.shape)}", instruction, field, "reaches outside",
            others=((tile.base.origin, f"this is {tile.base.type}"),),
            fix="stay within its shape",
        )  # fmt: skip
    return array[index]


class Checks:
    """The checks of one actor's accesses."""

    def __init__(self, actor: Actor):
        self.actor = actor
        self.races = actor.machine.races

    def read(
        self, reach: Reach, instruction: Instruction, field: str, clock: Clock | None = None,
        **how: Any,
    ) -> None:  # fmt: skip
        """Checks a read: by this group, or by an engine that has the given clock."""
        if not reach.is_tracked:
            return
        found = self.races.read(
            reach.tensor, reach.region, clock or self.actor.clock, instruction, field, **how
        )
        if found is not None:
            raise self._race(reach, found, instruction, field, "reads")
        self._filled(reach, instruction, field)

    def _filled(self, reach: Reach, instruction: Instruction, field: str) -> None:
        missing = self.races.unfilled(reach.tensor, reach.region)
        if missing is not None:
            buffer = reach.tensor.buffer
            what = _UNDEFINED[buffer.space]
            raise self.actor.trap(
                "E0507", f"{reach.element(missing)} is read before "
                "anything is written there", instruction, field, "read here",
                others=((buffer.origin, f"{what}: undefined until written"),),
                fix="write it first" + (
                    ", or declare it inout" if buffer.space == "global" else ""
                ),
            )  # fmt: skip

    def write(
        self, reach: Reach, instruction: Instruction, field: str, clock: Clock | None = None,
        **how: Any,
    ) -> None:  # fmt: skip
        """Checks a write: by this group, or by an engine that has the given clock."""
        if not reach.is_tracked:
            return
        tensor = reach.tensor
        if tensor.has_twins(reach.region):
            raise self.actor.trap(
                "E0601", f"`{instruction.opcode}` writes an element of "
                f"`{reach.name}` twice, from different threads", instruction,
                field, "two positions of this are one element",
                others=((tensor.buffer.origin, f"`{tensor.buffer.name}`"),),
                fix="write every element once: distinct indices, strides that do not overlap",
            )  # fmt: skip
        found = self.races.write(
            tensor, reach.region, clock or self.actor.clock, instruction, field, **how
        )
        if found is not None:
            raise self._race(reach, found, instruction, field, "writes")

    def _race(self, reach: Reach, found, instruction, field: str, verb: str) -> VmError:
        """The error for an access that conflicts with an earlier one."""
        number, index = found
        element = reach.element(index)
        earlier = self.races.access(number)
        place = earlier.instruction.place(earlier.field)
        whose = self.actor.block.describe(earlier.slot)
        bulk = earlier.slot < 0
        if self.races.is_flying(number) or bulk:
            return self.actor.trap(
                "E0604", f"`{instruction.opcode}` {verb} {element} while a copy "
                f"{'from' if earlier.reads else 'to'} it is on its way", instruction, field,
                f"{verb} {element}",
                others=((place, f"the copy that {whose} started"),),
                fix="wait first for the phase of that copy: mbarrier_wait" if bulk
                else "wait_async first, for the commit group of that copy",
            )  # fmt: skip
        done = "read" if earlier.reads else "written"
        if self.races.block_of(earlier.slot) != self.actor.block.number:
            return self.actor.trap(
                "E0602", f"a race of two blocks: `{instruction.opcode}` {verb} {element}, and "
                f"nothing orders it behind the `{earlier.instruction.opcode}` by which {whose} "
                f"has {done} it", instruction, field, f"{verb} {element}",
                others=((place, f"{done} here by {whose}"),),
                fix="let every block have elements of its own, use atomic(...), or let one wait "
                "for the other: semaphore_wait, semaphore_release",
            )  # fmt: skip
        fix = "put synchronize() between the two"
        if whose != self.actor.block.describe(self.actor.clock.slot):
            fix = "let both come to one barrier(id, warps) in between, or synchronize() outside"
        return self.actor.trap(
            "E0601", f"a race: `{instruction.opcode}` {verb} {element}, and nothing orders it "
            f"behind the `{earlier.instruction.opcode}` by which it was {done}", instruction,
            field, f"{verb} {element}", others=((place, f"{done} here by {whose}"),),
            notes=("threads run apart: only a barrier orders what two of them do",), fix=fix,
        )  # fmt: skip

    def atomic(self, reach: Reach, instruction: Instruction, scope: str) -> None:
        if not reach.is_tracked:
            return
        self._filled(reach, instruction, "target")
        found = self.races.atomic(
            reach.tensor, reach.region, self.actor.clock, instruction, "target", scope
        )
        if found is not None:
            raise self._race(reach, found, instruction, "target", "combines with")
