"""Where shared tensors lie: a layout against bank conflicts, and an address, for each.

Layouts are chosen by simulating the accesses that the program makes. Addresses are given by first
fit among the tensors that are alive at the same time.
"""

from __future__ import annotations

import copy as shallow
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from vm.compiler.rewrite import Rewriter
from vm.errors import VmError, fail
from vm.isa import control
from vm.isa.asynchronous import CopyAsync
from vm.isa.instruction import Instruction, Operand
from vm.isa.kernel import Kernel
from vm.isa.mbarriers import CopyBulk, MbarrierAllocate
from vm.isa.memory import SharedAllocate
from vm.isa.synchronization import Synchronize
from vm.isa.types import Tile, Type, Value
from vm.layouts import (
    Access,
    LayoutError,
    MemoryLayout,
    RegisterLayout,
    choose_swizzle,
    default_layout,
    local,
    shared,
)

ALIGNMENT = 128
# The widest access, and what stages of a tensor begin at a multiple of.
ACCESS_BITS = 128
# Where mbarriers begin (PTX ISA, "Contents of the mbarrier object").
MBARRIER_ALIGNMENT = 8
# The forms of ldmatrix, as `Access` names them, by whose banks they are; both move 16-bit elements.
MATRIX_FORMS = {"nvidia": ("ldmatrix_x4", "ldmatrix_x4_trans")}


Allocation = SharedAllocate | MbarrierAllocate


@dataclass(frozen=True)
class Placed:
    """A planned allocation: bytes `address` to `address + size - 1`, while it is alive."""

    instruction: Allocation
    address: int
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


def plan_shared(kernel: Kernel, limit: int, banks: str = "nvidia") -> Kernel:
    """The kernel with a layout and an address for every shared tensor.

    `limit` is the shared memory of a block in bytes; raises E0405 where more is needed. `banks`
    names how that memory serves the accesses of a warp (see vm/layouts/banks.py). A tensor is
    alive from its allocation to the end of its block; what it leaves is used again only behind a
    `synchronize()` of the whole block, since others may still be reading it.
    """
    uses = _uses(kernel)
    layouts = {
        instruction: shared_layout_for(instruction, uses.get(instruction.result, ()), banks)
        for instruction in control.walk(kernel.body)
        if isinstance(instruction, SharedAllocate)
    }
    places = _Placement(layouts).placed(kernel.body)
    largest = max((place.end for place in places.values()), default=0)
    if largest > limit:
        raise _too_much(places, largest, limit)
    return _PlanWriter(kernel, layouts, places).run()


def planned_bytes(kernel: Kernel) -> int:
    """The end of the last allocation of a planned kernel: what is behind it is free."""
    ends = [
        instruction.address + instruction.result.type.bytes
        for instruction in control.walk(kernel.body)
        if isinstance(instruction, Allocation)
    ]
    return max(ends, default=0)


def _too_much(places: dict[Allocation, Placed], largest: int, limit: int) -> VmError:
    ordered = sorted(places.values(), key=lambda place: (place.address, place.end))
    last = max(ordered, key=lambda place: place.end).instruction
    rows = [
        f"{place.size:>8} bytes at {place.address:>7}: {each.result.name or 'unnamed'}, "
        f"{_shown(each)}{list(each.shape)}, allocated at {each.origin.line}:{each.origin.column}"
        for place in ordered
        for each in (place.instruction,)
    ]
    return fail(
        "E0405", f"{largest} bytes of shared memory, {limit} are there", last.origin,
        "does not fit any more", notes=tuple(rows),
        fix="use smaller tiles or fewer stages, or free tensors early: allocate them in a block of "
        "their own and synchronize behind it",
    )  # fmt: skip


def _shown(allocation: Allocation) -> str:
    return allocation.dtype.name if isinstance(allocation, SharedAllocate) else "mbarriers"


# --- layouts ---
@dataclass(frozen=True)
class Use:
    """An access of a tile of a shared tensor: `register` is None where it is asynchronous, and
    `whole` says that it moves the tile as one run of bytes."""

    tile: Tile
    register: RegisterLayout | None
    write: bool
    threads: int
    whole: bool = False


