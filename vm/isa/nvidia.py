"""Machine instructions of NVIDIA GPUs: one class for each hardware instruction.

What other families have too is in gpu.py. Sources: PTX ISA 9.0, sections 9.7.9 (data movement) and
9.7.15 (matrix instructions).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa import gpu
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import from_words, require_layout, require_per_thread, to_words, words_of
from vm.isa.types import Type


class LoadGlobal(gpu.LoadGlobal, opcode="nv.load_global"):
    """Loads 1 to 16 bytes per thread from global memory (ld.global).

    The address is a multiple of the number of bytes. Where the predicate does not hold it gives 0.
    """


class StoreGlobal(gpu.StoreGlobal, opcode="nv.store_global"):
    """Stores 1 to 16 bytes per thread to global memory (st.global) where the predicate holds."""


class LoadShared(gpu.LoadShared, opcode="nv.load_shared"):
    """Loads 1 to 16 bytes per thread from shared memory (ld.shared).

    The address is a multiple of the number of bytes. Where the predicate does not hold it gives 0.
    """


class StoreShared(gpu.StoreShared, opcode="nv.store_shared"):
    """Stores 1 to 16 bytes per thread to shared memory (st.shared) where the predicate holds."""


class CopyAsync(gpu.Access, opcode="nv.copy_async"):
    """Starts to copy 4, 8 or 16 bytes per thread from global to shared memory (cp.async).

    Where the predicate does not hold, zeros arrive. `plus` is added to the shared address.
    """

    address = Operand("register")
    base = Operand("global")
    offset = Operand("register")

    def check(self) -> None:
        self.check_access(None, "address", ("i32",))
        require_per_thread(self, "offset", ("i64",))
        if self.bytes < 4:
            raise self.refuse("E0209", f"an asynchronous copy of {self.bytes} bytes", "bytes",
                              "here", fix="4, 8 or 16 bytes")  # fmt: skip

    def run(self, machine: Any) -> None:
        address = machine.value(self.address).astype(np.int64) + self.plus
        machine.copy_bytes_async(
            address, self.base.base, machine.value(self.offset), self.bytes, self.active(machine),
            self,
        )  # fmt: skip


class LoadMatrix(Instruction, opcode="nv.ldmatrix"):
    """Loads `count` (1, 2 or 4) matrices of 8 rows of 16 bytes from shared memory, per warp.

    Lane 8 i + r of each warp gives the address of row r of matrix i, a multiple of 16. Lane l gets
    bytes 4 (l % 4) to 4 (l % 4) + 3 of row l / 4 of matrix i as word `at + i`; with `transposed`
    the 16-bit elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4).
    """

    pure = False
    x = Operand("register")
    address = Operand("register")
    at = Attribute("integer", 0)
    count = Attribute("integer", 4)
    transposed = Attribute("boolean", False)
    plus = Attribute("integer", 0)

    def check(self) -> Type:
        _check_matrices(self)
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        threads = self.scope.threads
        lanes = np.arange(threads) % 32
        address = machine.value(self.address).astype(np.int64) + self.plus
        rows = machine.load_bytes(None, address, 16, lanes < 8 * self.count, self)
        # matrices[warp, matrix, row, column] of 16-bit elements
        halves = rows.reshape(-1, 32, 16)[:, : 8 * self.count].copy().view(np.uint16)
        matrices = halves.reshape(-1, self.count, 8, 8)
        if self.transposed:
            matrices = matrices.transpose(0, 1, 3, 2)
        words = np.ascontiguousarray(matrices).view(np.uint32)  # [warp, matrix, row, 4]
        mine = words.reshape(-1, self.count, 32).transpose(0, 2, 1).reshape(threads, self.count)
        held = to_words(machine.value(self.x), self.x.type).copy()
        held[:, self.at : self.at + self.count] = mine
        return from_words(held, self.x.type)


class StoreMatrix(Instruction, opcode="nv.stmatrix"):
    """Stores `count` (1, 2 or 4) matrices of 8 rows of 16 bytes to shared memory, per warp: the
    reverse of nv.ldmatrix, with the same addresses and the same words in the same lanes."""

    pure = False
    address = Operand("register")
    x = Operand("register")
    at = Attribute("integer", 0)
    count = Attribute("integer", 4)
    transposed = Attribute("boolean", False)
    plus = Attribute("integer", 0)

    def check(self) -> None:
        _check_matrices(self)

    def run(self, machine: Any) -> None:
        threads = self.scope.threads
        lanes = np.arange(threads) % 32
        address = machine.value(self.address).astype(np.int64) + self.plus
        held = to_words(machine.value(self.x), self.x.type)[:, self.at : self.at + self.count]
        words = np.ascontiguousarray(held.reshape(-1, 32, self.count).transpose(0, 2, 1))
        matrices = words.view(np.uint16).reshape(-1, self.count, 8, 8)
        if self.transposed:
            matrices = matrices.transpose(0, 1, 3, 2)
        rows = np.zeros((threads // 32, 32, 16), np.uint8)
        bytes_ = np.ascontiguousarray(matrices).view(np.uint8)
        rows[:, : 8 * self.count] = bytes_.reshape(-1, 8 * self.count, 16)
        machine.store_bytes(None, address, rows.reshape(threads, 16), lanes < 8 * self.count, self)


def _check_matrices(instruction: LoadMatrix | StoreMatrix) -> None:
    """Refuses addresses that are not one i32 in each thread, and words that are not there."""
    require_layout(instruction, "x")
    require_per_thread(instruction, "address", ("i32",))
    count, at, words = instruction.count, instruction.at, words_of(instruction.x.type)
    if count not in (1, 2, 4) or at + count > words:
        raise instruction.refuse(
            "E0305", f"{count} matrices in words from {at} of {words}", "at", "outside",
            fix="1, 2 or 4 matrices",
        )  # fmt: skip


class MatrixMultiply(gpu.MatrixMultiply, opcode="nv.mma"):
    """One matrix product of each warp with its matrix unit (mma.sync): c + a * b.

    `fragment` names the shape and the layouts of the operands; `at_a`, `at_b`, `at_c` are the words
    of the operands that hold them. Sums are exact within the reference machine and rounded once.
    """


class ShuffleXor(gpu.ShuffleXor, opcode="nv.shuffle_xor"):
    """The tensor as lane `lane ^ mask` of the same warp holds it, slot by slot (shfl.sync.bfly).

    What comes out keeps the layout of x only if x is a file; that is all it takes.
    """


class Vote(gpu.Vote, opcode="nv.vote"):
    """Whether any lane of the warp, or all, hold true, slot by slot (vote.sync).

    What comes out keeps the layout of x only if x is a file; that is all it takes.
    """


class LoadGlobalBits(gpu.LoadGlobalBits, opcode="nv.load_global_bits"):
    """Loads one element per thread that begins at any bit of global memory."""


class StoreGlobalBits(gpu.StoreGlobalBits, opcode="nv.store_global_bits"):
    """Stores one element per thread at any bit of global memory, and no other bit."""


class LoadSharedBits(gpu.LoadSharedBits, opcode="nv.load_shared_bits"):
    """Loads one element per thread that begins at any bit of shared memory."""


class StoreSharedBits(gpu.StoreSharedBits, opcode="nv.store_shared_bits"):
    """Stores one element per thread at any bit of shared memory, and no other bit."""
