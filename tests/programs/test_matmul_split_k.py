"""Matrix products whose blocks share the sums over K: the same bits in every order, and right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.isa.program import load, parse
from vm.runtime.reference import run

FOLDER = Path(__file__).parents[2] / "programs"
SPLIT = load(FOLDER / "matmul_split_k.vm")
PERSISTENT = load(FOLDER / "matmul_persistent.vm")
ORDERS = ("program", "reverse", "random:1", "random:2", "random:3")
# Small tiles: one warp's product each, so that a few numbers fill several.
SMALL = {"BM": 16, "BN": 32, "BK": 16, "STAGES": 2}


def numbers(m: int, n: int, k: int, seed: int, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    if whole:
        return tuple(random.integers(-3, 4, s).astype(np.float16) for s in ((m, k), (k, n)))
    return tuple(random.standard_normal(s).astype(np.float16) for s in ((m, k), (k, n)))


def product(program, a: np.ndarray, b: np.ndarray, order: str, **constants: int) -> np.ndarray:
    kernel = program.instantiate(**constants)
    report = run(kernel, {"A": a, "B": b, "C": None}, schedule=order, effects=effects(order))
    return report.outputs["C"].values()


def effects(order: str) -> str:
    """When copies move: another way for each order."""
    return {"program": "wait", "reverse": "issue"}.get(order, order)


@settings(max_examples=8, deadline=None)
@given(
    m=st.integers(1, 40), n=st.integers(1, 70), k=st.integers(1, 120), seed=st.integers(0, 99),
    splits=st.integers(1, 5), order=st.sampled_from(ORDERS),
)  # fmt: skip
def test_slices_of_every_shape_give_the_product(m, n, k, seed, splits, order):
    a, b = numbers(m, n, k, seed, whole=True)
    got = product(SPLIT["split_k"], a, b, order, SPLITS=splits, **SMALL)
    assert np.array_equal(got, a.astype(np.float64) @ b)


@settings(max_examples=12, deadline=None)
@given(
    m=st.integers(1, 40), n=st.integers(1, 70), k=st.integers(1, 120), seed=st.integers(0, 99),
    blocks=st.integers(1, 9), order=st.sampled_from(ORDERS),
)  # fmt: skip
def test_shares_of_every_number_of_blocks_give_the_product(m, n, k, seed, blocks, order):
    a, b = numbers(m, n, k, seed, whole=True)
    got = product(SPLIT["stream_k"], a, b, order, BLOCKS=blocks, **SMALL)
    assert np.array_equal(got, a.astype(np.float64) @ b)


@pytest.mark.parametrize("program", ["split_k", "stream_k"])
def test_every_order_gives_the_same_bits(program):
    a, b = numbers(40, 70, 100, 5, whole=False)
    first, *others = (product(SPLIT[program], a, b, order, **SMALL) for order in ORDERS)
    assert all(np.array_equal(first.view(np.uint16), other.view(np.uint16)) for other in others)


@pytest.mark.parametrize(
    ("program", "line"),
    [("split_k", "  semaphore_wait(turn[bm, bn], slice)\n"),
     ("stream_k", "      semaphore_wait(full[block - 1], 1)\n")],
)  # fmt: skip
def test_a_wait_that_is_left_out_is_found_in_every_order(program, line):
    text = (FOLDER / "matmul_split_k.vm").read_text()
    assert text.count(line) == 1
    broken = parse(text.replace(line, ""))[program]
    a, b = numbers(16, 32, 100, 6, whole=True)
    for order in ORDERS:
        with pytest.raises(VmError) as raised:
            product(broken, a, b, order, **SMALL)
        # Which of them a run comes to first is a matter of order: of values, or of memory.
        assert raised.value.code in ("E0507", "E0602", "E0610"), raised.value


@settings(max_examples=6, deadline=None)
@given(
    m=st.integers(1, 70), n=st.integers(1, 140), k=st.integers(1, 150), seed=st.integers(0, 99),
    blocks=st.integers(1, 7), stages=st.integers(1, 5), order=st.sampled_from(ORDERS),
)  # fmt: skip
def test_a_ring_goes_on_from_tile_to_tile(m, n, k, seed, blocks, stages, order):
    a, w = numbers(m, n, k, seed, whole=True)
    constants = {"BM": 16, "BK": 32, "STAGES": stages}
    pack = PERSISTENT["pack_weight"].instantiate(**constants)
    packed = run(pack, {"W": w, "P": None}).outputs["P"]
    kernel = PERSISTENT["matmul"].instantiate(BLOCKS=blocks, **constants)
    report = run(
        kernel, {"A": a, "P": packed, "C": None, "N": n, "K": k}, schedule=order,
        effects=effects(order),
    )  # fmt: skip
    assert np.array_equal(report.outputs["C"].values(), a.astype(np.float64) @ w)
