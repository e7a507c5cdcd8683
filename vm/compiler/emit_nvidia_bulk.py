"""How mbarriers and bulk copies of NVIDIA GPUs are written in C++: one prelude call each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vm.compiler.emit import emits
from vm.isa import nvidia_bulk


@emits(nvidia_bulk.MbarrierInit)
def _init(e: Any, i: nvidia_bulk.MbarrierInit) -> Iterator[str]:
    yield f"vm_mbarrier_init({e.plain(i.address)}, {i.arrivals}{e.predicate(i.predicate)});"


@emits(nvidia_bulk.MbarrierArrive)
def _arrive(e: Any, i: nvidia_bulk.MbarrierArrive) -> Iterator[str]:
    yield f"vm_mbarrier_arrive({e.plain(i.address)}{e.predicate(i.predicate)});"


@emits(nvidia_bulk.MbarrierExpect)
def _expect(e: Any, i: nvidia_bulk.MbarrierExpect) -> Iterator[str]:
    yield (
        f"vm_mbarrier_arrive_expect({e.plain(i.address)}, {e.plain(i.bytes)}"
        f"{e.predicate(i.predicate)});"
    )


@emits(nvidia_bulk.MbarrierWait)
def _wait(e: Any, i: nvidia_bulk.MbarrierWait) -> Iterator[str]:
    yield f"vm_mbarrier_wait({e.plain(i.address)}, {e.plain(i.parity)});"


@emits(nvidia_bulk.CopyBulk)
def _copy(e: Any, i: nvidia_bulk.CopyBulk) -> Iterator[str]:
    yield (
        f"vm_copy_bulk({e.plain(i.address)}, {e.name(i.base.base)} + {e.plain(i.offset)}, "
        f"{i.bytes}, {e.plain(i.barrier)}{e.predicate(i.predicate)});"
    )


@emits(nvidia_bulk.Fence)
def _fence(e: Any, i: nvidia_bulk.Fence) -> Iterator[str]:
    yield f"vm_fence_{i.of}();"


@emits(nvidia_bulk.SyncWarp)
def _sync_warp(e: Any, i: nvidia_bulk.SyncWarp) -> Iterator[str]:
    yield "vm_synchronize_warp();"


@emits(nvidia_bulk.Elect)
def _elect(e: Any, i: nvidia_bulk.Elect) -> Iterator[str]:
    yield e.assign(i, "vm_elect()")