def _uses(kernel: Kernel) -> dict[Value, list[Use]]:
    """How each shared tensor is accessed, in the order of the program."""
    found: dict[Value, list[Use]] = {}
    for instruction in control.walk(kernel.body):
        for tile, use in _tile_uses(instruction):
            found.setdefault(tile.base, []).append(use)
    return found


def _tile_uses(instruction: Instruction) -> Iterator[tuple[Tile, Use]]:
    threads = instruction.scope.threads
    constraint = instruction.constrain()
    moved = constraint.accesses if constraint is not None else None
    for name, item in instruction.fields.items():
        tile = getattr(instruction, name) if isinstance(item, Operand) else None
        if not isinstance(tile, Tile) or tile.base.type.space != "shared":
            continue
        if isinstance(instruction, CopyAsync):
            yield tile, Use(tile, None, True, threads)
        elif isinstance(instruction, CopyBulk):
            yield tile, Use(tile, None, True, threads, whole=True)
        elif name == moved:
            value = instruction.results[0] if instruction.results else instruction.value
            yield tile, Use(tile, value.type.layout, not instruction.results, threads)


def shared_layout_for(
    instruction: SharedAllocate, uses: tuple[Use, ...] | list[Use], banks: str
) -> MemoryLayout:
    """The layout of an allocation: the author's, or the best one for its accesses."""
    if instruction.layout is not None:
        _check_given(instruction)
        return instruction.layout
    bits, shape = instruction.dtype.bits, instruction.shape
    leading = [_leading(use.tile) for use in uses]
    stages = min([*leading, len(shape) - 1]) if leading else 0
    inner = shape[stages:]
    accesses = []
    for use in uses:
        access = _access(use, inner, bits, banks) if not use.whole else None
        if access is not None and access not in accesses:
            accesses.append(access)
    plain = any(use.whole for use in uses)
    layout = shared(*inner) if plain else _swizzled(inner, bits, tuple(accesses), banks)
    for extent in reversed(shape[:stages]):
        layout = staged(layout, extent, bits)
    return layout


def _check_given(instruction: SharedAllocate) -> None:
    layout = instruction.layout
    if not isinstance(layout, MemoryLayout) or not layout.is_injective():
        what = "is no layout of memory" if not isinstance(layout, MemoryLayout) else (
            "puts two elements at one place"
        )  # fmt: skip
        raise instruction.refuse(
            "E0304", f"{layout} {what}", "layout", "here",
            fix="write shared(...), with .swizzle(...) or .pad(...) where needed",
        )  # fmt: skip


def _leading(tile: Tile) -> int:
    """How many of the first dimensions are indexed by one position."""
    count = 0
    for extent in tile.extents:
        if extent is not None:
            break
        count += 1
    return count


