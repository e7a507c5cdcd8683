"""Blocks that wait for each other: the same in every order, and what is wrong is found in all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.isa.program import parse
from vm.runtime.reference import run

ORDERS = ("program", "reverse", *(f"random:{seed}" for seed in range(8)))

# Partial sums over slices of K are added in the order of the slices, and the last one writes C.
SPLIT = """vm 1
program split(A: global(f32)[K, 32], C: out(global(f32))[32], slices: i32)
  grid (2, slices) threads 32 where K % 2 == 0
{
  part = global_alloc(f32, [2, 16])
  turn = semaphore_alloc([2])
  tile, slice = block_index()
  var sum: register(f32)[16] = fill(0.0)
  for k in range(slice, K, slices) {
    sum := sum + load(A[k, tile * 16 +: 16])
  }
  semaphore_wait(turn[tile], slice)
  if slice > 0 {
    sum := sum + load(part[tile, :])
  }
  if slice == slices - 1 {
    store(C[tile * 16 +: 16], sum)
  } else {
    synchronize()
    store(part[tile, :], sum)
  }
  semaphore_release(turn[tile], (slice + 1) % slices)
}
"""


def split(text: str, a: np.ndarray, slices: int, order: str) -> np.ndarray:
    kernel = parse(text)["split"].instantiate()
    report = run(kernel, {"A": a, "C": None, "slices": slices}, schedule=order)
    return report.outputs["C"].values()


def by_hand(a: np.ndarray, slices: int) -> np.ndarray:
    """The sums in single precision, each slice by itself, then slice 0 to the last."""
    total = np.zeros(32, np.float32)
    for number in range(slices):
        part = np.zeros(32, np.float32)
        for row in a[number::slices]:
            part = part + row
        total = part + total
    return total


@settings(max_examples=12, deadline=None)
@given(
    slices=st.integers(1, 5), rows=st.integers(1, 4), seed=st.integers(0, 99),
    order=st.sampled_from(ORDERS),
)  # fmt: skip
def test_partial_sums_are_added_in_one_order_whatever_order_blocks_run_in(
    slices, rows, seed, order
):
    # Tests rules Order/release, Order/first-block, Exec/determinism.
    a = np.random.default_rng(seed).standard_normal((2 * rows, 32)).astype(np.float32)
    assert np.array_equal(split(SPLIT, a, slices, order), by_hand(a, slices))


WAIT = "  semaphore_wait(turn[tile], slice)\n"
# (what is done to the program, the codes that the orders may find it with)
MUTANTS = {
    "no wait": (SPLIT.replace(WAIT, ""), {"E0602", "E0507", "E0610"}),
    "the wait comes late": (
        SPLIT.replace(WAIT, "").replace("  semaphore_release", WAIT + "  semaphore_release"),
        {"E0602", "E0507"},
    ),
    "the release comes early": (
        SPLIT.replace("  if slice > 0 {", "  semaphore_release(turn[tile], (slice + 1) % slices)\n"
                      "  if slice > 0 {", 1)
        .replace("  }\n  semaphore_release(turn[tile], (slice + 1) % slices)\n", "  }\n"),
        {"E0602", "E0507"},
    ),
    "no release": (
        SPLIT.replace("  semaphore_release(turn[tile], (slice + 1) % slices)\n", ""), {"E0603"},
    ),
    "a value that no one waits for": (
        SPLIT.replace("(slice + 1) % slices", "slice + 2"), {"E0603", "E0610"},
    ),
    "not set back": (SPLIT.replace("(slice + 1) % slices", "slice + 1"), {"E0512"}),
    "the last block begins": (
        SPLIT.replace(WAIT, "  semaphore_wait(turn[tile], slices - 1 - slice)\n")
        .replace("(slice + 1) % slices", "(slices - slice) % slices")
        .replace("slice > 0", "slice < slices - 1").replace("slice == slices - 1", "slice == 0"),
        {"E0611"},
    ),
    "all tiles share a semaphore": (
        SPLIT.replace("turn[tile]", "turn[0]"), {"E0610", "E0603", "E0507"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_wrong_is_found_in_every_order(name):
    text, codes = MUTANTS[name]
    assert text != SPLIT
    a = np.ones((6, 32), np.float32)
    for order in ORDERS:
        with pytest.raises(VmError) as raised:
            split(text, a, 3, order)
        assert raised.value.code in codes, (order, raised.value)


def test_a_deadlock_names_all_places_and_what_is_missing():
    text = """vm 1
program p() grid (3) threads 64 {
  turn = semaphore_alloc([2])
  group one(warps=1) { semaphore_wait(turn[0], 4) }
  group two(warps=1) { semaphore_wait(turn[1], block_index() + 5); semaphore_release(turn[0], 4) }
}
"""
    for order in ORDERS:
        with pytest.raises(VmError) as raised:
            run(parse(text)["p"].instantiate(), {}, schedule=order)
        assert raised.value.code == "E0603"
        labels = [label.text for label in raised.value.diagnostics[0].labels]
        assert labels[0] == "block 0, group `one` waits here: `turn`[0] is 0, not 4"
        assert "block 0, group `two` waits here: `turn`[1] is 0, not 5" in labels
        assert any(label.endswith("; so do 1 more") for label in labels), labels


def test_a_wait_for_a_value_that_came_and_went_is_found_on_both_sides():
    # Tests rule Race/semaphore: in some orders the wait comes first, in others the releases do.
    text = """vm 1
program p(C: out(global(i32))[1]) grid (2) threads 32 {
  turn = semaphore_alloc([1])
  if block_index() == 0 {
    semaphore_release(turn[0], 1)
    semaphore_release(turn[0], 0)
  } else {
    semaphore_wait(turn[0], 1)
    store(C, 1)
  }
}
"""
    places = set()
    for order in ORDERS:
        with pytest.raises(VmError) as raised:
            run(parse(text)["p"].instantiate(), {"C": None}, schedule=order)
        assert raised.value.code == "E0610"
        places.add(raised.value.origin.line)
    assert places == {6, 8}


def test_launches_do_not_share_what_they_own():
    # Tests rules Embed/launch-memory, Exec/launch-memory: the second run finds neither values nor
    # contents of the first.
    text = """vm 1
program p(C: out(global(i32))[32], first: bool) grid (1) threads 32 {
  scratch = global_alloc(i32, [32])
  turn = semaphore_alloc([1])
  semaphore_wait(turn[0], 0)
  if first { store(scratch, 7); synchronize() }
  store(C, load(scratch))
}
"""
    kernel = parse(text)["p"].instantiate()
    assert (run(kernel, {"C": None, "first": True}).outputs["C"].values() == 7).all()
    with pytest.raises(VmError) as raised:
        run(kernel, {"C": None, "first": False})
    assert raised.value.code == "E0507"
