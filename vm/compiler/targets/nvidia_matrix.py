"""Matrix fragments from and to shared memory on NVIDIA GPUs: ldmatrix and stmatrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.compiler.addresses import SharedAccess
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.nvidia_rules import NVIDIA, WARP
from vm.isa import nvidia
from vm.isa.elementwise import BitAnd, Divide
from vm.isa.memory import Load, Store
from vm.isa.types import INDEX, Immediate, RegisterType, Value
from vm.layouts import RegisterLayout

rule = NVIDIA.rule

NVIDIA.lack(nvidia.StoreMatrix, because="it came with sm_90", below=90)
NVIDIA.lack(
    nvidia.MatrixMultiply, because="matrices of 8-bit floats came with sm_89", below=89,
    when=lambda i: i.a.type.dtype.bits == 8 and i.a.type.dtype.is_float,
)  # fmt: skip


@rule(Load, rank=0)
def load_matrices(s: Selection, i: Load) -> Value:
    """ldmatrix: four 8 x 8 matrices of 16-bit elements at once, transposed where it helps."""
    if i.source.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    layout, kind = i.result.type.layout, i.source.dtype
    access = SharedAccess(s, s.operand(i.source), layout)
    transposed, rows = _matrices(access, layout, kind.bits)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    count = next(n for n in (4, 2, 1) if rows.words % n == 0)
    for at, (address, plus) in rows.addresses(s, count):
        s.emit(nvidia.LoadMatrix, into=variable, x=variable, address=address, at=at, count=count,
               transposed=transposed, plus=plus)  # fmt: skip
    return variable


@rule(Store, rank=0, capability=90)
def store_matrices(s: Selection, i: Store) -> None:
    """stmatrix: four 8 x 8 matrices of 16-bit elements at once, transposed where it helps."""
    if i.target.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    value, kind = s.operand(i.value), i.target.dtype
    if not isinstance(value, Value) or not isinstance(value.type, RegisterType):
        raise Refused("one number is stored")
    layout = value.type.layout
    if layout.replication > 1:
        raise Refused("several threads hold the same elements")
    access = SharedAccess(s, s.operand(i.target), layout)
    transposed, rows = _matrices(access, layout, kind.bits)
    count = next(n for n in (4, 2, 1) if rows.words % n == 0)
    for at, (address, plus) in rows.addresses(s, count):
        s.emit(nvidia.StoreMatrix, address=address, x=value, at=at, count=count,
               transposed=transposed, plus=plus)  # fmt: skip


class _Rows:
    """The rows of the 8 x 8 matrices that a layout's words are parts of.

    `thread` and `slot` say, for row r of the matrix of word w, whose element is its first.
    """

    def __init__(self, access: SharedAccess, layout: RegisterLayout, transposed: bool):
        self.access, self.layout, self.transposed = access, layout, transposed
        self.words = layout.slots // 2

    def of(self, thread: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(thread, slot) that holds the first element of the row that `thread` addresses."""
        row, warp = thread % 8, thread // WARP * WARP
        if self.transposed:
            return warp + row // 2, 2 * word + row % 2
        return warp + 4 * row, 2 * word

    def addresses(self, s: Selection, count: int):
        """For each group of `count` words: (first word, (address per thread, plus))."""
        layout = self.layout
        threads = np.arange(layout.threads)
        matrix = threads % WARP // 8 % count
        firsts = np.arange(0, self.words, count)
        holder, slot = self.of(threads[:, None], firsts[None, :] + matrix[:, None])
        table = self.access.table[holder, slot]
        index = layout.table()[holder, slot]  # [threads, groups, rank]
        parts = self._thread_parts(s, index[:, 0] - index[0, 0], count)
        constants = [tuple(int(v) for v in index[0, g]) for g in range(len(firsts))]
        expected = index[:, :1] + (index[:1] - index[:1, :1])
        if not np.array_equal(index, expected):
            raise Refused("the rows of the matrices are not spread evenly over the threads")
        placed = self.access.place(parts, constants, table)
        return list(zip((int(f) for f in firsts), placed, strict=True))

    def _thread_parts(self, s: Selection, index: np.ndarray, count: int) -> list[Any]:
        """The index [threads, rank] as arithmetic: a sum over the bits of the thread number."""
        threads, rank = index.shape
        bits = (threads - 1).bit_length()
        steps = [index[1 << b] for b in range(bits)]
        numbers = np.arange(threads)
        total = sum(
            ((numbers >> b & 1)[:, None] * steps[b][None, :] for b in range(bits)),
            np.zeros_like(index),
        )
        if threads & (threads - 1) or not np.array_equal(total, index):
            raise Refused("the rows of the matrices are no sum over the bits of the thread")
        return [self._bit_sum(s, [int(step[axis]) for step in steps]) for axis in range(rank)]

    def _bit_sum(self, s: Selection, steps: list[int]) -> Any:
        """sum of steps[b] * bit b of the thread, runs of doubling steps taken together."""
        thread, terms, b = s.thread(), [Immediate(0, INDEX)], 0
        while b < len(steps):
            end = b + 1
            while end < len(steps) and steps[end] == 2 * steps[end - 1]:
                end += 1
            if steps[b]:
                field = s.compute(Divide, thread, 1 << b)
                if end < len(steps):
                    field = s.compute(BitAnd, field, (1 << (end - b)) - 1)
                terms.append(s.multiply(field, steps[b]))
            b = end
        return s.add(*terms)


def _matrices(access: SharedAccess, layout: RegisterLayout, bits: int) -> tuple[bool, _Rows]:
    """Whether words are parts of 8 x 8 matrices as they lie or transposed; refuses otherwise."""
    if bits != 16 or layout.slots % 2 or layout.threads % WARP:
        raise Refused("matrices have 16-bit elements, two in each word, and belong to warps")
    if not access.movable or not access.writer.facts.divides(8, access.moved):
        raise Refused("rows of matrices begin at multiples of 16 bytes")
    table = access.table
    lanes = np.arange(layout.threads)
    for transposed in (False, True):
        rows = _Rows(access, layout, transposed)
        word = np.arange(rows.words)
        fits = True
        for element in (0, 1):
            g, t = lanes % WARP // 4, lanes % WARP % 4
            row, column = (2 * t + element, g) if transposed else (g, 2 * t + element)
            asked = lanes // WARP * WARP + row
            holder, slot = rows.of(asked[:, None], word[None, :])
            start = table[holder, slot]
            here = table[:, 2 * word + element]
            fits &= bool((start % 8 == 0).all()) and np.array_equal(here, start + column[:, None])
        if fits:
            return transposed, rows
    raise Refused("no word is a part of an 8 x 8 matrix whose rows are 16 bytes of memory")