def staged(layout: MemoryLayout, count: int, bits: int) -> MemoryLayout:
    """Copies along a new first axis, alike in swizzle and in alignment to 16 bytes."""
    unit = ACCESS_BITS // gcd(ACCESS_BITS, bits)
    if layout.swizzling is not None:
        unit = max(unit, layout.swizzling.period)
    step = -(-layout.size // unit) * unit
    return MemoryLayout(
        (count, *layout.shape), (count, *layout.modes), (step, *layout.strides), layout.swizzling
    )


def _access(use: Use, inner: tuple[int, ...], bits: int, banks: str) -> Access | None:
    """The access as one of all tiles of `inner`; None where tiles do not divide it, or threads
    address elements of their own choice."""
    extents = tuple(1 if e is None else e for e in use.tile.extents)[-len(inner) :]
    if any(whole % extent for whole, extent in zip(inner, extents, strict=True)):
        return None
    copies = local(*(whole // extent for whole, extent in zip(inner, extents, strict=True)))
    parts = enumerate(zip(inner, extents, strict=True))
    moving = tuple(axis for axis, (whole, extent) in parts if extent != whole)
    if use.register is None:
        run = gcd(extents[-1], max(1, ACCESS_BITS // bits))
        layout = copies * default_layout(extents, use.threads, run)
        # Small tiles are spread over the threads in shorter runs.
        widths = (Access(layout, width, write=True, moving=moving) for width in (16, 8, 4))
        return next((access for access in widths if _possible(access, inner, bits, banks)), None)
    if use.register.shape != use.tile.shape:
        return None
    register = copies * use.register.reshape(*extents)
    for form in MATRIX_FORMS.get(banks, ()) if not use.write and bits == 16 else ():
        access = Access(register, matrix=form, moving=moving)
        if _possible(access, inner, bits, banks):
            return access
    access = Access(register, write=use.write, moving=moving)
    return access if _possible(access, inner, bits, banks) else None


def _possible(access: Access, shape: tuple[int, ...], bits: int, banks: str) -> bool:
    try:
        access.simulate(shared(*shape), bits, banks)
    except LayoutError:
        return False
    return True


@lru_cache(maxsize=256)
def _swizzled(
    shape: tuple[int, ...], bits: int, accesses: tuple[Access, ...], banks: str
) -> MemoryLayout:
    return choose_swizzle(shape, bits, accesses, banks) if accesses else shared(*shape)


# --- addresses ---
class _Placement:
    """First fit, block by block.

    A tensor that is no longer alive is *left* until a barrier of the whole block, then free.
    """

    def __init__(self, layouts: dict[SharedAllocate, MemoryLayout]):
        self.layouts = layouts
        self.places: dict[Allocation, Placed] = {}

    def placed(self, body: list[Instruction]) -> dict[Allocation, Placed]:
        self._block(body, [], False)
        return self.places

    def _block(
        self, statements: list[Instruction], taken: list[Placed], loop: bool
    ) -> list[Placed]:
        """Places what a block allocates beside what is `taken`; returns what it leaves behind.

        In a loop nothing is free before its end, since the next turn comes without a barrier.
        """
        alive: list[Placed] = []
        left: list[Placed] = []
        for instruction in statements:
            if isinstance(instruction, Synchronize):
                left = left if loop or instruction.scope.group is not None else []
            elif isinstance(instruction, Allocation):
                alive.append(self._place(instruction, [*taken, *alive, *left]))
            for block in instruction.blocks():
                inside = loop or isinstance(instruction, (control.For, control.While))
                left += self._block(block, [*taken, *alive, *left], inside)
        return [*alive, *left]

    def _place(self, instruction: Allocation, taken: list[Placed]) -> Placed:
        if isinstance(instruction, MbarrierAllocate):
            size, alignment = instruction.result.type.bytes, MBARRIER_ALIGNMENT
        else:
            layout, bits = self.layouts[instruction], instruction.dtype.bits
            size = -(-layout.size * bits // 8)
            alignment = alignment_of(layout, bits)
        address = 0
        for other in sorted(taken, key=lambda place: place.address):
            if address + size <= other.address:
                break
            if other.end > address:
                address = -(-other.end // alignment) * alignment
        self.places[instruction] = Placed(instruction, address, size)
        return self.places[instruction]


def alignment_of(layout: MemoryLayout, bits: int) -> int:
    """128 bytes, or the period of the swizzle where that is longer."""
    period = layout.swizzling.period * bits if layout.swizzling is not None else 0
    return max(ALIGNMENT, period // 8) if period % (8 * ALIGNMENT) == 0 else ALIGNMENT


class _PlanWriter(Rewriter):
    """Copies a kernel with layouts and addresses in its allocations."""

    def __init__(self, kernel: Kernel, layouts: dict, places: dict[Allocation, Placed]):
        super().__init__(kernel)
        self.layouts, self.places = layouts, places
        self.types: dict[Value, Type] = {}

    def rewrite(self, instruction: Instruction) -> None:
        if not isinstance(instruction, Allocation):
            self.copy(instruction)
            return
        made = shallow.copy(instruction)
        made.address = self.places[instruction].address
        if isinstance(made, SharedAllocate):
            made.layout = self.layouts[instruction]
        self.types[instruction.result] = made.check()
        made.results = (self.define(instruction.result),)
        self.append(made)

    def result_type(self, value: Value) -> Type:
        return self.types.get(value, value.type)
