"""Bank conflicts by simulation, against a simulation written lane by lane; swizzles;
coalescing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.layouts import (
    Access,
    LayoutError,
    bank_conflicts,
    choose_swizzle,
    default_layout,
    dot_layout,
    local,
    matrix_conflicts,
    sectors_per_request,
    shared,
    spatial,
    strided,
    vector_width,
)
from vm.layouts.banks import typical_accesses
from vm.layouts.shared_memories import TARGETS

law = settings(deadline=None, max_examples=40)


def lane_by_lane(memory, register, bits, access_bytes, phase_lanes, banks=32, warp=32):
    """Transactions of all accesses, from the rule: one word per bank and transaction, shared by
    all lanes that want that word."""
    count = access_bytes * 8 // bits
    total = 0
    for first in range(0, register.threads, warp):
        for slot in range(0, register.slots, count):
            for phase in range(0, warp, phase_lanes):
                wanted = [set() for _ in range(banks)]
                for lane in range(phase, phase + phase_lanes):
                    offset = memory(register(first + lane, slot))
                    address = offset * bits // 8
                    for byte in range(0, access_bytes, 4):
                        word = (address + byte) // 4
                        wanted[word % banks].add(word)
                total += max(len(words) for words in wanted)
    return total


@law
@given(
    st.sampled_from([16, 8, 4, 2]),
    st.sampled_from(["rows", "columns", "mixed"]),
    st.sampled_from([None, (3, 3, 3), (2, 2, 4), (0, 1, 5)]),
    st.sampled_from([0, 2, 8]),
)
def test_simulation_is_the_rule(access_bytes, pattern, swizzle, pad):
    run = access_bytes // 2
    shape = {"rows": (4, 8), "columns": (32, 1), "mixed": (8, 4)}[pattern]
    register = local(2, 2) * spatial(*shape).local(1, run)
    memory = shared(*register.shape)
    if pad:
        memory = memory.pad(pad)
    if swizzle:
        memory = memory.swizzle(*swizzle)
    try:
        report = bank_conflicts(memory, register, 16, access_bytes)
    except LayoutError:
        offsets = memory.addresses(register).reshape(32, -1, run)
        assert (np.diff(offsets) != 1).any() or (offsets[:, :, 0] % run).any()
        return
    lanes = {16: 8, 8: 16, 4: 32, 2: 32}[access_bytes]
    assert sum(report.transactions) == lane_by_lane(memory, register, 16, access_bytes, lanes)


def test_known_conflicts_of_nvidia():
    column = spatial(32, 1)
    assert bank_conflicts(shared(32, 32), column.local(1, 32), 32, 4).transactions == (32,) * 32
    assert bank_conflicts(shared(32, 32).pad(1), column.local(1, 32), 32, 4).conflicts == 0
    assert bank_conflicts(shared(32, 2), column.local(1, 2), 32, 4).transactions == (2, 2)
    broadcast = local(4).replicated(32)
    assert bank_conflicts(shared(4), broadcast, 32, 4).transactions == (1,) * 4
    pairs = spatial(64)
    assert bank_conflicts(shared(64), pairs, 16, 2).transactions == (1, 1)
    assert bank_conflicts(shared(128), spatial(32).local(4), 32, 16).transactions == (4,)


def test_the_example_of_the_issue_is_free_of_conflicts():
    plain, moved = shared(64, 64), shared(64, 64).swizzle(3, 3, 3)
    for name, access in typical_accesses(moved, 16, 16).items():
        assert access.simulate(moved, 16).conflicts == 0, name
    report = typical_accesses(plain, 16, 16)["down columns"].simulate(plain, 16)
    assert sum(report.transactions) == 8 * sum(report.ideal)
    assert "8.00x" in str(report) and "worst" in str(report)


@pytest.mark.parametrize(
    ("memory", "bits", "width", "names"),
    [
        (shared(64, 64), 16, 16, {"along rows", "down columns", "ldmatrix", "ldmatrix transposed"}),
        (shared(64, 64), 32, 16, {"along rows", "down columns"}),
        (shared(64, 64).transpose(), 32, 16, {"along columns", "across rows"}),
        (shared(256), 8, 16, {"along rows"}),
        (shared(3, 32, 40), 8, 8, {"along rows", "down columns"}),
        (shared(7, 5), 32, 4, {"along rows"}),
        (shared(7, 5), 32, 16, set()),
        (strided([8, 8], [16, 2]), 32, 8, set()),
    ],
)
def test_typical_accesses_move_every_element_once(memory, bits, width, names):
    found = typical_accesses(memory, bits, width)
    assert set(found) == names
    for access in found.values():
        assert access.register.shape == memory.shape
        assert sum(access.simulate(memory, bits).ideal) >= memory.elements * bits // 1024
        assert access.matrix or access.simulate(memory, bits).access_bytes == width


def test_a_matrix_load_is_judged_by_its_rows():
    dot = dot_layout(64, 64, 64, 16, 4)
    plain = shared(64, 64)
    assert set(matrix_conflicts(plain, dot.a, "ldmatrix_x4").transactions) == {8}
    assert set(matrix_conflicts(plain.swizzle(3, 3, 3), dot.a, "ldmatrix_x4").transactions) == {1}
    assert set(matrix_conflicts(plain, dot.b, "ldmatrix_x4_trans").transactions) == {8}
    moved = plain.swizzle(3, 3, 3)
    assert matrix_conflicts(moved, dot.b, "ldmatrix_x4_trans").conflicts == 0
    assert len(matrix_conflicts(plain, dot.a, "ldmatrix_x1").transactions) == 4 * 32


@pytest.mark.parametrize(
    ("rows", "columns", "bits"),
    [
        (64, 64, 16),
        (128, 32, 16),
        (64, 128, 16),
        (64, 16, 16),
        (32, 96, 16),
        (64, 80, 16),
        (48, 40, 16),
    ],
)
def test_chosen_layouts_are_proved_free_of_conflicts(rows, columns, bits):
    operand = dot_layout(rows, 8, columns, bits, 1).a
    accesses = [
        Access(operand, matrix="ldmatrix_x4"),
        Access(default_layout((rows, columns), 128, 8), write=True),
    ]
    memory = choose_swizzle((rows, columns), bits, accesses)
    assert [access.simulate(memory, bits).conflicts for access in accesses] == [0, 0]
    assert memory.is_injective() and memory.size == rows * columns


@pytest.mark.parametrize("columns", [20, 24, 28, 33, 34, 36, 40, 44, 48, 96])
def test_rows_that_are_no_power_of_two_are_freed_too(columns):
    """One row per lane, read down the columns, with no more memory than the tile."""
    down = Access(local(1, columns) * spatial(32, 1), 4)
    memory = choose_swizzle((32, columns), 32, [down])
    assert down.simulate(memory, 32).conflicts == 0
    assert memory.size == 32 * columns and memory.is_injective()
    assert (memory == shared(32, columns)) == (columns % 2 == 1)


@pytest.mark.parametrize("bits", [16, 32])
def test_no_swizzle_of_any_base_does_better(bits):
    """Two accesses that pull apart; all swizzles within the tile are tried here, not only of
    pieces."""
    accesses = [
        Access(local(2, 1) * spatial(8, 4).local(1, 4), 4 * bits // 8),
        Access(local(1, 2) * spatial(16, 2).local(1, 4), 4 * bits // 8, write=True),
    ]

    def total(memory):
        try:
            return sum(sum(a.simulate(memory, bits).transactions) for a in accesses)
        except LayoutError:
            return 10**9

    plain = shared(16, 16)
    every = [
        plain.swizzle(base, count, shift)
        for base in range(8)
        for count in range(1, 9 - base)
        for shift in range(count, 9 - base)
        if base + count <= 8
    ]
    assert total(choose_swizzle((16, 16), bits, accesses)) == min(map(total, [plain, *every]))


def test_single_words_are_swizzled_singly():
    """A tile of words written along rows and read down columns, one at a time: swizzles of 16
    bytes leave four lanes on a bank, those of one word none."""
    rows = local(4, 1) * spatial(8, 32)
    accesses = [Access(rows, write=True), Access(rows.transpose())]
    wide = [shared(32, 32).swizzle(2, 3, shift) for shift in range(3, 6)]
    assert all(sum(a.simulate(w, 32).conflicts for a in accesses) > 0 for w in wide)
    memory = choose_swizzle((32, 32), 32, accesses)
    assert [a.simulate(memory, 32).conflicts for a in accesses] == [0, 0]


def test_accesses_are_split_only_where_that_pays():
    """Words of 4 rows down a column want a bank each; the writes of 16 bytes would have to split
    into pieces 16 bytes apart, which collide as often as is won."""
    rows = default_layout((64, 64), 256, 4)
    memory = choose_swizzle((64, 64), 32, [Access(rows, write=True), Access(rows.transpose())])
    assert memory.swizzling.base == 2
    lone = choose_swizzle((64, 64), 32, [Access(rows.transpose())])
    assert Access(rows.transpose()).simulate(lone, 32).conflicts == 0


def test_choice_is_deterministic():
    access = [Access(dot_layout(64, 8, 64, 16, 1).a, matrix="ldmatrix_x4")]
    assert choose_swizzle((64, 64), 16, access) == choose_swizzle((64, 64), 16, access)


def test_amd_phases_cover_every_lane_once():
    for machine in TARGETS.values():
        for table in (machine.reads, machine.writes):
            for width, phases in table.items():
                lanes = [lane for phase in phases for lane in phase]
                assert sorted(lanes) == list(range(machine.warp_width)), (machine.name, width)
                assert all(len(phase) * width == machine.banks * 4 for phase in phases)


def test_reads_of_cdna3_pair_lanes_out_of_order():
    """ds_read_b128: lanes 0..3 go with 20..23. A layout that gives exactly those 8 lanes one
    bank group conflicts on reads and not on writes."""
    register = spatial(64).local(4)
    memory = shared(256)
    assert bank_conflicts(memory, register, 32, 16, "amd_cdna3").conflicts == 0
    rows = spatial(64, 1).local(1, 4)
    tile = shared(64, 16)
    wide = local(1, 4) * rows
    read = bank_conflicts(tile, wide, 32, 16, "amd_cdna3")
    write = bank_conflicts(tile, wide, 32, 16, "amd_cdna3", write=True)
    assert sum(read.transactions) == sum(write.transactions) == 4 * 8 * 4
    swizzled = tile.swizzle(2, 2, 3)
    read = bank_conflicts(swizzled, wide, 32, 16, "amd_cdna3")
    write = bank_conflicts(swizzled, wide, 32, 16, "amd_cdna3", write=True)
    assert sum(read.transactions) == sum(write.transactions) == 4 * 8


@law
@given(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([4, 8, 16, 32]))
def test_vector_width_is_the_widest_contiguous_run(run, bits):
    register = spatial(8, 4).local(1, run) * local(1, 1)
    width = vector_width(shared(*register.shape), register, bits)
    assert width <= run and width * bits <= 128
    assert width == run or 2 * width * bits > 128
    assert width * bits % 8 == 0 or width == 1


def test_vector_width_knows_alignment_and_order():
    register = spatial(32).local(8)
    assert vector_width(shared(256), register, 16) == 8
    assert vector_width(shared(256), register, 16, alignment=4) == 2
    assert vector_width(shared(256), register, 16, largest=8) == 4
    assert vector_width(strided([256], [2]), register, 16) == 1
    assert vector_width(shared(8, 32).pad(1).reshape(256), spatial(32).local(8), 16) == 1
    assert vector_width(shared(96), spatial(32).local(3), 32) == 1


def test_sectors_of_requests():
    tile = shared(64, 64)
    assert sectors_per_request(tile, default_layout((64, 64), 128, 8), 16) == (16.0, 16.0)
    assert sectors_per_request(tile, local(1, 64) * spatial(64, 1), 16) == (32.0, 16.0)
    assert sectors_per_request(shared(32), spatial(32), 32) == (4.0, 4.0)
    assert sectors_per_request(shared(4), local(4).replicated(32), 32, 4) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: bank_conflicts(shared(64), spatial(32).local(2), 32, 16), ["16 bytes", "2 slots"]),
        (lambda: bank_conflicts(shared(64), spatial(32).local(2), 32, 3), ["3 bytes"]),
        (
            lambda: bank_conflicts(shared(64), local(2).spatial(32), 32, 8),
            ["thread 0", "slots 0..1", "[0, 32]", "4 bytes would"],
        ),
        (lambda: bank_conflicts(shared(64), spatial(64), 32, 4, "intel"), ["intel", "nvidia"]),
        (lambda: matrix_conflicts(shared(8, 8), spatial(8, 4).local(1, 2), "x9"), ["x9"]),
        (
            lambda: matrix_conflicts(shared(8, 8), spatial(4, 8).local(2, 1), "ldmatrix_x1"),
            ["is not"],
        ),
        (
            lambda: matrix_conflicts(
                shared(8, 8).transpose(), spatial(8, 4).local(1, 2), "ldmatrix_x1"
            ),
            ["contiguous", "row 0", "matrix 0"],
        ),
        (
            lambda: choose_swizzle((64,), 32, [Access(local(2).spatial(32), 8)]),
            ["no layout of [64]", "8 bytes"],
        ),
    ],
)
def test_refusals_name_what_disagrees(make, parts):
    with pytest.raises(LayoutError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
