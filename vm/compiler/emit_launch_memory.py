"""How memory that a launch owns is written in C++, and how its blocks wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vm.compiler.emit import SEMAPHORES, WORKSPACE, emits
from vm.isa import amd, launch_memory


@emits(launch_memory.GlobalAllocate, launch_memory.SemaphoreAllocate)
def _allocate(e: Any, i: Any) -> Iterator[str]:
    whole = WORKSPACE if isinstance(i, launch_memory.GlobalAllocate) else SEMAPHORES
    yield f"unsigned char* const {e.name(i.result)} = {whole} + {e.plain(i.offset)};"


@emits(launch_memory.WaitFor)
def _wait_for(e: Any, i: launch_memory.WaitFor) -> Iterator[str]:
    yield f"vm_wait_for((const unsigned*){_access(e, i)});"


@emits(launch_memory.Signal)
def _signal(e: Any, i: launch_memory.Signal) -> Iterator[str]:
    yield f"vm_signal((unsigned*){_access(e, i)});"


def _access(e: Any, i: Any) -> str:
    place = f"{e.name(i.base.base)} + {e.plain(i.offset)}"
    return f"({place}), (unsigned){e.plain(i.value)}{e.predicate(i.predicate)}"


@emits(amd.Fence)
def _fence(e: Any, i: amd.Fence) -> Iterator[str]:
    yield "vm_fence_device();"
