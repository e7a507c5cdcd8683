"""Mbarriers and bulk copies on NVIDIA GPUs from sm_90 on: mbarrier and cp.async.bulk.

sm_80 has mbarriers but none that count bytes: there `mbarrier_expect` has nothing to become.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from vm.compiler.addresses import GlobalAccess, SharedAccess
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.nvidia_rules import NVIDIA, WARP
from vm.isa import control, nvidia_bulk
from vm.isa.elementwise import Add, And, GreaterEqual, Less
from vm.isa.instruction import Instruction
from vm.isa.mbarriers import (
    BULK_BYTES,
    CopyBulk,
    MbarrierAllocate,
    MbarrierArrive,
    MbarrierExpect,
    MbarrierWait,
)
from vm.isa.memory import SharedAllocate
from vm.isa.synchronization import Synchronize
from vm.isa.types import INDEX, GlobalType, Immediate, MbarrierType, Tile, Value
from vm.layouts import RegisterLayout, local, shared

HOPPER = 90
BULK_BITS = 8 * BULK_BYTES

rule = NVIDIA.rule

NVIDIA.lack(
    nvidia_bulk.MbarrierInit, nvidia_bulk.MbarrierArrive, nvidia_bulk.MbarrierExpect,
    nvidia_bulk.MbarrierWait, nvidia_bulk.CopyBulk, nvidia_bulk.Fence, nvidia_bulk.Elect,
    because="it came with sm_90", below=HOPPER,
)  # fmt: skip


@rule(MbarrierAllocate, capability=HOPPER)
def made_by_threads(s: Selection, i: MbarrierAllocate) -> Value:
    """Each thread makes one; a fence and a barrier of the block make them known."""
    type_: MbarrierType = i.result.type
    memory = s.emit(
        SharedAllocate, None, i.result.name, dtype=type_.dtype, shape=type_.shape,
        layout=shared(*type_.shape), address=i.address,
    )  # fmt: skip
    count, threads, thread = prod(type_.shape), i.scope.threads, s.thread()
    size = type_.dtype.bits // 8
    for first in range(0, count, threads):
        inside = s.compute(Less, thread, count - first) if count - first < threads else None
        address = s.add(s.multiply(thread, size), Immediate(i.address + first * size, INDEX))
        s.emit(nvidia_bulk.MbarrierInit, address=address, arrivals=i.warps, predicate=inside)
    s.emit(nvidia_bulk.Fence, of="mbarrier_init")
    s.emit(Synchronize)
    return memory


@rule(MbarrierArrive, capability=HOPPER)
def one_lane_of_each_warp_arrives(s: Selection, i: MbarrierArrive) -> None:
    """The lanes of each warp meet, then one of them arrives for all."""
    address = _address(s, i)
    s.emit(nvidia_bulk.SyncWarp)
    s.emit(nvidia_bulk.MbarrierArrive, address=address, predicate=s.emit(nvidia_bulk.Elect))


@rule(MbarrierExpect, capability=HOPPER)
def one_thread_expects(s: Selection, i: MbarrierExpect) -> None:
    """A thread of the first warp arrives for it and expects the bytes; others arrive for theirs."""
    address, count = _address(s, i), s.spread(s.operand(i.bytes))
    s.emit(nvidia_bulk.SyncWarp)
    s.emit(nvidia_bulk.MbarrierExpect, address=address, bytes=count, predicate=_one_thread(s))
    if i.scope.threads > WARP:
        others = s.compute(GreaterEqual, s.thread(), WARP)
        one_of_each = s.compute(And, s.emit(nvidia_bulk.Elect), others)
        s.emit(nvidia_bulk.MbarrierArrive, address=address, predicate=one_of_each)


@rule(MbarrierWait, capability=HOPPER)
def every_thread_waits(s: Selection, i: MbarrierWait) -> None:
    """Every thread waits by itself, so that each sees what the phase brought."""
    s.emit(nvidia_bulk.MbarrierWait, address=_address(s, i), parity=s.spread(s.operand(i.parity)))


@rule(CopyBulk, capability=HOPPER)
def copied_by_the_engine(s: Selection, i: CopyBulk) -> None:
    """One thread asks the copy engine for the whole run."""
    target, source = s.operand(i.target), s.operand(i.source)
    one = RegisterLayout((), (), (-i.scope.threads,), ())
    there = SharedAccess(s, _first_element(target), one)
    _require_run(s, target)
    _require_aligned(s, source)
    here = GlobalAccess(s, _first_element(source), one, True)
    ((address, plus),) = there.addresses([0])
    if _written_otherwise(s, i.target.base):
        s.emit(nvidia_bulk.Fence, of="async_shared")
    if i.source.base.type.is_written:
        s.emit(nvidia_bulk.Fence, of="async_global")
    s.emit(
        nvidia_bulk.CopyBulk, address=s.compute(Add, address, plus), base=here.whole,
        offset=here.place(), barrier=_address(s, i), bytes=i.bits // 8,
        predicate=_one_thread(s),
    )  # fmt: skip


def _one_thread(s: Selection) -> Any:
    """True in one thread of the first warp."""
    elected = s.emit(nvidia_bulk.Elect)
    if s.scope.threads <= WARP:
        return elected
    return s.compute(And, elected, s.compute(Less, s.thread(), WARP))


def _address(s: Selection, i: Any) -> Any:
    """The address of the mbarrier of an instruction, one in each thread."""
    one = RegisterLayout((), (), (-i.scope.threads,), ())
    ((address, plus),) = SharedAccess(s, s.operand(i.barrier), one).addresses([0])
    return s.compute(Add, address, plus)


def _first_element(tile: Tile) -> Tile:
    return Tile(tile.base, tile.offsets, (None,) * len(tile.offsets), tile.origin)


def _require_run(s: Selection, tile: Tile) -> None:
    """Refuses a shared tile that is not one aligned run where its tensor's layout puts it."""
    run = SharedAccess(s, tile, local(*tile.shape))
    unit = BULK_BITS // np.gcd(BULK_BITS, run.bits)
    if not np.array_equal(run.table[0], run.table[0, 0] + np.arange(run.layout.slots)):
        raise Refused("its layout in shared memory scatters the tile")
    if run.table[0, 0] % unit or not s.facts.divides(int(unit), run.moved):
        raise Refused(f"the tile in shared memory is not known to begin at {BULK_BYTES} bytes")


