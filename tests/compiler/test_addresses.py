"""Where threads reach memory: the arithmetic that is written, computed for every thread, against
the tables of the layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.random_programs import random_tensor
from tests.compiler.translation import machine_run
from vm.compiler import pipeline
from vm.compiler.addresses import SharedAccess, longest_run, slot_index, thread_digits
from vm.compiler.facts import NONE
from vm.compiler.pipeline import target
from vm.compiler.selection import Selection
from vm.isa import control
from vm.isa.dtypes import dtype
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.lanes import Spread, ThreadIndex
from vm.isa.memory import SharedAllocate
from vm.isa.program import parse
from vm.isa.registers import Cast
from vm.isa.types import Immediate, Tile, Value
from vm.layouts import (
    FRAGMENTS,
    RegisterLayout,
    column_local,
    column_spatial,
    local,
    replicated,
    spatial,
)
from vm.layouts.memory import MemoryLayout, shared

MMA = FRAGMENTS["mma_m16n8k16"].operands
LAYOUTS = (
    spatial(8, 4).local(1, 2),
    local(2, 1).spatial(8, 4).local(1, 4),
    column_spatial(4, 8).local(2, 1),
    spatial(4, 8).column_local(2, 2),
    local(3, 1).spatial(2, 16).local(1, 3),
    spatial(3, 32).local(2, 1),
    spatial(5, 4).local(2, 6),
    replicated(4).spatial(4, 2).local(2, 8),
    spatial(2, 3).replicated(2).local(4, 2),
    column_local(2, 3).spatial(4, 8),
    MMA["a"],
    MMA["b"],
    local(2, 2) * MMA["c"],
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_digits_and_slots_add_up_to_the_index(layout):
    threads = np.arange(layout.threads)
    index = np.zeros((layout.threads, layout.slots, layout.rank), np.int64)
    index += slot_index(layout)[None]
    for digit in thread_digits(layout):
        value = threads // digit.divisor % digit.size
        if digit.axis is not None:
            index[:, :, digit.axis] += (value * digit.stride)[:, None]
    assert np.array_equal(index, layout.table())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_copies_are_told_by_the_digits_without_axis(layout):
    threads = np.arange(layout.threads)
    first = np.ones(layout.threads, bool)
    for digit in thread_digits(layout):
        if digit.axis is None:
            first &= threads // digit.divisor % digit.size == 0
    assert first.sum() * layout.replication == layout.threads
    elements = np.sort(layout.flat()[first].reshape(-1))
    assert np.array_equal(elements, np.arange(layout.size))


def runs_by_definition(layout: RegisterLayout) -> int:
    """The longest run, looked for thread by thread."""
    table = layout.table()
    for run in range(layout.slots, 1, -1):
        if layout.slots % run:
            continue
        pieces = table.reshape(layout.threads, -1, run, layout.rank)
        same = (pieces[..., :-1] == pieces[:, :, :1, :-1]).all()
        steps = (np.diff(pieces[..., -1], axis=2) == 1).all()
        if same and steps and not (pieces[:, :, 0, -1] % run).any():
            return run
    return 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_longest_run_is_one_and_no_longer_one_is(layout):
    assert longest_run(layout) == runs_by_definition(layout)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_longest_run_of_random_layouts(data):
    layout = spatial()
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from((local, spatial, column_local, column_spatial)))
        layout = layout * kind(data.draw(st.sampled_from((1, 2, 3, 4))),
                               data.draw(st.sampled_from((1, 2, 3, 4))))  # fmt: skip
    assert longest_run(layout) == runs_by_definition(layout)


# --- what is written, computed ---
class Computed:
    """Runs the arithmetic of a writer for all threads at once."""

    def __init__(self, writer: Selection, threads: int, values: dict[Value, int]):
        self.writer, self.threads = writer, threads
        self.values = {value: np.full(threads, number) for value, number in values.items()}

    def __call__(self, operand) -> np.ndarray:
        if isinstance(operand, (int, Immediate)):
            number = operand if isinstance(operand, int) else operand.value
            return np.full(self.threads, number)
        if operand not in self.values:
            self.values[operand] = self._run(self.writer.facts.definitions[operand])
        return self.values[operand]

    def _run(self, made) -> np.ndarray:
        if isinstance(made, ThreadIndex):
            return np.arange(self.threads)
        numbers = [self(o) for o in made.operands()]
        if isinstance(made, (Spread, Cast)):
            return numbers[0]
        fold = INSTRUCTIONS[made.opcode].fold
        return np.array([fold(*map(int, each)) for each in zip(*numbers, strict=True)])


def writer_for(threads: int) -> tuple[Selection, Value]:
    """A selection in the middle of a kernel, and a scalar `n` of it."""
    text = f"vm 1\nprogram p(n: i32, m: i32) grid (1) threads {threads}\n{{\n  synchronize()\n}}\n"
    kernel = parse(text)["p"].instantiate()
    writer = Selection(kernel, target("sm_80"), 0, NONE)
    for value in kernel.parameters:
        writer.values[value] = value
        writer._depth[value] = 0
    return writer, kernel.parameters[0]


def shared_access(
    memory: MemoryLayout, layout: RegisterLayout, bits: str, tile, address: int = 256
) -> tuple[SharedAccess, Computed, list]:
    """An access of a tile; `tile` gives offsets and extents, the offset "n" stands for 1."""
    writer, n = writer_for(layout.threads)
    with writer.open_block():
        allocated = writer.emit(SharedAllocate, dtype=dtype(bits), shape=memory.shape,
                                layout=memory, address=address)  # fmt: skip
        offsets = tuple(n if o == "n" else Immediate(o, dtype("i32")) for o, _ in tile)
        extents = tuple(e for _, e in tile)
        access = SharedAccess(writer, Tile(allocated, offsets, extents), layout)
        found = access.addresses(list(range(layout.slots)))
    return access, Computed(writer, layout.threads, {n: 1}), found


MEMORIES = [
    (shared(16, 64), spatial(8, 4).local(2, 16), "f16"),
    (shared(16, 64).swizzle(3, 3, 3), spatial(8, 4).local(2, 16), "f16"),
    (shared(16, 64).swizzle(3, 3, 3), local(2, 1).spatial(8, 4).local(1, 16), "f16"),
    (shared(16, 64).swizzle(3, 3, 3), column_spatial(8, 4).column_local(2, 16), "f16"),
    (shared(32, 32).swizzle(2, 3, 3), spatial(32, 1).local(1, 32), "f32"),
    (shared(12, 24), spatial(4, 8).local(3, 3), "f32"),
    (shared(12, 24).pad(4), spatial(4, 8).local(3, 3), "f32"),
    (shared(6, 16), replicated(2).spatial(2, 8).local(3, 2), "i8"),
    (shared(16, 64).transpose(), spatial(8, 4).local(8, 4), "u8"),
    ((shared(4, 4) * shared(4, 8)), spatial(4, 8).local(4, 4), "f16"),
    ((shared(2, 8) * shared(8, 8)).swizzle(3, 3, 3), spatial(8, 4).local(2, 16), "f16"),
]


@pytest.mark.parametrize(("memory", "layout", "kind"), MEMORIES, ids=str)
def test_shared_addresses_are_those_of_the_memory_layout(memory, layout, kind):
    tile = [(0, extent) for extent in memory.shape]
    access, computed, found = shared_access(memory, layout, kind, tile)
    size = access.bits // 8
    table = 256 + memory.addresses(layout) * size
    for slot, (address, plus) in enumerate(found):
        assert np.array_equal(computed(address) + plus, table[:, slot]), slot


@pytest.mark.parametrize(("memory", "layout", "kind"), MEMORIES, ids=str)
def test_vectors_of_shared_memory_are_runs_in_every_thread(memory, layout, kind):
    tile = [(0, extent) for extent in memory.shape]
    access, _, _ = shared_access(memory, layout, kind, tile)
    table, count = memory.addresses(layout), access.vector
    pieces = table.reshape(layout.threads, -1, count)
    assert count * access.bits <= 128
    assert (np.diff(pieces, axis=2) == 1).all()
    assert (pieces[..., 0] % count == 0).all()
    longer = [n for n in range(count + 1, layout.slots + 1)
              if layout.slots % n == 0 and n & (n - 1) == 0 and n * access.bits <= 128]  # fmt: skip
    for n in longer:
        pieces = table.reshape(layout.threads, -1, n)
        assert (np.diff(pieces, axis=2) != 1).any() or (pieces[..., 0] % n).any()


SLICES = [
    (shared(3, 16, 64).swizzle(3, 3, 3), spatial(8, 4).local(2, 16), "f16",
     [("n", None), (0, 16), (0, 64)]),
    (shared(16, 64).swizzle(3, 3, 3).stages(3), spatial(8, 4).local(2, 16), "f16",
     [("n", None), (0, 16), (0, 64)]),
    (shared(16, 64).swizzle(3, 3, 3), spatial(8, 4).local(1, 16), "f16", [(8, 8), (0, 64)]),
    (shared(17, 64).swizzle(3, 3, 3), spatial(8, 4).local(1, 16), "f16", [("n", 8), (0, 64)]),
    (shared(5, 12, 24), spatial(4, 8).local(3, 3), "f32", [("n", None), (0, 12), (0, 24)]),
    (shared(5, 12, 24), spatial(4, 8).local(1, 3), "f32", [(4, None), ("n", 4), (0, 24)]),
    (shared(4, 33), spatial(1, 32), "u8", [(2, 1), ("n", 32)]),
]  # fmt: skip


@pytest.mark.parametrize(("memory", "layout", "kind", "tile"), SLICES, ids=str)
def test_shared_addresses_of_slices_at_offsets_known_and_not(memory, layout, kind, tile):
    access, computed, found = shared_access(memory, layout, kind, tile)
    starts = [1 if offset == "n" else offset for offset, _ in tile]
    index = layout.table()
    whole = np.zeros((*index.shape[:2], memory.rank), np.int64)
    kept = 0
    for axis, (start, (_, extent)) in enumerate(zip(starts, tile, strict=True)):
        whole[..., axis] = start
        if extent is not None:
            whole[..., axis] += index[..., kept]
            kept += 1
    table = memory.offsets()[tuple(np.moveaxis(whole, -1, 0))]
    for slot, (address, plus) in enumerate(found):
        got = computed(address) + plus
        assert np.array_equal(got, 256 + table[:, slot] * access.bits // 8), slot


# --- global memory: what is written, run on the reference machine ---
COPY = """vm 1
program p(A: global({kind})[{shape}], C: inout(global({kind})){out}) grid (G) threads {threads}
  where {where}
{{
  i = block_index()
  store(C[i, {colons}], load(A[{tile}], layout={layout}))
}}
"""


@pytest.mark.parametrize("kind", ["f32", "f16", "u8", "u4", "i6", "u1"])
@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each.threads == 32], ids=str)
def test_global_tiles_clip_at_every_edge(layout, kind):
    """Tiles that begin before the tensor, inside and past its end; rows may end within bytes."""
    rows, columns = layout.shape
    text = COPY.format(
        kind=kind, shape="M, N", out=f"[G, {rows}, {columns}]", threads=32, where="G > 0",
        colons=":, :", layout=layout,
        tile=f"i * {rows} - 2 +: {rows}, i * 3 - 1 +: {columns}",
    )  # fmt: skip
    kernel = parse(text)["p"].instantiate()
    element = kernel.parameters[0].type.dtype
    random = np.random.default_rng(1)
    for shape in ((rows + 1, columns + 3), (rows, columns), (1, 1), (3 * rows, columns + 7)):
        values = {
            "A": random_tensor(element, shape, random),
            "C": random_tensor(element, (3, rows, columns), random),
        }
        expected = machine_run(kernel, values)["C"].codes()
        lowered = pipeline.lower(kernel, target("sm_80"), NONE).kernel
        assert np.array_equal(machine_run(lowered, values)["C"].codes(), expected)


def test_accesses_are_as_wide_as_facts_allow():
    def widths(where: str, offset: str, variant: str, kind: str = "f16") -> set[int]:
        text = (
            f"vm 1\nprogram p(A: global({kind})[M, N], C: out(global({kind}))[M, N])\n"
            f"  grid (M) threads 32 where {where}\n{{\n  i = block_index()\n"
            f"  store(C[i +: 1, {offset} +: 512], load(A[i +: 1, {offset} +: 512],\n"
            "        layout=spatial(1, 32).local(1, 16)))\n}\n"
        )
        kernel = parse(text)["p"].instantiate()
        lowered = pipeline.lower(kernel, target("sm_80"), variant).kernel
        return {i.bytes for i in control.walk(lowered.body) if "_global" in i.opcode}

    assert widths("M > 0", "0", "aligned") == {16}
    assert widths("M > 0", "0", "none") == {2}
    assert widths("N % 4 == 0, aligned(A, 16), aligned(C, 16)", "0", "none") == {8}
    assert widths("N % 8 == 0, aligned(A, 4), aligned(C, 4)", "0", "none") == {4}
    assert widths("N % 8 == 0, aligned(A, 16), aligned(C, 16)", "i * 4", "none") == {8}
    assert widths("M > 0", "i * 2 + 1", "aligned") == {2}
    assert widths("N % 32 == 0, aligned(A, 16), aligned(C, 16)", "0", "none", "u4") == {8}
