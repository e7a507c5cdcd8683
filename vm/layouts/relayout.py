"""Moving a register tile from one layout to another: nothing, registers, shuffles or shared
memory.

A plan is data with a meaning: `apply` runs it on (threads, slots) registers with NumPy, and
each kind carries what an emitter needs. Where all sizes are powers of two, shuffles are planned
in the F2 view; elsewhere from tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from vm.layouts.banks import Access, choose_swizzle
from vm.layouts.binary import BinaryMatrix, is_binary, register_to_binary
from vm.layouts.common import HasBits, bit_width
from vm.layouts.errors import LayoutError
from vm.layouts.memory import MemoryLayout
from vm.layouts.register import RegisterLayout, local

# A barrier makes every warp wait for the slowest; as a cost it counts like this many bytes per
# thread through shared memory (about 30 cycles at 128 bytes a cycle and 128 threads on Hopper).
# It only decides between plans that move nearly the same bytes.
BARRIER_BYTES_PER_THREAD = 32


@dataclass(frozen=True)
class Nothing:
    """The layouts are the same function."""

    cost: int = 0

    def apply(self, registers: np.ndarray) -> np.ndarray:
        """registers: (threads, slots) of the source; returns those of the target."""
        return registers


@dataclass(frozen=True)
class RegisterPermutation:
    """Slot j of the target is slot slots[j] of the source, in every thread."""

    slots: tuple[int, ...]
    cost: int = 0

    def apply(self, registers: np.ndarray) -> np.ndarray:
        """registers: (threads, slots) of the source; returns those of the target."""
        return registers[:, list(self.slots)]


@dataclass(frozen=True, eq=False)
class ShuffleRound:
    """One shuffle of one unit (`vector` consecutive slots). All arrays are int64 (threads,).

    send: the unit each thread offers. lane: the lane of its warp it reads from. receive: the
    unit of the target it writes, or -1 to write none."""

    send: np.ndarray
    lane: np.ndarray
    receive: np.ndarray


@dataclass(frozen=True, eq=False)
class WarpShuffles:
    """Data stays within warps. vector: slots that move together (a unit). keep: int64 (threads,
    units of the target): which unit of its own each thread copies, -1 where a round brings it.
    cost: bytes that the shuffles move."""

    warp_width: int
    vector: int
    keep: np.ndarray
    rounds: tuple[ShuffleRound, ...]
    cost: int

    def apply(self, registers: np.ndarray) -> np.ndarray:
        """registers: (threads, slots) of the source; returns those of the target."""
        threads = np.arange(len(registers))
        units = registers.reshape(len(registers), -1, self.vector)
        result = units[threads[:, None], np.maximum(self.keep, 0)]
        first = threads - threads % self.warp_width
        for step in self.rounds:
            offered = units[threads, step.send]
            taken = step.receive >= 0
            got = offered[first + step.lane]
            result[threads[taken], step.receive[taken]] = got[taken]
        return result.reshape(len(registers), -1)


@dataclass(frozen=True, eq=False)
class ThroughShared:
    """Writers store their slots to a shared tile, a barrier, all load theirs.

    memory: layout of the shared tile, chosen against bank conflicts. writers: bool (threads,);
    copies do not write. source, target: where to store from and load to. cost: bytes that the
    transactions of both could have moved, and the barriers."""

    memory: MemoryLayout
    writers: np.ndarray
    source: RegisterLayout
    target: RegisterLayout
    cost: int

    def apply(self, registers: np.ndarray) -> np.ndarray:
        """registers: (threads, slots) of the source; returns those of the target."""
        shared = np.zeros(self.memory.size, registers.dtype)
        shared[self.memory.addresses(self.source)[self.writers]] = registers[self.writers]
        return shared[self.memory.addresses(self.target)]


Plan = Nothing | RegisterPermutation | WarpShuffles | ThroughShared


def difference(first: RegisterLayout, second: RegisterLayout) -> str | None:
    """Where two layouts of one tile differ first, in words; None if they are equal."""
    if first == second:
        return None
    for name, a, b in (
        ("shape", list(first.shape), list(second.shape)),
        ("threads", first.threads, second.threads),
        ("slots per thread", first.slots, second.slots),
    ):
        if a != b:
            return f"{name}: {first} has {a}, {second} has {b}"
    thread, slot = (int(x) for x in np.argwhere(first.flat() != second.flat())[0])
    return (
        f"thread {thread}, slot {slot} holds element {list(first(thread, slot))} in {first}, but "
        f"{list(second(thread, slot))} in {second}"
    )


def plan_relayout(
    source: RegisterLayout,
    target: RegisterLayout,
    warp_width: int = 32,
    bits: int | HasBits = 32,
    banks: str = "nvidia",
) -> Plan:
    """The cheapest way from `source` to `target`, for elements of `bits` bits.

    LayoutError if the tiles or the numbers of threads differ.
    """
    if source.shape != target.shape or source.threads != target.threads:
        raise LayoutError(
            f"no relayout from {source} ({list(source.shape)} over {source.threads} threads) to "
            f"{target} ({list(target.shape)} over {target.threads} threads): the tile and the "
            "number of "
            "threads must be the same"
        )
    if source == target:
        return Nothing()
    own = own_slots(source, target)
    if (own >= 0).all() and (own == own[:1]).all():
        return RegisterPermutation(tuple(own[0].tolist()))
    width = bit_width(bits)
    through = _through_shared(source, target, width, banks)
    shuffles = _shuffles(source, target, warp_width, width)
    if shuffles is not None and shuffles.cost <= through.cost:
        return shuffles
    return through


def own_slots(source: RegisterLayout, target: RegisterLayout) -> np.ndarray:
    """Which slot of the source holds, in the same thread, the element of each slot of the
    target; -1 for none: int64 (threads, slots of the target). The source may be of a shape that
    broadcasts to that of the target. LayoutError if the shapes or the numbers of threads do not
    fit."""
    if source.threads != target.threads:
        raise LayoutError(f"{source} has {source.threads} threads, {target} has {target.threads}")
    wide = source if source.shape == target.shape else source.broadcast(*target.shape)
    base = np.arange(wide.threads)[:, None] * wide.size
    keys = (base + wide.flat()).reshape(-1)
    order = np.argsort(keys)
    wanted = (base + target.flat()).reshape(-1)
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = order[at]
    # Copies made by broadcast are the outer digit of the slots.
    slots = np.where(keys[found] == wanted, found % source.slots, -1)
    return slots.reshape(target.threads, target.slots)


# -- shared memory -----------------------------------------------------------------------------


def _first_copies(layout: RegisterLayout) -> np.ndarray:
    """Threads all of whose replication digits are 0: bool (threads,)."""
    result = np.ones(1, bool)
    for m, size in zip(layout.spatial_modes, layout.spatial_sizes, strict=True):
        digit = np.ones(size, bool)
        digit[1:] = m >= 0
        result = (result[:, None] & digit[None, :]).reshape(-1)
    return result


def _through_shared(
    source: RegisterLayout, target: RegisterLayout, bits: int, banks: str
) -> ThroughShared:
    # Sub-byte and odd widths are stored one element per byte, half-word or word.
    unit = next(w for w in (8, 16, 32, 64, 128) if w >= min(bits, 128))
    accesses = [Access(source, write=True), Access(target)]
    memory = choose_swizzle(source.shape, unit, accesses, banks)
    transactions = sum(sum(a.simulate(memory, unit, banks).transactions) for a in accesses)
    cost = transactions * 128 + 2 * BARRIER_BYTES_PER_THREAD * source.threads
    return ThroughShared(memory, _first_copies(source), source, target, cost)


# -- shuffles ----------------------------------------------------------------------------------


def _common_vector(source: RegisterLayout, target: RegisterLayout) -> tuple[int, int]:
    """(axis, count): `count` consecutive elements of `axis` that both hold in consecutive
    slots."""
    runs = []
    for layout in (source, target):
        if not layout.local_modes or layout.slot_order:
            return 0, 1
        m = layout.local_modes[-1]
        if layout.mode_strides[m] != 1:
            return 0, 1
        runs.append((layout.mode_axes[m], layout.modes[m]))
    (axis, first), (other, second) = runs
    return (axis, gcd(first, second)) if axis == other else (0, 1)


def _shuffles(
    source: RegisterLayout, target: RegisterLayout, warp_width: int, bits: int
) -> WarpShuffles | None:
    if source.threads % warp_width and source.threads > warp_width:
        return None
    warp_width = min(warp_width, source.threads)
    axis, vector = _common_vector(source, target)
    if vector > 1:
        run = local(*(vector if a == axis else 1 for a in range(source.rank)))
        source, target = source / run, target / run
    planned = None
    if is_binary(source) and is_binary(target) and warp_width & (warp_width - 1) == 0:
        planned = _binary_rounds(source, target, warp_width)
    if planned is None:
        planned = _table_rounds(source, target, warp_width)
    if planned is None:
        return None
    keep, rounds = planned
    words = -(-vector * bits // 32)
    cost = len(rounds) * words * 4 * source.threads
    return WarpShuffles(warp_width, vector, keep, tuple(rounds), cost)


Rounds = tuple[np.ndarray, list[ShuffleRound]]


def _binary_rounds(
    source: RegisterLayout, target: RegisterLayout, warp_width: int
) -> Rounds | None:
    """Rounds from the F2 view, or None if data crosses warps or no linear schedule exists.

    Let target (slot', thread') lie at source (slot, thread), both linear. In round r thread t'
    receives its slot' = r ^ F t'. The lane it comes from is (A + B F) t' + B r; F is chosen on
    the kernel of A (lanes that would read the same lane) to give A + B F full rank, so that no
    two receivers ask one lane for different slots. Then what a lane sends is linear in the lane
    and r as well."""
    slot_bits = target.slots.bit_length() - 1
    lane_bits = warp_width.bit_length() - 1
    places = _places(source, target)
    source_slot_bits = source.slots.bit_length() - 1
    lane_mask = warp_width - 1

    def lane(place: int) -> int:
        return place >> source_slot_bits & lane_mask

    for i, place in enumerate(places):
        own_warp = 1 << i >> slot_bits >> lane_bits
        if place >> source_slot_bits >> lane_bits != own_warp:
            return None
    from_slots = [lane(place) for place in places[:slot_bits]]
    from_lanes = [lane(place) for place in places[slot_bits : slot_bits + lane_bits]]
    spread = _independent(from_slots, from_lanes)
    kernel = BinaryMatrix(tuple(from_lanes), lane_bits).kernel()
    exchange = [0] * lane_bits  # F, as columns over the lane bits
    for vector, slot_bit in zip(kernel, spread, strict=False):
        exchange[vector.bit_length() - 1] = 1 << slot_bit

    threads = np.arange(target.threads)
    moved = BinaryMatrix(tuple(exchange), max(1, slot_bits)).table()[threads % warp_width]
    table = BinaryMatrix(tuple(places), source_slot_bits + source.threads.bit_length() - 1).table()
    keep = np.full((target.threads, target.slots), -1)
    rounds = []
    for number in range(target.slots):
        receive = number ^ moved
        place = table[receive + (threads << slot_bits)]
        slot, thread = place & (source.slots - 1), place >> source_slot_bits
        if (thread == threads).all():
            keep[threads, receive] = slot
            continue
        send = np.full(target.threads, -1)
        send[thread] = slot
        if (send[thread] != slot).any():
            return None
        rounds.append(ShuffleRound(np.maximum(send, 0), thread % warp_width, receive))
    return keep, rounds


def _places(source: RegisterLayout, target: RegisterLayout) -> list[int]:
    """For each bit of the target's (slot, thread) number, where the source has that element:
    the number of slot and thread. Of several copies, the one whose copy digits are those of the
    asker."""
    have = register_to_binary(source)
    at = {column: 1 << i for i, column in enumerate(have.columns) if column}
    slot_bits = source.slots.bit_length() - 1
    places = []
    for i, column in enumerate(register_to_binary(target).columns):
        place = at[column] if column else 0
        own = i - (target.slots.bit_length() - 1) + slot_bits
        if i >= target.slots.bit_length() - 1 and have.columns[own] == 0:
            place ^= 1 << own
        places.append(place)
    return places


def _independent(candidates: Sequence[int], given: Sequence[int]) -> list[int]:
    """Numbers of the candidates that are independent of `given` and of those before them."""
    basis: list[int] = []

    def add(vector: int) -> bool:
        for b in basis:
            vector = min(vector, vector ^ b)
        if vector:
            basis.append(vector)
        return bool(vector)

    for vector in given:
        add(vector)
    return [i for i, vector in enumerate(candidates) if add(vector)]


@dataclass
class _Need:
    """A unit that a thread still has to receive, and the (lane, unit) that hold it in its
    warp."""

    slot: int
    holders: list[tuple[int, int]] = field(default_factory=list)


def _table_rounds(source: RegisterLayout, target: RegisterLayout, warp_width: int) -> Rounds | None:
    """Rounds for any sizes: in each, threads in turn (those that miss most first) take what a
    lane that is still free, or already offers it, can send. None if some element is not in the
    warp."""
    keep = own_slots(source, target)
    warps = source.threads // warp_width
    schedule: list[list[tuple[int, int, int, int]]] = []  # per round: thread, lane, unit, receive
    for warp in range(warps):
        first = warp * warp_width
        holders: dict[int, list[tuple[int, int]]] = {}
        for lane in range(warp_width):
            for slot, element in enumerate(source.flat()[first + lane].tolist()):
                holders.setdefault(element, []).append((lane, slot))
        needs: dict[int, list[_Need]] = {}
        for thread in range(first, first + warp_width):
            for slot in np.flatnonzero(keep[thread] < 0).tolist():
                element = int(target.flat()[thread, slot])
                if element not in holders:
                    return None
                needs.setdefault(thread, []).append(_Need(slot, holders[element]))
        number = 0
        while needs:
            if number == len(schedule):
                schedule.append([])
            offers: dict[int, int] = {}
            for thread in sorted(needs, key=lambda t: (-len(needs[t]), t)):
                for need in needs[thread]:
                    free = [
                        (lane, unit)
                        for lane, unit in need.holders
                        if offers.get(lane, unit) == unit
                    ]
                    if free:
                        lane, unit = min(free, key=lambda h: (h[0] not in offers, h))
                        offers[lane] = unit
                        schedule[number].append((thread, lane, unit, need.slot))
                        needs[thread].remove(need)
                        break
            needs = {thread: left for thread, left in needs.items() if left}
            number += 1
    rounds = []
    for step in schedule:
        send = np.zeros(source.threads, np.int64)
        lane_of = np.arange(source.threads) % warp_width
        receive = np.full(source.threads, -1)
        for thread, lane, unit, slot in step:
            send[thread - thread % warp_width + lane] = unit
            lane_of[thread] = lane
            receive[thread] = slot
        rounds.append(ShuffleRound(send, lane_of, receive))
    return keep, rounds
