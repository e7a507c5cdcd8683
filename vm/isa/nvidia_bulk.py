"""Machine instructions of NVIDIA GPUs from sm_90 on: mbarriers and bulk copies.

Addresses are per thread, in bytes from the beginning of the block's shared memory. Sources: PTX ISA
9.0, sections on mbarrier, cp.async.bulk, fence and bar.warp.sync.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.dtypes import dtype
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import Predicated, per_thread, require_per_thread
from vm.isa.mbarriers import BULK_BYTES, MAXIMUM_COUNT
from vm.isa.types import Type

I64 = dtype("i64")
WARP = 32  # lanes


class _OfThreads(Predicated):
    """What they share: addresses in shared memory."""

    def check_addresses(self, *fields: str) -> None:
        for field in fields:
            require_per_thread(self, field, ("i32",))
        self.check_predicate()


class MbarrierInit(_OfThreads, opcode="nv.mbarrier_init"):
    """Makes an mbarrier of the 8 bytes at an address (mbarrier.init), whose phases wait for
    `arrivals` threads each. Others may use it behind a fence and a barrier of the block."""

    address = Operand("register")
    arrivals = Attribute("integer")

    def check(self) -> None:
        self.check_addresses("address")
        if not 1 <= self.arrivals <= MAXIMUM_COUNT:
            raise self.refuse(
                "E0209", f"a phase that waits for {self.arrivals} arrivals", "arrivals", "here",
                fix=f"from 1 to {MAXIMUM_COUNT}",
            )  # fmt: skip

    def run(self, machine: Any) -> None:
        address = machine.value(self.address)
        machine.mbarrier_bytes.make(address, self.arrivals, self.active(machine), self)


class MbarrierArrive(_OfThreads, opcode="nv.mbarrier_arrive"):
    """One arrival of each thread at an mbarrier (mbarrier.arrive).

    It speaks for all that the group did before: the lanes of its warp have met (nv.sync_warp).
    """

    address = Operand("register")

    def check(self) -> None:
        self.check_addresses("address")

    def run(self, machine: Any) -> None:
        address = machine.value(self.address)
        machine.mbarrier_bytes.arrive(
            address, np.zeros_like(address), self.active(machine), self
        )


class MbarrierExpect(_OfThreads, opcode="nv.mbarrier_expect"):
    """One arrival of each thread at an mbarrier, whose phase waits for `bytes` bytes more
    (mbarrier.arrive.expect_tx)."""

    address = Operand("register")
    bytes = Operand("register")

    def check(self) -> None:
        self.check_addresses("address", "bytes")

    def run(self, machine: Any) -> None:
        machine.mbarrier_bytes.arrive(
            machine.value(self.address), machine.value(self.bytes), self.active(machine), self
        )


class MbarrierWait(Instruction, opcode="nv.mbarrier_wait"):
    """Every thread waits until the phase of a parity is over (mbarrier.try_wait.parity)."""

    pure = False
    address = Operand("register")
    parity = Operand("register")

    def check(self) -> None:
        require_per_thread(self, "address", ("i32",))
        require_per_thread(self, "parity", ("i32",))

    def run(self, machine: Any):
        yield from machine.mbarrier_bytes.wait(
            machine.value(self.address), machine.value(self.parity), self
        )


class CopyBulk(_OfThreads, opcode="nv.copy_bulk"):
    """Each thread starts one copy of `bytes` bytes, from `offset` bytes behind the beginning of a
    global tensor to an address of shared memory, which count in the present phase of an mbarrier
    when they have come (cp.async.bulk).

    The size and both addresses are multiples of 16 bytes.
    """

    address = Operand("register")
    base = Operand("global")
    offset = Operand("scalar")
    barrier = Operand("register")
    bytes = Attribute("integer", BULK_BYTES)

    def check(self) -> None:
        self.check_addresses("address", "barrier")
        self.give_dtype("offset", I64)
        if self.dtype_of(self.offset) != I64:
            raise self.refuse("E0205", "an offset in global memory is an i64", "offset", "here",
                              fix="cast it: cast(x, i64)")  # fmt: skip
        if self.bytes < 1 or self.bytes % BULK_BYTES:
            raise self.refuse("E0209", f"a bulk copy of {self.bytes} bytes", "bytes", "here",
                              fix=f"a multiple of {BULK_BYTES} bytes")  # fmt: skip

    def run(self, machine: Any) -> None:
        machine.mbarrier_bytes.copy(
            machine.value(self.address), self.base.base, int(machine.value(self.offset)),
            machine.value(self.barrier), self.bytes, self.active(machine), self,
        )  # fmt: skip


class Fence(Instruction, opcode="nv.fence"):
    """Orders what a thread did, or has seen, before what the copy engine does after:
    `mbarrier_init` (mbarriers that it has made), `async_shared` and `async_global` (ordinary
    accesses of shared and of global memory)."""

    pure = False
    of = Attribute("string", choices=("mbarrier_init", "async_shared", "async_global"))

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        return None


class SyncWarp(Instruction, opcode="nv.sync_warp"):
    """The lanes of each warp meet, and see what the others did before (bar.warp.sync)."""

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        return None


class Elect(Instruction, opcode="nv.elect"):
    """True in one lane of each warp, always the same; its lanes are together (elect.sync).

    The lane may be any: here it is the first. ptxas knows of it that one lane of the warp goes on,
    which it does not know of a comparison with a lane's number: instructions of the copy engine
    otherwise stand in a loop over lanes.
    """

    pure = False

    def check(self) -> Type:
        return per_thread(self.scope.threads, "bool")

    def run(self, machine: Any) -> np.ndarray:
        return np.arange(self.scope.threads) % WARP == 0
