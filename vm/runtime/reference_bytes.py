"""Accesses of memory by bytes and bits, one address in each thread: what machine instructions do.

Global addresses count from the beginning of a tensor, shared ones from the beginning of the block's
shared memory. That memory is one piece, apart from the tensors that core instructions see: a kernel
is lowered as a whole, and what mixes both levels reads undefined memory, which is a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vm.isa import control
from vm.isa.dtypes import DType, dtype
from vm.isa.elementwise import round_result
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.memory import SharedAllocate, combine
from vm.isa.registers import exact_codes
from vm.isa.types import Value
from vm.runtime.races import Shadow
from vm.runtime.reference_access import Checks, Reach
from vm.runtime.reference_copies import Copies
from vm.runtime.reference_memory import Buffer, MemoryTensor

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor

BYTE, BIT = dtype("u8"), dtype("u1")

LARGEST_SHARED_MEMORY = 227 * 1024
"""Bytes of a block that allocates none by itself: the most of any NVIDIA GPU (CUDA C++ Programming
Guide, "Technical Specifications per Compute Capability")."""


def shared_bytes(kernel: Kernel) -> int:
    """The bytes of shared memory that a planned kernel uses, or may use."""
    ends = [
        each.address + each.result.type.bytes
        for each in control.walk(kernel.body)
        if isinstance(each, SharedAllocate) and each.address is not None
    ]
    return max(ends, default=LARGEST_SHARED_MEMORY)


def new_shared_memory(kernel: Kernel, checks: bool) -> Buffer:
    """The shared memory of a block, undefined."""
    size = shared_bytes(kernel)
    shadow = Shadow(8 * size, 8, False) if checks else None
    return Buffer("shared memory", "shared", np.zeros(size, np.uint8), kernel.origin, shadow)


class ByteAccesses:
    """What the machine instructions of an actor ask of memory.

    `base` is a global tensor, or None for shared memory; threads that are not `active` take no
    part, and load 0.
    """

    def __init__(self, actor: Actor, checks: Checks, copies: Copies):
        self.actor = actor
        self.checks = checks
        self.copies = copies

    def _buffer(self, base: Value | None) -> tuple[str, Buffer, int]:
        """The memory, what messages call it, and the bit that addresses count from."""
        if base is None:
            return "shared memory", self.actor.block.shared_memory(), 0
        tensor: MemoryTensor = self.actor.registers[base]
        return base.name or "memory", tensor.buffer, tensor.start

    def reach(
        self, base: Value | None, offsets: np.ndarray, count: int, unit: DType,
        active: np.ndarray, instruction: Instruction, alignment: int | None = None,
    ) -> Reach:  # fmt: skip
        """`count` units (bytes or bits) from the offset of every active thread; bytes begin at a
        multiple of `alignment`, of their number if none is given."""
        name, buffer, start = self._buffer(base)
        size = 8 * len(buffer.data) // unit.bits
        first = offsets[active].astype(np.int64) + start // unit.bits
        wrong = (first < 0) | (first + count > size)
        if wrong.any():
            thread = int(np.flatnonzero(active)[np.argmax(wrong)])
            at, what = int(first[wrong][0]), "bytes" if unit == BYTE else "bits"
            raise self.actor.trap(
                "E0501", f"{what} {at} to {at + count - 1} of `{name}`, which has {size}",
                instruction, None, f"thread {thread} reaches outside",
                others=((buffer.origin, f"`{buffer.name}`"),), fix="mask the threads outside",
            )  # fmt: skip
        alignment = alignment or count
        if unit == BYTE and (first % alignment).any():
            at = int(first[first % alignment != 0][0])
            raise self.actor.trap(
                "E0511", f"an access of {count} bytes at byte {at} of `{name}`", instruction, None,
                "not aligned", fix=f"begin at a multiple of {alignment} bytes",
            )  # fmt: skip
        positions = (first[:, None] + np.arange(count)).reshape(-1)
        tensor = MemoryTensor(buffer, unit, (size,), (unit.bits,))
        return Reach(name, tensor, (positions,))

    # --- bytes ---
    def load_bytes(
        self, base: Value | None, offsets: np.ndarray, count: int, active: np.ndarray,
        instruction: Instruction,
    ) -> np.ndarray:  # fmt: skip
        """uint8[threads, count]."""
        result = np.zeros((len(offsets), count), np.uint8)
        reach = self.reach(base, offsets, count, BYTE, active, instruction)
        self.checks.read(reach, instruction, "base")
        result[active] = reach.tensor.codes(reach.region).reshape(-1, count)
        return result

    def store_bytes(
        self, base: Value | None, offsets: np.ndarray, data: np.ndarray, active: np.ndarray,
        instruction: Instruction,
    ) -> None:  # fmt: skip
        """Stores uint8[threads, count]."""
        reach = self.reach(base, offsets, data.shape[1], BYTE, active, instruction)
        self._store(reach, data[active].reshape(-1), instruction)

    def _store(self, reach: Reach, codes: np.ndarray, instruction: Instruction) -> None:
        """Threads may store one element together if all of them store the same."""
        (positions,) = reach.region
        unique, first = np.unique(positions, return_index=True)
        if len(unique) < len(positions):
            held = codes[first][np.searchsorted(unique, positions)]
            if np.array_equal(held, codes):
                reach.region, codes = (unique,), codes[first]
        self.checks.write(reach, instruction, "base")
        if len(codes):
            reach.tensor.write_codes(reach.region, codes)

    def copy_bytes_async(
        self, address: np.ndarray, base: Value, offsets: np.ndarray, count: int,
        active: np.ndarray, instruction: Instruction,
    ) -> None:  # fmt: skip
        """Starts to copy `count` bytes in each thread; zeros arrive where it is not active."""
        everyone = np.ones(len(address), np.bool_)
        target = self.reach(None, address, count, BYTE, everyone, instruction)
        source = self.reach(base, offsets, count, BYTE, active, instruction)

        def perform() -> None:
            data = np.zeros((len(address), count), np.uint8)
            data[active] = source.tensor.codes(source.region).reshape(-1, count)
            target.tensor.write_codes(target.region, data.reshape(-1))

        self.copies.start(instruction, target, source, perform)

    # --- bits ---
    def load_bits(
        self, base: Value | None, bits: np.ndarray, kind: DType, active: np.ndarray,
        instruction: Instruction,
    ) -> np.ndarray:  # fmt: skip
        """The code of an element that begins at a bit of each thread."""
        reach = self.reach(base, bits, kind.bits, BIT, active, instruction)
        self.checks.read(reach, instruction, "base")
        if reach.is_empty:
            return np.zeros(len(bits), kind.storage)
        shifts = np.arange(kind.bits).astype(kind.storage)
        loaded = reach.tensor.codes(reach.region).reshape(-1, kind.bits).astype(kind.storage)
        result = np.zeros(len(bits), kind.storage)
        result[active] = np.bitwise_or.reduce(loaded << shifts, axis=1)
        return result

    def store_bits(
        self, base: Value | None, bits: np.ndarray, codes: np.ndarray, kind: DType,
        active: np.ndarray, instruction: Instruction,
    ) -> None:  # fmt: skip
        """Stores an element at a bit of each thread, and changes no other bit."""
        reach = self.reach(base, bits, kind.bits, BIT, active, instruction)
        shifts = np.arange(kind.bits).astype(kind.storage)
        each = (codes[active][:, None] >> shifts) & kind.storage.type(1)
        self._store(reach, each.astype(np.uint8).reshape(-1), instruction)

    # --- atomic accesses ---
    def atomic_bytes(
        self, base: Value | None, offsets: np.ndarray, codes: np.ndarray, kind: DType, op: str,
        active: np.ndarray, instruction: Instruction,
    ) -> np.ndarray:  # fmt: skip
        """Combines a code with an element in each thread, one thread after the other; returns the
        codes that were there."""
        count = kind.bits // 8
        reach = self.reach(base, offsets, count, BYTE, active, instruction)
        self.checks.atomic(reach, instruction, "device")
        result = np.zeros(len(offsets), kind.storage)
        places = reach.region[0].reshape(-1, count)
        for thread, place in zip(np.flatnonzero(active), places, strict=True):
            before = reach.tensor.codes((place,)).view(kind.storage)
            result[thread] = before[0]
            after = combine(op, kind.decode(before), kind.decode(codes[thread : thread + 1]))
            after = exact_codes(round_result(after, kind), kind)
            reach.tensor.write_codes((place,), after.view(np.uint8))
        return result

