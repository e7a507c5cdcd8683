"""Who touched which element, and whether something orders two accesses.

Every access of tracked memory gets a number; numbers grow with time. A group's clock says, for each
group (of its own block or another), below which number all of that group's accesses come before
whatever it does next: vector clocks (Mattern, "Virtual Time and Global States of Distributed
Systems", 1988) whose components are access numbers. A group's own accesses are no exception: its
threads run apart, so only a barrier moves its own component.

An element remembers its last write and the reads since, as FastTrack does (Flanagan and Freund,
"FastTrack: Efficient and Precise Dynamic Race Detection", 2009); here reads are interned sets, so
that one number per element says which. Reads that are ordered before a newer read leave the set:
whatever comes after the newer one comes after them. Of sets with more than `MAXIMUM_READERS`
unordered reads the oldest are forgotten; that can hide a race only where blocks are ordered by
atomic accesses, since blocks that are not race with any two readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np

from vm.isa.instruction import Instruction

NOBODY = 0
"""The access number of elements that nobody wrote, and the set of no reads."""

MAXIMUM_READERS = 64


class Shadow:
    """For each cell of a buffer: its last write, the reads since, and whether it has a value.

    A cell is `unit` bits: as large as divides the elements, strides and beginnings of all tensors
    that see the buffer. `writer` holds access numbers, negative while a copy is on its way;
    `readers` numbers of sets of reads; `filled` is None where everything has a value.
    """

    def __init__(self, bits: int, unit: int, filled: bool):
        self.bits = bits
        self.unit = unit
        count = -(-bits // unit)
        self.writer = np.zeros(count, np.int32)
        self.readers = np.zeros(count, np.int32)
        self.filled = None if filled else np.zeros(count, np.bool_)
        self.generation = 0
        self.in_flight = 0

    def forget_values(self) -> None:
        """What the memory holds has no meaning any more; who touched it is still known."""
        self.filled = np.zeros(len(self.writer), np.bool_)
        self.generation += 1

    def cells(self, tensor: Any) -> Cells:
        """The cells of a tensor, with its shape (and an axis of cells per element, if several)."""
        known = tensor.cells
        if known is not None and known.generation == self.generation:
            return known
        unit = gcd(self.unit, tensor.dtype.bits, tensor.start, *tensor.strides)
        if unit != self.unit:
            self._refine(unit)
        per_element = tensor.dtype.bits // unit
        shape, strides = tensor.shape, tuple(4 * s // unit for s in tensor.strides)
        if per_element > 1:
            shape, strides = (*shape, per_element), (*strides, 4)
        tensor.cells = Cells(
            self.generation,
            _strided(self.writer, shape, strides, tensor.start // unit),
            _strided(self.readers, shape, strides, tensor.start // unit),
            None if self.filled is None
            else _strided(self.filled, shape, tuple(s // 4 for s in strides), tensor.start // unit),
        )  # fmt: skip
        return tensor.cells

    def _refine(self, unit: int) -> None:
        times, count = self.unit // unit, -(-self.bits // unit)
        self.writer = np.repeat(self.writer, times)[:count]
        self.readers = np.repeat(self.readers, times)[:count]
        if self.filled is not None:
            self.filled = np.repeat(self.filled, times)[:count]
        self.unit = unit
        self.generation += 1


def _strided(array: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], start: int):
    if 0 in shape:
        return np.zeros(shape, array.dtype)
    return np.ndarray(shape, array.dtype, array, start * array.itemsize, strides)


@dataclass(frozen=True)
class Cells:
    """A tensor's view of a shadow."""

    generation: int
    writer: np.ndarray
    readers: np.ndarray
    filled: np.ndarray | None


@dataclass
class Clock:
    """What comes before the next access of a group.

    `limits[slot]` is the access number below which all accesses of group `slot` do. Beyond that,
    every access of the group's own block from `first` up to (not with) `covered` does, whoever made
    it: a short cut for blocks that are one group.
    """

    slot: int
    first: int
    covered: int
    limits: dict[int, int] = field(default_factory=dict)

    def join(self, other: dict[int, int]) -> None:
        """Everything that came before `other` comes before this group's next access too."""
        limits = self.limits
        for slot, limit in other.items():
            if limits.get(slot, 0) < limit:
                limits[slot] = limit


@dataclass(frozen=True)
class Access:
    """One access as a message shows it: who did it where."""

    instruction: Instruction
    field: str
    reads: bool
    slot: int


