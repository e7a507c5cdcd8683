"""Machine instructions on the reference machine: addresses of bytes and bits in each thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.reference_programs import EFFECTS, execute, fault, outputs
from vm.isa.tensor import Tensor

HEADER = """vm 1
program p(A: inout(global(u32))[64], C: inout(global(u32))[64]) grid (1) threads 32 {
  t = cast(thread_index(), i32)
  address = t * 16
  offset = cast(address, i64)
  x = undefined(u32, [32, 4], spatial(32, 1).local(1, 4))
  %s
}"""
LOAD = "y = nv.load_global(x, A, offset, predicate=t < 16, bytes=16)"
ROWS = np.arange(64, dtype=np.uint32)


def machine(*lines: str) -> str:
    return HEADER % "\n  ".join(lines)


def memory() -> dict[str, Any]:
    return {"A": ROWS.copy(), "C": np.zeros(64, np.uint32)}


def test_global_bytes() -> None:
    text = machine(LOAD, "nv.store_global(C, offset, y, predicate=t < 15, bytes=8, plus=8)")
    # Thread t holds elements 4 t to 4 t + 3 and stores the first two behind the gap of two.
    expected = np.zeros((16, 4), np.uint32)
    expected[:15, 2:] = ROWS.reshape(16, 4)[:15, :2]
    assert np.array_equal(outputs(text, memory())["C"], expected.reshape(64))


# Thread t of the upper half stores the row that thread 31 - t of the lower half has put in shared
# memory: rows come out in reverse order.
SHARED = (
    LOAD, "<{nv.store_shared(address, y, bytes=16)}>", "synchronize()",
    "z = <[nv.load_shared(x, (31 - t) * 16, bytes=16)]>",
    "nv.store_global(C, cast((t - 16) * 16, i64), z, predicate=t >= 16, bytes=16)",
)  # fmt: skip


def _plain(text: str) -> str:
    for mark in ("<[", "]>", "<{", "}>"):
        text = text.replace(mark, "")
    return text


def test_shared_bytes() -> None:
    result = outputs(_plain(machine(*SHARED)), memory())["C"].reshape(16, 4)
    assert np.array_equal(result, ROWS.reshape(16, 4)[::-1])


def test_shared_bytes_need_a_barrier_and_a_value() -> None:
    racing = machine(*SHARED).replace("  synchronize()\n", "")
    assert fault(racing, memory()).code == "E0601"
    unwritten = machine("z = <[nv.load_shared(x, address, bytes=16)]>")
    assert fault(unwritten, memory()).code == "E0507"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("y = <[nv.load_global(x, A, offset, bytes=16)]>", "E0501"),
        ("<[nv.store_global(C, offset, x, predicate=t < 16, bytes=4, plus=-16)]>", "E0501"),
        ("y = <[nv.load_shared(x, address, bytes=16, plus=233000)]>", "E0501"),
        ("y = <[nv.load_global(x, A, offset, predicate=t < 15, bytes=16, plus=8)]>", "E0511"),
        ("<[nv.store_shared(address, x, bytes=8, plus=4)]>", "E0511"),
        # all threads store to one place, and hold different words
        ("<[nv.store_shared(t * 0, rows, bytes=4)]>", "E0601"),
    ],
)
def test_faults_of_addresses(line: str, code: str) -> None:
    setup = "rows = nv.load_global(x, A, offset, predicate=t < 16, bytes=16)"
    error = fault(machine(setup, line), memory())
    assert error.code == code
    assert "in `p`, block 0" in str(error)


def test_threads_that_store_the_same_may_do_it_together() -> None:
    text = machine("w = fill(7, u32, [32], layout=spatial(32))",
                   "nv.store_global(C, cast(t * 0, i64), w, bytes=4)")  # fmt: skip
    assert outputs(text, memory())["C"].tolist() == [7] + [0] * 63


COPY = (
    "<{nv.copy_async(address, A, offset, predicate=t < 16, bytes=16)}>", "commit_async()",
    "wait_async()", *SHARED[2:],
)  # fmt: skip


@pytest.mark.parametrize("effects", EFFECTS)
def test_copies_of_bytes(effects: str) -> None:
    text = machine(*COPY)
    result = outputs(_plain(text), memory(), effects=effects)["C"].reshape(16, 4)
    assert np.array_equal(result, ROWS.reshape(16, 4)[::-1])
    assert fault(text.replace("  wait_async()\n", ""), memory(), effects=effects).code == "E0604"
    assert fault(text.replace("  synchronize()\n", ""), memory(), effects=effects).code == "E0601"
    # Where the predicate does not hold zeros arrive: rows 16 to 31 are values too.
    zeros = _plain(text).replace("t >= 16, bytes", "t < 16, bytes").replace("(t - 16)", "t")
    assert not outputs(zeros, memory(), effects=effects)["C"].any()


def test_bits() -> None:
    text = """vm 1
program p(A: global(u3)[1, 40], C: inout(global(u3))[1, 40]) grid (1) threads 32 {
  t = cast(thread_index(), i64)
  x = undefined(u3, [32], spatial(32))
  y = nv.load_global_bits(x, A, t * 3, predicate=t < 30)
  nv.store_global_bits(C, t * 3 + 6, y, predicate=t < 30)
}"""
    random = np.random.default_rng(2)
    codes, before = (random.integers(0, 8, (1, 40), np.uint8) for _ in "ab")
    target = Tensor.from_codes("u3", before)
    execute(text, {"A": Tensor.from_codes("u3", codes), "C": target})
    expected = before.copy()
    expected[0, 2:32] = codes[0, :30]
    assert np.array_equal(target.codes(), expected)


@pytest.mark.parametrize(("op", "expected"), [("add", [496, 31]), ("max", [31, 31])])
def test_atomic_accesses_of_threads(op: str, expected: list[int]) -> None:
    """One thread after the other: 0 + 1 + ... + 31, and the largest."""
    text = f"""vm 1
program p(C: inout(global(u32))[2], D: inout(global(u32))[32]) grid (1) threads 32 {{
  t = thread_index()
  place = cast(t, i64) * 0
  before = nv.atomic_global(t, C, place, t, op="{op}")
  nv.store_global(D, cast(t, i64) * 4, before, bytes=4)
  nv.reduce_global(C, place, t, op="max", plus=4)
}}"""
    arguments = {"C": np.zeros(2, np.uint32), "D": np.zeros(32, np.uint32)}
    execute(text, arguments)
    assert arguments["C"].tolist() == expected
    combine = {"add": np.add, "max": np.maximum}[op]
    running = combine.accumulate(np.arange(32))
    assert arguments["D"].tolist() == [0, *running[:-1].tolist()]
