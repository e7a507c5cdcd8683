"""Inputs and references that are computed once for several runs of a case."""

from __future__ import annotations

import numpy as np
import pytest

from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import cases
from vm.runtime.cases import find_case, run_case
from vm.runtime.kept import Kept

MODULE = parse("""vm 1
const BLOCK = 32

program doubled(A: inout(global(f32))[N]) grid (ceil_div(N, BLOCK)) threads 32 {
  i = block_index() * BLOCK
  x = load(A[i +: BLOCK])
  synchronize()
  store(A[i +: BLOCK], x * 2.0)
}

reference wanted(A: f32[N]) {
  return A * 2.0
}

case main(N = 64) {
  A = random(f32, [N], seed=1)
  B = random(f32, [N], seed=1)
  C = doubled(A)
  expect(C, wanted(B), bound=exact())
}
""")


def tensor(*values: float) -> Tensor:
    return Tensor(dtype("f32"), (len(values),), np.array(values, np.float32))


def test_inputs_are_new_tensors_each_time():
    kept, made = Kept(), []

    def compute():
        made.append(tensor(1.0, 2.0))
        return (made[-1],)

    (one,), (other,) = (kept.inputs("random", ("f32", (2,)), compute) for _ in range(2))
    assert len(made) == 1 and (one.storage == other.storage).all()
    one.storage[0] = 7.0
    assert other.storage[0] == 1.0 and made[0].storage[0] == 1.0
    kept.inputs("random", ("f32", (3,)), compute)
    kept.inputs("zeros", ("f32", (2,)), compute)
    assert len(made) == 3


@pytest.mark.parametrize(
    ("text", "values", "again"),
    [("a", {"A": tensor(1, 2), "x": 3}, False), ("b", {"A": tensor(1, 2), "x": 3}, True),
     ("a", {"A": tensor(1, 3), "x": 3}, True), ("a", {"A": tensor(1, 2), "x": 4}, True),
     ("a", {"A": tensor(1, 2)}, True), ("a", {"B": tensor(1, 2), "x": 3}, True),
     ("a", {"A": Tensor(dtype("u32"), (2,), tensor(1, 2).storage.view(np.uint32)), "x": 3}, True)],
)  # fmt: skip
def test_references_by_their_text_and_what_is_in_their_arguments(text, values, again):
    kept, calls = Kept(), []
    kept.reference("a", {"A": tensor(1, 2), "x": 3}, lambda: calls.append(1))
    kept.reference(text, values, lambda: calls.append(2))
    assert (2 in calls) == again


def test_cases_that_write_to_their_inputs_stay_right(monkeypatch):
    calls, run = [], cases.run_reference
    monkeypatch.setattr(cases, "run_reference", lambda *a, **k: calls.append(1) or run(*a, **k))
    kept = Kept()
    for block in (32, 64, 32):
        result = run_case(MODULE, find_case(MODULE, "main"), settings={"BLOCK": block}, kept=kept)
        assert result.passed and result.fault is None
    assert len(calls) == 1
    result = run_case(MODULE, find_case(MODULE, "main"), settings={"N": 96}, kept=kept)
    assert result.passed and len(calls) == 2
