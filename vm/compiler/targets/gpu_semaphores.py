"""Memory that a launch owns, and blocks that wait for each other: one thread polls or signals for
its group, behind a barrier of the group."""

from __future__ import annotations

from typing import Any

from vm.compiler.addresses import I64
from vm.compiler.launch_memory import SEMAPHORE_BYTES
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.isa.elementwise import Equal
from vm.isa.launch_memory import (
    GlobalAllocate,
    SemaphoreAllocate,
    SemaphoreRelease,
    SemaphoreWait,
)
from vm.isa.synchronization import Synchronize
from vm.isa.types import Immediate, Tile, Value, whole_tile

rule = COMMON.rule


@rule(GlobalAllocate)
def part_of_the_workspace(s: Selection, i: GlobalAllocate) -> Value:
    """It begins behind those before it in what the runtime gives the launch."""
    return s.emit(
        GlobalAllocate, None, i.result.name, dtype=i.dtype, shape=i.shape,
        offset=s.expression(s.launch_memory.offsets[i], I64),
    )  # fmt: skip


@rule(SemaphoreAllocate)
def part_of_the_semaphores(s: Selection, i: SemaphoreAllocate) -> Value:
    """They begin behind those before them in what the runtime gives the launch."""
    return s.emit(
        SemaphoreAllocate, None, i.result.name, shape=i.shape,
        offset=s.expression(s.launch_memory.offsets[i], I64),
    )  # fmt: skip


@rule(SemaphoreWait)
def one_thread_waits(s: Selection, i: SemaphoreWait) -> None:
    """The last thread polls the word; a barrier keeps the others until it has seen the value. It is
    in another warp than the first where there are several, which may still be at a release: that
    takes as long as its memory takes to see what was written."""
    tile, value = s.operand(i.semaphore), s.operand(i.value)
    s.emit(s.machine.wait_for, **_access(s, tile, value, i.scope.threads - 1))
    s.emit(Synchronize)


@rule(SemaphoreRelease)
def one_thread_signals(s: Selection, i: SemaphoreRelease) -> None:
    """When all threads have come to a barrier, the first stores the value."""
    tile, value = s.operand(i.semaphore), s.operand(i.value)
    s.emit(Synchronize)
    s.emit(s.machine.signal, **_access(s, tile, value, 0))


def _access(s: Selection, tile: Tile, value: Any, thread: int) -> dict[str, Any]:
    """The operands of one thread's access of one semaphore."""
    place: Any = Immediate(0, I64)
    for offset, extent in zip(tile.offsets, tile.base.type.shape, strict=True):
        place = s.multiply(place, s.convert(s.expression(extent), I64))
        place = s.add(place, s.convert(offset, I64))
    return {
        "base": whole_tile(tile.base, tile.origin),
        "offset": s.spread(s.multiply(place, SEMAPHORE_BYTES)),
        "value": s.spread(value),
        "predicate": s.compute(Equal, s.thread(), thread),
    }