class Races:
    """The accesses of one run, and the check that conflicting ones are ordered."""

    def __init__(self) -> None:
        self._slots: list[int] = [-1]
        self._made_by: list[tuple[Instruction, str, bool] | None] = [None]
        self._atomic: dict[int, str] = {}
        self._flying: set[int] = set()
        self._sets: list[tuple[int, ...]] = [()]
        self._released: dict[int, dict[int, int]] = {}
        # The blocks of components that belong to no group but to an mbarrier, or -1 for a
        # semaphore: -2, -3, ...
        self._engines: list[int] = []
        # Whether blocks took turns, so that a range of numbers may hold accesses of several.
        self.interleaved = False
        self.groups = 1

    @property
    def now(self) -> int:
        """The number of the next access."""
        return len(self._slots)

    def access(self, number: int) -> Access:
        instruction, place, reads = self._made_by[abs(number)]
        return Access(instruction, place, reads, self._slots[abs(number)])

    def new_slot(self, block: int) -> int:
        """A component of clocks for an mbarrier of a block, and for what its copies touch; for a
        semaphore, with -1 for its block."""
        self._engines.append(block)
        return -1 - len(self._engines)

    def block_of(self, slot: int) -> int:
        """The number of the block that a component belongs to."""
        return self._engines[-2 - slot] if slot < 0 else slot // self.groups

    def is_flying(self, number: int) -> bool:
        return abs(number) in self._flying

    def _new(self, clock: Clock, instruction: Instruction, place: str, reads: bool) -> int:
        self._slots.append(clock.slot)
        self._made_by.append((instruction, place, reads))
        return len(self._slots) - 1

    # --- checks ---
    def _is_ordered(self, number: int, clock: Clock) -> bool:
        if number < 0 or number in self._flying:
            return False
        return number == NOBODY or number < clock.limits.get(self._slots[number], 0)

    def _unordered_write(self, writers: np.ndarray, clock: Clock, quick: bool) -> int:
        """The number of a write in some cells that is not ordered before now; 0 for none."""
        low, high = int(writers.min()), int(writers.max())
        if low == high == NOBODY:
            return 0
        if low == high:
            return 0 if self._is_ordered(low, clock) else low
        if quick and low >= clock.first and high < clock.covered:
            return 0
        for number in np.unique(writers).tolist():
            if not self._is_ordered(number, clock):
                return number
        return 0

    def _unordered_read(self, readers: np.ndarray, clock: Clock) -> tuple[int, int]:
        """A set of reads in some cells, and a read in it that is not ordered; (0, 0) for none."""
        low, high = int(readers.min()), int(readers.max())
        if high == 0:
            return 0, 0
        for name in (low,) if low == high else np.unique(readers).tolist():
            for number in self._sets[name]:
                if not self._is_ordered(number, clock):
                    return name, number
        return 0, 0

    def _quick(self, tensor: Any) -> bool:
        return tensor.buffer.space == "shared" or not self.interleaved

    # --- accesses: each returns the conflicting access's number and the index of the cell, or None
    def read(
        self, tensor: Any, region: Any, clock: Clock, instruction: Instruction, place: str,
        flying: bool = False,
    ) -> tuple[int, tuple[int, ...]] | None:  # fmt: skip
        cells = tensor.buffer.shadow.cells(tensor)
        writers = cells.writer[region]
        found = self._unordered_write(writers, clock, self._quick(tensor))
        if found:
            return found, _first(writers == found)
        self._add_read(cells, region, clock, instruction, place, flying)
        return None

    def _add_read(self, cells, region, clock, instruction, place, flying) -> None:
        readers = cells.readers[region]
        low, high = int(readers.min()), int(readers.max())
        mine = (instruction, place, True)
        if low == high and not flying:
            held = self._sets[low][-1] if len(self._sets[low]) == 1 else NOBODY
            again = self._made_by[held] == mine and self._slots[held] == clock.slot
            if again and not self._is_ordered(held, clock):
                return  # the same read, again without a barrier: nothing is learned
        number = self._new(clock, instruction, place, True)
        if flying:
            self._flying.add(number)
        if low == high:
            cells.readers[region] = self._joined(low, number, clock)
            return
        names, inverse = np.unique(readers, return_inverse=True)
        joined = [self._joined(name, number, clock) for name in names.tolist()]
        if len(set(joined)) == 1:
            cells.readers[region] = joined[0]
        else:
            cells.readers[region] = np.array(joined, np.int32)[inverse].reshape(readers.shape)

    def _joined(self, name: int, number: int, clock: Clock) -> int:
        """The set `name` with one more read: that of a set made just now where it is the same."""
        kept = tuple(
            old for old in self._sets[name]
            if not self._is_ordered(old, clock)
            and (self._slots[old] != clock.slot or old in self._flying)
        )  # fmt: skip
        made = (*kept, number)[-MAXIMUM_READERS:]
        if self._sets[-1] != made:
            self._sets.append(made)
        return len(self._sets) - 1

    def write(
        self, tensor: Any, region: Any, clock: Clock, instruction: Instruction, place: str,
        flying: bool = False,
    ) -> tuple[int, tuple[int, ...]] | None:  # fmt: skip
        shadow = tensor.buffer.shadow
        cells = shadow.cells(tensor)
        found = self._conflict(tensor, region, cells, clock)
        if found is not None:
            return found
        number = self._new(clock, instruction, place, False)
        if flying:
            self._flying.add(number)
            shadow.in_flight += 1
        cells.writer[region] = -number if flying else number
        cells.readers[region] = NOBODY
        if cells.filled is not None and not flying:
            cells.filled[region] = True
        return None

    def _conflict(self, tensor, region, cells: Cells, clock: Clock):
        writers = cells.writer[region]
        found = self._unordered_write(writers, clock, self._quick(tensor))
        if found:
            return found, _first(writers == found)
        readers = cells.readers[region]
        name, found = self._unordered_read(readers, clock)
        if found:
            return found, _first(readers == name)
        return None

    def atomic(
        self, tensor: Any, region: Any, clock: Clock, instruction: Instruction, place: str,
        scope: str,
    ) -> tuple[int, tuple[int, ...]] | None:  # fmt: skip
        """An atomic access: no race with another one whose scope both are in; it acquires what
        those released, and releases what is ordered before it."""
        cells = tensor.buffer.shadow.cells(tensor)
        writers = cells.writer[region]
        block = self.block_of(clock.slot)
        acquired: list[int] = []
        for number in np.unique(writers).tolist():
            theirs = self._atomic.get(number)
            near = number > NOBODY and self.block_of(self._slots[number]) == block
            if theirs is not None and (near or scope == theirs == "device"):
                acquired.append(number)
            elif not self._is_ordered(number, clock):
                return number, _first(writers == number)
        readers = cells.readers[region]
        name, found = self._unordered_read(readers, clock)
        if found:
            return found, _first(readers == name)
        for number in acquired:
            clock.join(self._released[number])
        number = self._new(clock, instruction, place, False)
        self._atomic[number] = scope
        self._released[number] = dict(clock.limits)
        cells.writer[region] = number
        cells.readers[region] = NOBODY
        return None

    def unfilled(self, tensor: Any, region: Any) -> tuple[int, ...] | None:
        """The index within a region of an element without a value; None where all have one."""
        cells = tensor.buffer.shadow.cells(tensor)
        if cells.filled is None:
            return None
        filled = cells.filled[region]
        return None if filled.all() else _first(~filled)

    # --- copies that run beside the program ---
    def land(
        self, target: tuple[Any, Any], source: tuple[Any, Any] | None, clock: Clock,
        instruction: Instruction, numbers: tuple[int, ...],
    ) -> None:  # fmt: skip
        """A copy is done: from here on it counts as accesses of the group that waited for it."""
        self._flying.difference_update(numbers)
        tensor, region = target
        tensor.buffer.shadow.in_flight -= 1
        cells = tensor.buffer.shadow.cells(tensor)
        cells.writer[region] = self._new(clock, instruction, "target", False)
        if cells.filled is not None:
            cells.filled[region] = True
        if source is not None:
            tensor, region = source
            self._add_read(
                tensor.buffer.shadow.cells(tensor), region, clock, instruction, "source", False
            )

    # --- clocks ---
    def start(self, slot: int) -> Clock:
        """The clock of a block that begins."""
        return Clock(slot, self.now, self.now, {slot: self.now})

    def fork(self, clock: Clock, slot: int) -> Clock:
        """The clock of a group that begins: what came before it came before for its block."""
        return Clock(slot, clock.first, clock.covered, dict(clock.limits))

    def synchronize(self, clock: Clock, ended: list[Clock] | None) -> None:
        """All threads of a group have met; those of the whole block where `ended` are given, the
        groups that have ended."""
        clock.limits[clock.slot] = self.now
        if ended is not None:
            for other in ended:
                clock.join(other.limits)
                clock.limits[other.slot] = self.now
            clock.covered = self.now

    def meet(self, clocks: list[tuple[Clock, int]], waiting: list[Clock]) -> None:
        """Several groups have met; each came when the number beside its clock was the next."""
        joined = _joined_limits(clocks)
        for clock in waiting:
            clock.join(joined)

    def publish(
        self, slot: int, arrivals: list[tuple[Clock, int]], instruction: Instruction, place: str
    ) -> tuple[int, dict[int, int]]:
        """A phase of the mbarrier with that component is over, or the semaphore with it released:
        (the access number of that, what comes before the next access of whoever waits for it)."""
        number = self.mark(slot, instruction, place)
        return number, {**_joined_limits(arrivals), slot: number + 1}

    def mark(self, slot: int, instruction: Instruction, place: str) -> int:
        """The number of something in a component that touches no element."""
        return self._new(Clock(slot, 0, 0), instruction, place, True)

    def is_before(self, number: int, clock: Clock) -> bool:
        """Whether an access comes before whatever a group does next."""
        return self._is_ordered(number, clock)


def _joined_limits(clocks: list[tuple[Clock, int]]) -> dict[int, int]:
    """What came before any of several groups, each when the number beside its clock was next."""
    joined: dict[int, int] = {}
    for clock, arrived in clocks:
        for slot, limit in (*clock.limits.items(), (clock.slot, arrived)):
            joined[slot] = max(joined.get(slot, 0), limit)
    return joined


def _first(found: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(found)[0])
