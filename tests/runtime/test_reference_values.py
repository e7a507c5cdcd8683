"""References: values in f64, magnitudes, and the shapes that bind sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vm.errors import VmError
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import ReferenceResult, run_reference

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((4, 6)).astype(np.float16)
Y = RANDOM.standard_normal((6, 5)).astype(np.float32)


def reference(header: str, body: str, **arguments: Any) -> ReferenceResult:
    (program,) = parse(f"vm 1\nreference r({header}) {{\n{body}\n}}").programs.values()
    return run_reference(program, arguments)


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def test_everything_is_computed_in_f64() -> None:
    result = reference("A: f16[M, K]", "x = A * A + A\nreturn x * x", A=X)
    exact = wide(X) * wide(X) + wide(X)
    assert result.values.dtype == np.float64
    assert np.array_equal(result.values, exact * exact)


def test_casts_round_and_constants_are_those_of_their_dtype() -> None:
    result = reference("A: f16[M, K]", "return cast(cast(A * 0.1, f16), f64) + 0.25", A=X)
    tenth = float(np.float16(0.1))
    assert np.array_equal(result.values, wide((wide(X) * tenth).astype(np.float16)) + 0.25)


def test_integers_stay_integers() -> None:
    codes = RANDOM.integers(0, 16, (4, 6), np.uint8)
    tensor = Tensor.from_codes("u4", codes)
    body = "q = cast(B, i32)\nreturn cast(q / 3 - q % 5, f64)"
    result = reference("B: u4[M, K]", body, B=tensor)
    expected = codes.astype(int) // 3 - codes.astype(int) % 5
    assert np.array_equal(result.values, expected)
    assert np.array_equal(result.magnitude, np.abs(expected))


def test_the_magnitude_of_a_product_is_that_of_absolute_values() -> None:
    result = reference("A: f16[M, K], B: f32[K, N]", "return dot(A, B)", A=X, B=Y)
    assert np.allclose(result.values, wide(X) @ wide(Y), rtol=1e-15, atol=0)
    assert np.allclose(result.magnitude, np.abs(wide(X)) @ np.abs(wide(Y)), rtol=1e-15, atol=0)
    added = reference("A: f16[M, K], B: f32[K, N], C: f64[M, N]", "return dot(A, B, c=C)",
                      A=X, B=Y, C=-wide(X) @ wide(Y))  # fmt: skip
    assert np.abs(added.values).max() < 1e-14
    assert (added.magnitude >= np.abs(wide(X)) @ np.abs(wide(Y))).all()


def test_magnitudes_survive_cancellation_and_moves() -> None:
    """x - x is 0, of magnitude 2 |x|, wherever its elements go."""
    moves = [
        ("z", lambda m: m),
        ("transpose(z)", np.transpose),
        ("reshape(z, [24])", np.ravel),
        ("repeat(z, 3, axis=1)", lambda m: np.repeat(m, 3, 1)),
        ("reduce(z, axis=0)", lambda m: m.sum(0, keepdims=True)),
        ("z * 2.0", lambda m: 2 * m),
        ("-z", lambda m: m),
        ("min(z, 1.0)", lambda m: np.minimum(m, 1)),
        ("cast(cast(z, f32), f64)", lambda m: m),
    ]
    for move, expected in moves:
        result = reference("A: f16[M, K]", f"z = cast(A, f64) - cast(A, f64)\nreturn {move}", A=X)
        assert not result.values.any()
        wanted = expected(2 * np.abs(wide(X)))
        assert np.allclose(result.magnitude, wanted, rtol=1e-6, atol=0), move


def test_functions_are_of_their_own_magnitude() -> None:
    result = reference("A: f16[M, K]", "return exp(A - A * 20.0)", A=X)
    assert np.array_equal(result.magnitude, result.values)


def test_a_value_is_never_larger_than_its_magnitude() -> None:
    result = reference("A: f16[M, K]", "return min(A, A * 3.0)", A=X)
    assert (np.abs(result.values) <= result.magnitude).all()


def test_loops_branches_and_variables() -> None:
    body = """var total = A - A
for i in range(3) {
  if i == 1 {
    continue
  }
  total := total - A
}
var n: i32 = 0
while n < 4 {
  n := n + 3
}
return total * cast(n, f32)"""
    result = reference("A: f32[M, K]", body, A=wide(X).astype(np.float32))
    assert np.array_equal(result.values, -2 * 6 * wide(X))
    # A - A, then twice - A, times 6: every one of the four counts.
    assert np.array_equal(result.magnitude, 4 * 6 * np.abs(wide(X)))


def test_scalars_and_prints() -> None:
    shown: list[str] = []
    (program,) = parse(
        "vm 1\nreference r(A: f16[N], s: f16) {\nprint(A * s)\nreturn A * s\n}"
    ).programs.values()
    given = {"A": np.ones(2, np.float16), "s": 0.1}
    result = run_reference(program, given, output=shown.append)
    assert np.array_equal(result.values, np.full(2, float(np.float16(0.1))))
    assert len(shown) == 1 and "r" in shown[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"A": X, "B": Y[:5]}, "K is 5 in `B` and 6 elsewhere"),
        ({"A": X, "B": Y[0]}, "has 2 dimensions, not 1"),
        ({"A": X.astype(np.float32), "B": Y}, "f16 is stored as float16"),
        ({"A": X}, "`B`"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(VmError) as caught:
        reference("A: f16[M, K], B: f32[K, 5]", "return dot(A, B)", **arguments)
    assert caught.value.code == "E0509" or (len(arguments) == 1 and caught.value.code == "E0303")
    assert said in str(caught.value)


def test_shapes_that_are_expressions_are_checked() -> None:
    with pytest.raises(VmError) as caught:
        reference("A: f16[M, K], S: f16[K / 2]", "return A", A=X, S=np.ones(4, np.float16))
    assert caught.value.code == "E0509"
    assert "float16[3]; the array is float16[4]" in str(caught.value)
    assert (caught.value.origin.line, caught.value.origin.column) == (2, 27)


def test_a_reference_traps_like_a_program() -> None:
    with pytest.raises(VmError) as caught:
        reference("A: f16[M, K]", "assert(A < 0.0)\nreturn A", A=X)
    assert caught.value.code == "E0505"
    assert caught.value.origin.line == 3
