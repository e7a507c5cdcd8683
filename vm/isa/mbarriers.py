"""Mbarriers, and the bulk copies that they wait for: rings of stages between groups.

An mbarrier counts phases, from 0. A phase ends when the arrivals of as many warps as the mbarrier
was made for have come, and all the bytes that were expected in it; the next one begins at once.
What the arriving warps did before, and what the copies of the phase brought, is seen by everyone
who has waited for the phase. A group knows a phase to be over if it has waited for it, or if
something orders it behind one that has. It names phases by parity: 0 for phase 0, 1 for phase 1, 0
for phase 2; so it may arrive, copy or wait only where it knows all phases before to be over.

A ring has two arrays of mbarriers: in `full` a stage's producer expects its bytes, in `empty` its
consumers arrive when they have read it. The producer waits for `empty` before it fills the stage
again. A ring within one warp needs no `empty`: `synchronize()` orders its lanes.
"""

from __future__ import annotations

from math import prod
from typing import Any

from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.memory import require_constant_extents
from vm.isa.types import INDEX, GlobalType, Immediate, MbarrierType, Tile, Type

MAXIMUM_COUNT = 2**20 - 1
"""Arrivals, and bytes, that one phase can wait for (PTX ISA 9.0, "Contents of the mbarrier
object")."""

BULK_BYTES = 16
"""What the size and both addresses of a bulk copy are multiples of (PTX ISA 9.0, cp.async.bulk)."""


class MbarrierAllocate(Instruction, opcode="mbarrier_alloc"):
    """An array of mbarriers in shared memory, each in its phase 0, ready for all threads behind
    this.

    A phase of each waits for the arrivals of `warps` warps. It stands in the program's own block of
    statements and lives as long as the program. `address` is where it begins in the block's shared
    memory, in bytes, once the compiler has planned it.
    """

    pure = False
    shape = Attribute("shape")
    warps = Attribute("integer", 1)
    address = Attribute("integer", None)

    def check(self) -> Type:
        if any(extent < 1 for extent in self.shape):
            raise self.refuse(
                "E0303", f"an array of mbarriers of shape {list(self.shape)}", "shape", "here",
                fix="give extents of at least 1, such as [4]",
            )  # fmt: skip
        if not 1 <= self.warps <= MAXIMUM_COUNT:
            raise self.refuse(
                "E0209", f"a phase that waits for {self.warps} warps", "warps", "here",
                fix="count the arrivals of warps in one phase, at least 1",
            )  # fmt: skip
        return MbarrierType(self.shape, self.warps)

    def run(self, machine: Any) -> Any:
        return machine.mbarriers.allocate(self.result)


class MbarrierArrive(Instruction, opcode="mbarrier_arrive"):
    """Every warp of this group arrives at an mbarrier, and goes on.

    What this group did before is seen by everyone who waits for the phase.
    """

    pure = False
    barrier = Operand("mbarrier")

    def check(self) -> None:
        require_one(self)

    def run(self, machine: Any) -> None:
        machine.mbarriers.arrive(self.barrier, 0, self)


class MbarrierExpect(Instruction, opcode="mbarrier_expect"):
    """Every warp of this group arrives at an mbarrier; its phase ends when `bytes` more bytes have
    come by bulk copies.

    The copies may be started before or after. Bytes are expected once for the group, not once for
    each of its warps.
    """

    pure = False
    barrier = Operand("mbarrier")
    bytes = Operand("scalar")

    def check(self) -> None:
        require_one(self)
        require_index(self, "bytes")
        wrong = isinstance(self.bytes, Immediate) and (
            not 0 <= self.bytes.value <= MAXIMUM_COUNT or self.bytes.value % BULK_BYTES
        )
        if wrong:
            raise self.refuse(
                "E0209", f"bulk copies never bring {self.bytes.value} bytes", "bytes", "here",
                fix=f"expect the sum of what the copies of the phase bring: a multiple of "
                f"{BULK_BYTES}, at most {MAXIMUM_COUNT}",
            )  # fmt: skip

    def run(self, machine: Any) -> None:
        machine.mbarriers.arrive(self.barrier, int(machine.value(self.bytes)), self)


