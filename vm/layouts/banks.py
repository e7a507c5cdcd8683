"""Bank conflicts of shared memory by simulation, and the swizzle that has none.

A warp's access is executed in phases; in one phase each bank gives one word, to all lanes that
ask for that word. So a phase takes as many transactions as the busiest bank has different
words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

import numpy as np

from vm.layouts.common import HasBits, bit_width
from vm.layouts.errors import LayoutError
from vm.layouts.fragments import TRANSFERS, MatrixTransfer
from vm.layouts.memory import MemoryLayout, shared
from vm.layouts.register import RegisterLayout, local
from vm.layouts.shared_memories import Banks, Phases, banks_of


@dataclass(frozen=True)
class BankReport:
    """What an access of a whole tile costs. An access is one instruction of one warp; of ldmatrix
    it is one of the matrices.

    transactions, ideal: of each access, in order of warp, then slot; ideal is what the same
    words would take if the banks shared them evenly. access_bytes: per lane (16 per row for
    ldmatrix). instruction: its name on the target."""

    target: str
    instruction: str
    access_bytes: int
    transactions: tuple[int, ...]
    ideal: tuple[int, ...]

    @property
    def conflicts(self) -> int:
        """Transactions beyond the ideal."""
        return sum(self.transactions) - sum(self.ideal)

    @property
    def worst(self) -> int:
        """The access (its number) that loses most."""
        lost = [t - i for t, i in zip(self.transactions, self.ideal, strict=True)]
        return max(range(len(lost)), key=lost.__getitem__, default=0)

    def __str__(self) -> str:
        total, ideal = sum(self.transactions), sum(self.ideal)
        head = f"{len(self.transactions)} x {self.instruction} ({self.target}): "
        if total == ideal:
            return head + f"{total} transactions, free of conflicts"
        return head + (
            f"{total} transactions, {ideal} would do ({total / ideal:.2f}x); worst is access "
            f"{self.worst}: {self.transactions[self.worst]} instead of {self.ideal[self.worst]}"
        )


@dataclass(frozen=True)
class Access:
    """How a register tile is loaded from or stored to a shared tile.

    access_bytes: per lane and instruction; None for the widest the layouts allow. matrix: the
    ldmatrix or stmatrix form that moves it, instead. moving: axes along which the tile is a part
    whose place is known at run time only; where the swizzle does not repeat from part to part,
    neighbours cannot be moved together."""

    register: RegisterLayout
    access_bytes: int | None = None
    matrix: str | None = None
    write: bool = False
    moving: tuple[int, ...] = ()

    def simulate(
        self, memory: MemoryLayout, bits: int | HasBits, target: str | Banks = "nvidia"
    ) -> BankReport:
        """Transactions with the tile laid out as `memory`."""
        access_bytes = self.access_bytes
        if not self._repeats(memory):
            if self.matrix is not None or access_bytes is not None:
                raise LayoutError(f"the swizzle of {memory} differs from part to part")
            access_bytes = max(1, bit_width(bits) // 8)
        if self.matrix is not None:
            return matrix_conflicts(memory, self.register, self.matrix, target)
        return bank_conflicts(memory, self.register, bits, access_bytes, target, write=self.write)

    def _repeats(self, memory: MemoryLayout) -> bool:
        """Whether every part that the tile may be is swizzled alike."""
        if memory.swizzling is None:
            return True
        moved = zip(memory.mode_axes, memory.strides, strict=True)
        period = memory.swizzling.period
        return all(stride % period == 0 for axis, stride in moved if axis in self.moving)

    def is_possible(
        self, memory: MemoryLayout, bits: int | HasBits, target: str | Banks = "nvidia"
    ) -> bool:
        """Whether the layouts allow it."""
        try:
            self.simulate(memory, bits, target)
        except LayoutError:
            return False
        return True


def vector_width(
    memory: MemoryLayout,
    register: RegisterLayout,
    bits: int | HasBits,
    *,
    largest: int = 16,
    alignment: int = 16,
) -> int:
    """How many elements of consecutive slots one access can move: contiguous in memory for
    every thread, and aligned to their own size, given a base that is aligned to `alignment`
    bytes. At most `largest` bytes. 1 if nothing wider is possible."""
    width = bit_width(bits)
    addresses = memory.addresses(register)
    best, count = 1, 2
    while count * width <= 8 * min(largest, alignment) and register.slots % count == 0:
        groups = addresses.reshape(register.threads, -1, count)
        if (groups != groups[:, :, :1] + np.arange(count)).any() or (groups[:, :, 0] % count).any():
            break
        if count * width % 8 == 0:
            best = count
        count *= 2
    return best


def _byte_addresses(
    memory: MemoryLayout, register: RegisterLayout, bits: int, access_bytes: int | None
) -> tuple[np.ndarray, int]:
    """First byte of each access, (threads, accesses), and the bytes of an access."""
    if access_bytes is None:
        access_bytes = max(1, vector_width(memory, register, bits) * bits // 8)
    count, odd = divmod(access_bytes * 8, bits)
    if access_bytes not in (1, 2, 4, 8, 16) or odd or register.slots % count:
        raise LayoutError(
            f"accesses of {access_bytes} bytes do not divide the {register.slots} slots of "
            f"{bits} bits "
            f"of {register}; 1, 2, 4, 8 or 16 bytes of whole elements can"
        )
    groups = memory.addresses(register).reshape(register.threads, -1, count)
    broken = (groups != groups[:, :, :1] + np.arange(count)).any(2) | (groups[:, :, 0] % count != 0)
    if broken.any():
        thread, access = (int(x) for x in np.argwhere(broken)[0])
        raise LayoutError(
            f"thread {thread} of {register} does not hold {count} consecutive aligned elements of "
            f"{memory} in slots {access * count}..{access * count + count - 1} (offsets "
            f"{groups[thread, access].tolist()}), so {access_bytes} bytes are no one access; "
            f"{max(1, vector_width(memory, register, bits) * bits // 8)} bytes would be"
        )
    return groups[:, :, 0] * bits // 8, access_bytes


def _transactions(
    first: np.ndarray, access_bytes: int, machine: Banks
) -> tuple[np.ndarray, np.ndarray]:
    """Of rows of byte addresses, a row being one phase: transactions and their ideal."""
    words = max(1, access_bytes // machine.word_bytes)
    word = first[:, :, None] // machine.word_bytes + np.arange(words)
    word = np.sort(word.reshape(len(first), -1), axis=1)
    fresh = np.ones(word.shape, bool)
    fresh[:, 1:] = word[:, 1:] != word[:, :-1]
    key = np.arange(len(word))[:, None] * machine.banks + word % machine.banks
    counts = np.bincount(key[fresh], minlength=len(word) * machine.banks)
    busiest = counts.reshape(len(word), machine.banks).max(1)
    return busiest, -(-fresh.sum(1) // machine.banks)


def _report(
    first: np.ndarray, instruction: str, access_bytes: int, phases: Phases, machine: Banks
) -> BankReport:
    """first: byte addresses (warps, lanes, accesses)."""
    warps, _, accesses = first.shape
    lanes = np.array(phases)
    rows = first[:, lanes, :].transpose(0, 3, 1, 2).reshape(-1, lanes.shape[1])
    busiest, ideal = _transactions(rows, access_bytes, machine)
    shape = (warps * accesses, len(phases))
    return BankReport(
        machine.name,
        instruction,
        access_bytes,
        tuple(busiest.reshape(shape).sum(1).tolist()),
        tuple(ideal.reshape(shape).sum(1).tolist()),
    )


def _by_warp(first: np.ndarray, warp_width: int) -> np.ndarray:
    """(threads, accesses) -> (warps, lanes, accesses); a partial warp repeats its last lane,
    which asks for nothing new."""
    missing = -len(first) % warp_width
    if missing:
        first = np.concatenate([first, np.repeat(first[-1:], missing, axis=0)])
    return first.reshape(-1, warp_width, first.shape[1])


def bank_conflicts(
    memory: MemoryLayout,
    register: RegisterLayout,
    bits: int | HasBits,
    access_bytes: int | None = None,
    target: str | Banks = "nvidia",
    *,
    write: bool = False,
) -> BankReport:
    """Simulates loading (or storing) a register tile, `access_bytes` per lane and instruction
    (None: the widest possible). LayoutError if slots are not consecutive and aligned in memory
    for that."""
    machine = banks_of(target)
    first, access_bytes = _byte_addresses(memory, register, bit_width(bits), access_bytes)
    phases = (machine.writes if write else machine.reads)[max(4, access_bytes)]
    name = machine.instruction(access_bytes, write)
    return _report(_by_warp(first, machine.warp_width), name, access_bytes, phases, machine)


def matrix_conflicts(
    memory: MemoryLayout,
    register: RegisterLayout,
    form: str | MatrixTransfer,
    target: str | Banks = "nvidia",
) -> BankReport:
    """Simulates ldmatrix or stmatrix of a register tile that is a multiple of the form's
    matrix: a phase is one matrix, 8 rows of 16 bytes. LayoutError if it is no multiple or a row
    is not contiguous."""
    row = TRANSFERS.get(form) if isinstance(form, str) else form
    if row is None:
        raise LayoutError(f"no matrix transfer is called {form!r}, only {', '.join(TRANSFERS)}")
    machine = banks_of(target)
    quotient = register / row.atom.with_rank(register.rank)
    rows, columns = row.atom.shape
    matrices = memory.addresses(register).reshape(
        quotient.threads, row.atom.threads, quotient.slots, row.atom.slots
    )
    lanes, slots = np.divmod(row.atom.owner().reshape(rows, columns), row.atom.slots)
    elements = matrices[:, lanes, :, slots]  # rows, columns, warps, matrices
    broken = (elements != elements[:, :1] + np.arange(columns)[None, :, None, None]).any(1)
    broken |= elements[:, 0] % columns != 0
    if broken.any():
        r, warp, matrix = (int(x) for x in np.argwhere(broken)[0])
        raise LayoutError(
            f"{row.name} needs rows of 16 contiguous aligned bytes: row {r} of matrix {matrix} "
            "of warp "
            f"{warp} lies at offsets {elements[r, :, warp, matrix].tolist()} in {memory}"
        )
    first = elements[:, 0].transpose(1, 0, 2) * row.bits // 8
    return _report(first, f"a matrix of {row.name}", 16, (tuple(range(rows)),), machine)


def sectors_per_request(
    memory: MemoryLayout,
    register: RegisterLayout,
    bits: int | HasBits,
    access_bytes: int | None = None,
    target: str | Banks = "nvidia",
) -> tuple[float, float]:
    """Coalescing of a load of global memory: mean sectors per request of a warp, and the fewest
    that its bytes would fill. A base aligned to a sector is assumed."""
    machine = banks_of(target)
    first, access_bytes = _byte_addresses(memory, register, bit_width(bits), access_bytes)
    rows = _by_warp(first, machine.warp_width).transpose(0, 2, 1).reshape(-1, machine.warp_width)
    sectors = np.sort(rows // machine.sector_bytes, axis=1)
    touched = 1 + (sectors[:, 1:] != sectors[:, :-1]).sum(1)
    distinct = np.sort(rows, axis=1)
    counts = 1 + (distinct[:, 1:] != distinct[:, :-1]).sum(1)
    fewest = -(-counts * access_bytes // machine.sector_bytes)
    return float(touched.mean()), float(fewest.mean())


# A multiprocessor has four schedulers and one shared memory: in the time of a transaction it issues
# four instructions (CUDA C++ Programming Guide, compute capabilities 7.x to 9.0).
ISSUES_PER_TRANSACTION = 4


def choose_swizzle(
    shape: Sequence[int],
    bits: int | HasBits,
    accesses: Sequence[Access],
    target: str | Banks = "nvidia",
) -> MemoryLayout:
    """The row-major layout of a tile, swizzled where that helps, at the least cost over all
    accesses: ISSUES_PER_TRANSACTION for each transaction and 1 for each instruction. Its proof is
    Access.simulate of each.

    Tried in order, and the first best is taken: plain; XOR swizzles of pieces of 16 bytes, then of
    8 and 4, which split wider accesses (unless their width is given), fewest bits first; 16 bytes
    of padding behind each part where an access moves from part to part. A layout on which an access
    is not possible at all is no candidate; LayoutError if there is none. Padded rows are not tried:
    over 352 combinations of tile and access they were never better than a swizzle."""
    return _chosen(tuple(shape), bit_width(bits), tuple(accesses), banks_of(target))


@lru_cache(maxsize=256)
def _chosen(
    shape: tuple[int, ...], bits: int, accesses: tuple[Access, ...], machine: Banks
) -> MemoryLayout:
    plain = shared(*shape)
    best: tuple[int, MemoryLayout] | None = None
    reason: LayoutError | None = None
    moving = sorted({axis for access in accesses for axis in access.moving})
    for candidate in _candidates(plain, bits, moving):
        try:
            reports = [access.simulate(candidate, bits, machine) for access in accesses]
        except LayoutError as error:
            reason = reason or error
            continue
        cost = sum(
            ISSUES_PER_TRANSACTION * sum(report.transactions) + len(report.transactions)
            for report in reports
        )
        if best is None or cost < best[0]:
            best = cost, candidate
        if not any(report.conflicts for report in reports):
            break
    if best is None:
        raise LayoutError(f"no layout of {list(shape)} allows all accesses: {reason}")
    return best[1]


def _candidates(plain: MemoryLayout, bits: int, moving: Sequence[int]) -> Iterator[MemoryLayout]:
    yield plain
    reach = (plain.elements - 1).bit_length()
    for width in (16, 8, 4):
        piece, odd = divmod(width * 8, bits)
        if odd or piece & (piece - 1) or not piece:
            continue
        base = piece.bit_length() - 1
        for count in range(1, 6):
            # A swizzle that leaves its tile would need more memory than the tile.
            if plain.elements % (piece << count):
                break
            for shift in range(count, max(count, reach - base - count) + 1):
                yield plain.swizzle(base, count, shift)
    for axis in moving:
        every = prod(plain.shape[axis + 1 :])
        if every > 1 and 128 % bits == 0:
            yield plain.pad(128 // bits, every)


def typical_accesses(
    memory: MemoryLayout,
    bits: int | HasBits,
    access_bytes: int = 16,
    target: str | Banks = "nvidia",
    *,
    write: bool = False,
) -> dict[str, Access]:
    """Accesses by which a tile is judged when none is given: one warp along its contiguous axis, as
    a copy does; across it, one line per lane; and by ldmatrix, if elements have 16 bits.

    Those that the layout does not allow with `access_bytes` per lane are left out. The axes before
    the last two are repeated in each thread."""
    machine, width = banks_of(target), bit_width(bits)
    rows, columns = (1, 1, *memory.shape)[-2:]
    run = access_bytes * 8 // width
    result: dict[str, Access] = {}
    for turned, names in ((False, ("along rows", "down columns")),
                          (True, ("along columns", "across rows"))):  # fmt: skip
        extents = (columns, rows) if turned else (rows, columns)
        if result or run < 1 or extents[1] % run:
            continue
        for name, tile in zip(names, _tiles(*extents, run, machine.warp_width), strict=False):
            register = _whole(tile.transpose() if turned else tile, memory)
            access = Access(register, access_bytes, write=write)
            if access.is_possible(memory, width, machine):
                result[name] = access
    if machine.matrices and width == 16 and not write and rows % 8 == columns % 8 == 0:
        for form in ("ldmatrix_x4", "ldmatrix_x4_trans"):
            matrices = local(rows // 8, columns // 8) * TRANSFERS[form].atom
            access = Access(_whole(matrices, memory), matrix=form)
            if access.is_possible(memory, width, machine):
                result[form.replace("_x4", "").replace("_trans", " transposed")] = access
    return result


def _tiles(rows: int, columns: int, run: int, lanes: int) -> tuple[RegisterLayout, ...]:
    """Runs of a tile by one warp: neighbouring lanes along a row; a row for each lane."""
    wide = gcd(lanes, columns // run)
    high = gcd(lanes // wide, rows)
    tall = gcd(lanes, rows)
    along = local(rows // high, columns // run // wide).replicated(lanes // wide // high)
    across = local(rows // tall, columns // run).spatial(tall, 1).local(1, run)
    return along.spatial(high, wide).local(1, run), *((across,) if tall > 1 else ())


def _whole(tile: RegisterLayout, memory: MemoryLayout) -> RegisterLayout:
    """A layout of the last two axes for all of them, the others repeated in each thread."""
    leading = memory.shape[:-2]
    repeated = (local(*leading, 1, 1) * tile) if leading else tile
    return repeated.reshape(*memory.shape)