def _require_aligned(s: Selection, tile: Tile) -> None:
    """Refuses a global tile that is not known to begin at a multiple of 16 bytes."""
    type_: GlobalType = tile.base.type
    aligned = s.facts.alignment(tile.base) % BULK_BYTES == 0
    step = type_.dtype.bits
    for axis in reversed(range(len(type_.shape))):
        aligned &= s.facts.divisor(tile.offsets[axis]) * step % BULK_BITS == 0
        step *= s.facts.divisor(s.expression(type_.shape[axis]))
        # Rows begin at whole bytes.
        step = step if step % 8 == 0 else 8
    if not aligned:
        raise Refused(
            f"the source is not known to begin at a multiple of {BULK_BYTES} bytes: say "
            f"aligned({tile.base.name}, {BULK_BYTES}), and by what sizes divide"
        )


def _written_otherwise(s: Selection, target: Value) -> bool:
    """Whether anything but bulk copies may write the memory of a shared tensor: the copy engine
    sees such writes behind a fence only."""
    return any(
        _writes(i, target) or _overlap(s, i, target) for i in control.walk(s.kernel.body)
    )


def _writes(i: Instruction, target: Value) -> bool:
    tile = getattr(i, "target", None)
    return isinstance(tile, Tile) and tile.base is target and not isinstance(i, CopyBulk)


def _overlap(s: Selection, i: Instruction, target: Value) -> bool:
    """Whether an instruction allocates another tensor where the target is."""
    if not isinstance(i, SharedAllocate) or i.result is target:
        return False
    first = s.facts.definitions[s.values[target]].address
    end = first + target.type.bytes
    return i.address < end and first < i.address + i.result.type.bytes