class MbarrierWait(Instruction, opcode="mbarrier_wait"):
    """Waits until the phase of that parity is over: 0 for the phases 0, 2, 4, 1 for 1, 3, 5.

    It is the next phase that this group does not know to be over, or the one before that, which
    needs no waiting: so the first wait for parity 1 goes on at once. What the phase brought and
    what came before its arrivals is then seen by all threads of this group, without a
    `synchronize()`.
    """

    pure = False
    barrier = Operand("mbarrier")
    parity = Operand("scalar")

    def check(self) -> None:
        require_one(self)
        require_index(self, "parity")
        if isinstance(self.parity, Immediate) and self.parity.value not in (0, 1):
            raise self.refuse(
                "E0209", f"a phase of parity {self.parity.value}", "parity", "here",
                fix="phase n has parity n % 2",
            )  # fmt: skip

    def run(self, machine: Any):
        yield from machine.mbarriers.wait(self)


class CopyBulk(Instruction, opcode="copy_bulk"):
    """Starts one copy of a run of bytes from global to shared memory, which counts as bytes of the
    present phase of an mbarrier when they have come.

    Both tiles are one run of memory in the order of their elements, of a multiple of 16 bytes that
    begins at a multiple of 16. Unlike other copies it does not clip: the source must lie inside its
    tensor. Until a wait for the phase the target may not be touched and the source not be written;
    what this group did to the target before must be ordered before the copy. A block may not end
    while a copy is on its way.
    """

    pure = False
    target = Operand("shared")
    source = Operand("global")
    barrier = Operand("mbarrier")

    def check(self) -> None:
        require_one(self)
        require_constant_extents(self, "target")
        require_constant_extents(self, "source")
        if self.target.dtype != self.source.dtype or self.target.shape != self.source.shape:
            raise self.refuse(
                "E0302", "the two sides of a copy have one dtype and one shape", "source",
                f"{self.source.dtype.name}{list(self.source.shape)}",
                others=((self.place("target"),
                         f"{self.target.dtype.name}{list(self.target.shape)}"),),
                fix="make both equal",
            )  # fmt: skip
        for field in ("target", "source"):
            self._require_run(field)
        if self.bits % (8 * BULK_BYTES):
            raise self.refuse(
                "E0303", f"a bulk copy of {self.bits} bits", "source", "here",
                fix=f"copy a multiple of {BULK_BYTES} bytes",
            )  # fmt: skip

    def _require_run(self, field: str) -> None:
        tile: Tile = getattr(self, field)
        if not is_one_run(tile):
            raise self.refuse(
                "E0303", f"a tile {list(tile.shape)} of {tile.base.type} is no single run of "
                "memory", field, "its rows lie apart",
                others=((tile.base.origin, f"`{tile.base.name}` is {tile.base.type}"),),
                fix="take whole rows, or one part of one row, or write a copy for each row",
            )  # fmt: skip

    @property
    def bits(self) -> int:
        """What is copied."""
        return prod(self.source.shape) * self.source.dtype.bits

    def run(self, machine: Any) -> None:
        machine.mbarriers.copy_bulk(self)


def is_one_run(tile: Tile) -> bool:
    """Whether the elements of a tile of constant extents follow each other in memory."""
    type_, rows = tile.base.type, False
    if isinstance(type_, GlobalType) and type_.strides is not None:
        return False
    for extent, whole in zip(tile.extents, type_.shape, strict=True):
        if rows and (extent or 1) != whole:
            return False
        rows |= (extent or 1) > 1
    # Rows of a global tensor begin at whole bytes.
    padded = isinstance(type_, GlobalType) and any((e or 1) > 1 for e in tile.extents[:-1])
    return not padded or type_.shape[-1] * type_.dtype.bits % 8 == 0


def require_one(instruction: Instruction, field: str = "barrier") -> None:
    """Refuses more than one mbarrier, or semaphore."""
    tile: Tile = getattr(instruction, field)
    if any(extent is not None for extent in tile.extents):
        raise instruction.refuse(
            "E0302", f"one {tile.base.type.space} is meant", field, "this is an array of them",
            fix=f"give one index for each dimension: {tile.base.name or 'full'}[i]",
        )  # fmt: skip


def require_index(instruction: Instruction, field: str) -> None:
    """Refuses an operand that is no i32; types a constant."""
    instruction.give_dtype(field, INDEX)
    kind = instruction.dtype_of(getattr(instruction, field))
    if kind != INDEX:
        raise instruction.refuse(
            "E0205", f"`{field}` is an i32, not {kind.name}", field, f"this is {kind.name}",
            fix="cast it: cast(x, i32)",
        )  # fmt: skip
