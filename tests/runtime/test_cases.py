"""Cases: what they compute, how they compare, and that every mistake in one has a code and a
place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import NOWHERE
from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import bounds
from vm.runtime.case_functions import FUNCTIONS, blank
from vm.runtime.cases import CaseResult, check_case, poisoned, run_case
from vm.runtime.comparison import compare
from vm.runtime.inputs import FileInput, RandomInput
from vm.runtime.reference_values import ReferenceResult

MODULE = """vm 1

const T = 32
layout spread = spatial(T)

program copy(A: global(f32)[N], C: out(global(f32))[N])
  grid (N / T) threads 32 where N % T == 0
{
  i = block_index() * T
  store(C[i +: T], load(A[i +: T], layout=spread))
}

program both(A: global(f32)[N], scale: f32, C: out(global(f32))[N], D: out(global(i32))[N])
  grid (ceil_div(N, T)) threads 32
{
  i = block_index() * T
  store(C[i +: T], load(A[i +: T]) * scale)
  store(D[i +: T], iota(i32, [T]) + i)
}

program half(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 32 {
  store(C[0 +: 32], load(A[0 +: 32]))
}

program add_to(A: global(f32)[N], C: inout(global(f32))[N]) grid (1) threads 32 {
  sum = load(C[0 +: 32]) + load(A[0 +: 32])
  synchronize()
  store(C[0 +: 32], sum)
}

program pad(A: global(f32)[N], C: out(global(f32))[P]) grid (1) threads 32 where P < 64 {
  store(C[0 +: 64], load(A[0 +: 64]))
}

reference same(A: f32[N]) {
  return A
}

reference nothing(A: f32[N]) {
  x = A
}

"""


def case_of(body: str, sizes: str = "N=64"):
    module = parse(f"{MODULE}case main({sizes}) {{\n{body}\n}}\n", "case.vm")
    return module, module.cases["main"]


def run(body: str, sizes: str = "N=64", **options) -> CaseResult:
    module, case = case_of(body, sizes)
    return run_case(module, case, **options)


def passed(body: str, sizes: str = "N=64", **options) -> CaseResult:
    result = run(body, sizes, **options)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations
    return result


# --- what works ---


def test_a_case_binds_calls_and_expects():
    result = passed("A = random(f32, [N], seed=1)\nC = copy(A)\nexpect(C, same(A))")
    assert result.sizes == {"N": 64}
    (call,) = result.calls
    assert (call.program, call.blocks) == ("copy", 2)
    assert call.inputs == ("A f32[64]",)
    assert call.outputs == ("C f32[64]",)
    (expectation,) = result.expectations
    assert (expectation.error, expectation.bound) == (0.0, None)


def test_several_results_bind_several_names():
    result = passed(
        "A = arange(f32, [N])\nC, D = both(A, scale=2.0)\n"
        "expect(C, arange(f32, [N], step=2))\nexpect(D, arange(i32, [N]))",
        "N=40",
    )
    assert len(result.expectations) == 2


def test_static_values_may_be_bound_and_used():
    passed("M = N / 2 + T\nA = zeros(f32, [M])\nexpect(copy(A), same(A))")


def test_sizes_may_use_constants_and_earlier_sizes():
    assert passed("A = zeros(f32, [K])\nexpect(copy(A), A)", "M=T, K=2 * M").sizes == {
        "M": 32,
        "K": 64,
    }


def test_a_size_that_no_shape_says_is_given_by_name():
    result = passed("A = zeros(f32, [N])\nC = pad(A, P=36)\nexpect(C, zeros(f32, [36]))", "N=32")
    assert result.variables["C"].shape == (36,)


def test_inout_leaves_the_variable_as_it_was():
    result = passed(
        "A = full(f32, [N], 2.0)\nB = full(f32, [N], 1.0)\nC = add_to(A, B)\n"
        "expect(C, full(f32, [N], 3.0))\nexpect(B, full(f32, [N], 1.0))",
        "N=32",
    )
    assert result.calls[0].inputs == ("A f32[32]", "C f32[32]")


def test_elements_that_nobody_wrote_are_wrong():
    """Results begin as NaN, so a program that forgets some is found out even where 0 is right."""
    result = run("A = zeros(f32, [N])\nexpect(half(A), A)")
    assert not result.passed
    (each,) = result.expectations
    assert each.wrong == 32
    assert each.index == (32,)
    assert np.isnan(each.got)


@pytest.mark.parametrize("name", ["f32", "f16", "f8e4m3", "u4", "i64", "bool", "u3", "f8e8m0"])
def test_poison_is_no_zero(name):
    element = dtype(name)
    tensor = poisoned(element, (4, 6))
    assert not (tensor.codes() == 0).any()
    if element.has_nan:
        assert np.isnan(tensor.values()).all()


def test_settings_change_constants_and_sizes():
    result = passed("A = zeros(f32, [N])\nexpect(copy(A), A)", settings={"N": 96, "T": 16 * 2})
    assert result.calls[0].blocks == 3


def test_random_inputs_can_have_another_seed():
    body = "A = random(f32, [N], seed=1, scale=2.0)\nexpect(copy(A), A)"
    plain, again = passed(body), passed(body, inputs={"A": RandomInput(9)})
    wanted = FUNCTIONS["random"](dtype("f32"), (64,), seed=9, scale=2.0).compute()[0]
    np.testing.assert_array_equal(again.variables["A"].codes(), wanted.codes())
    assert (plain.variables["A"].codes() != wanted.codes()).any()
    assert again.notes == ["A is random with seed 9"]


def test_an_input_file_gives_the_sizes(tmp_path):
    array = np.arange(96, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    body = "A = random(f32, [N], seed=1)\nexpect(copy(A), A)"
    result = passed(body, inputs={"A": FileInput(tmp_path / "a.npy", None)})
    assert result.sizes == {"N": 96}
    np.testing.assert_array_equal(result.variables["A"].values(), array)


def test_an_input_file_is_cast(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(64, dtype=np.float64))
    body = "A = random(f32, [N], seed=1)\nexpect(copy(A), A)"
    result = passed(body, inputs={"A": FileInput(tmp_path / "a.npy", None)})
    assert "cast from f64" in result.notes[0]


QUANTIZED = """W = random(f32, [N, K], seed=1)
B, S, Z = quantize(transpose(W), u4, group_size=32, zero_point=true)
expect(Z, Z)
"""


def test_quantized_weights_are_within_half_a_step(tmp_path):
    weight = np.random.default_rng(1).standard_normal((3, 70)).astype(np.float32)
    np.save(tmp_path / "w.npy", weight)
    result = passed(QUANTIZED, "N=1, K=1", inputs={"W": FileInput(tmp_path / "w.npy", None)})
    codes, scales, zeros = (result.variables[name].values() for name in "BSZ")
    assert codes.shape == (70, 3)
    assert scales.shape == zeros.shape == (3, 3)
    steps = scales.astype(np.float64)[np.arange(70) // 32]
    restored = (codes.astype(np.float64) - zeros[np.arange(70) // 32]) * steps
    # Half a step for the code, and what rounding the scale to f16 moves the furthest of 15 steps.
    reach = steps / 2 + 15 * steps * 2.0**-11
    assert (np.abs(restored - weight.T) <= reach * (1 + 2.0**-20)).all()


def test_symmetric_quantization_has_two_results():
    passed("W = random(f32, [N, 2], seed=1)\nQ, S = quantize(W, i4, group_size=32)\nexpect(S, S)")


def test_every_code_of_a_dtype_can_be_an_input():
    result = passed("Q = all_codes(f6e3m2)\nexpect(Q, Q)")
    np.testing.assert_array_equal(result.variables["Q"].codes(), np.arange(64))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dtype_and_shape_are_known_before_computing(name):
    calls = {
        "random": "random(u3, [3, 5], seed=1)",
        "arange": "arange(i8, [300])",
        "full": "full(bool, [2], 1)",
        "zeros": "zeros(f8e8m0, [2])",
        "all_codes": "all_codes(bool)",
        "transpose": "transpose(arange(u4, [2, 3, 4]), [2, 0, 1])",
        "quantize": "quantize(random(f32, [10, 2], seed=1), i4, group_size=4)",
    }
    module, case = case_of(f"{'x, y' if name == 'quantize' else 'x'} = {calls[name]}\nexpect(x, x)")
    assert check_case(module, case) is None
    result = run_case(module, case)
    assert result.passed
    # What is planned is what is computed: the walk without computing binds blanks of these types.
    planned = run_case_types(module, case)
    assert planned == {n: (v.dtype, v.shape) for n, v in result.variables.items()}


def run_case_types(module, case) -> dict:
    from vm.runtime.cases import _Run

    result = CaseResult(case.name, "")
    _Run(module, case, result, {}, {}, None, print).walk()
    return {name: (value.dtype, value.shape) for name, value in result.variables.items()}


def test_checking_a_large_case_takes_no_memory():
    import tracemalloc

    module, case = case_of("A = random(f32, [N], seed=1)\nexpect(copy(A), same(A))", "N=268435456")
    tracemalloc.start()
    assert check_case(module, case) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert blank(dtype("u3"), (5, 7)).codes().shape == (5, 7)


# --- what is refused, by code and place ---

REFUSED = [
    ("x = unknown(3)\nexpect(x, x)", "E0201", "unknown(3)"),
    ("A = zeros(f32, [N])\nC = cpoy(A)\nexpect(C, C)", "E0201", "cpoy(A)"),
    ("A = zeros(f32, [N])\nB = A + A\nexpect(A, B)", "E0203", "A"),
    ("A = zeros(f32, [N])\nB = load(A)\nexpect(A, B)", "E0203", "load(A)"),
    ("A = zeros(f32, [N])\nA = zeros(f32, [N])\nexpect(A, A)", "E0207", "A = zeros(f32, [N])"),
    ("T = 3\nexpect(T, T)", "E0207", "T = 3"),
    ("A, B = zeros(f32, [N])\nexpect(A, A)", "E0209", "A, B = zeros(f32, [N])"),
    ("A = zeros(f32)\nexpect(A, A)", "E0209", "zeros(f32)"),
    ("A = random(f32, [N])\nexpect(A, A)", "E0209", "random(f32, [N])"),
    ("A = zeros(f32, N)\nexpect(A, A)", "E0205", "N"),
    ("A = zeros(3, [N])\nexpect(A, A)", "E0205", "3"),
    ("A = random(f32, [N], seed=1.5)\nexpect(A, A)", "E0205", "1.5"),
    ("A = all_codes(f32)\nexpect(A, A)", "E0205", "all_codes(f32)"),
    ("A = zeros(f32, [N])\nC = copy(A, A)\nexpect(C, A)", "E0209", "A"),
    ("A = zeros(f32, [N])\nC = copy()\nexpect(C, A)", "E0209", "copy()"),
    ("A = zeros(f32, [N])\nC = copy(X=A)\nexpect(C, A)", "E0209", "A"),
    ("A = zeros(f32, [N])\nC = copy(A, A=A)\nexpect(C, A)", "E0209", "A"),
    ("A = zeros(f32, [N])\nC = pad(A)\nexpect(C, A)", "E0706", "pad(A)"),
    ("A = zeros(f32, [N])\nC = pad(A, P=90)\nexpect(C, A)", "E0703", "pad(A, P=90)"),
    ("A = zeros(f32, [N])\nC = copy(A, N=N + 1)\nexpect(C, A)", "E0701", "A"),
    ("A = zeros(f16, [N])\nexpect(copy(A), A)", "E0702", "A"),
    ("A = zeros(f32, [N, 2])\nexpect(copy(A), A)", "E0702", "A"),
    ("A = zeros(f32, [N])\nC, D = both(A, A)\nexpect(C, A)", "E0702", "A"),
    ("A = zeros(f32, [N])\nC, D = both(A, true)\nexpect(C, A)", "E0702", "true"),
    ("expect(copy(3), 4)", "E0702", "3"),
    ("A = zeros(f32, [N])\nexpect(A)", "E0209", "expect(A)"),
    ("A = zeros(f32, [N])\nexpect(A, A, slack=1)", "E0209", "expect(A, A, slack=1)"),
    ("A = zeros(f32, [N])\nexpect(A, 3)", "E0205", "3"),
    ("A = zeros(f32, [N])\nB = zeros(f32, [2 * N])\nexpect(A, B)", "E0302", "B"),
    ("A = zeros(f32, [N])\nexpect(A, A, bound=elementwise_error(f32))", "E0209", "A"),
    ("A = zeros(f32, [N])\nexpect(A, same(A), bound=0.1)", "E0209", "0.1"),
    ("A = zeros(f32, [N])\nexpect(A, same(A), bound=dot_error(f16))", "E0209", "dot_error(f16)"),
    ("A = zeros(f32, [N])\nexpect(A, both(A, 1.0))", "E0209", "both(A, 1.0)"),
    ("A = zeros(f32, [N])\nexpect(A, nothing(A))", "E0704", None),
    ("A = zeros(f32, [N])", "E0704", None),
    ("A = zeros(f32, [N])\nstore(A, A)\nexpect(A, A)", "E0704", "store(A, A)"),
    ("for i in range(3) {\n}\nexpect(1, 1)", "E0704", "for i in range(3) {\n}"),
    ("A = zeros(f32, [1 << 30])\nexpect(A, A)", "E0705", "zeros(f32, [1 << 30])"),
]


@pytest.mark.parametrize(("body", "code", "place"), REFUSED)
def test_mistakes_have_a_code_and_a_place_with_and_without_running(body, code, place):
    module, case = case_of(body)
    for error in (check_case(module, case), run_case(module, case).fault):
        assert error is not None
        assert error.code == code
        origin = error.origin
        assert origin.file == "case.vm"
        assert error.diagnostics[0].fix
        if place is not None:
            lines = origin.source.text.split("\n")[origin.line - 1 : origin.end_line]
            lines[-1] = lines[-1][: origin.end_column - 1]
            lines[0] = lines[0][origin.column - 1 :]
            assert "\n".join(lines) == place


def test_a_size_must_be_a_whole_number():
    assert run("A = zeros(f32, [N])\nexpect(A, A)", "N=-3").fault.code == "E0205"
    assert run("A = zeros(f32, [N])\nexpect(A, A)", "N=f16").fault.code == "E0205"


def test_sizes_that_break_a_fact_are_answered_with_what_would_fit():
    fault = run("A = zeros(f32, [N])\nexpect(copy(A), A)", "N=33").fault
    assert fault.code == "E0703"
    assert fault.diagnostics[0].fix == "N = 32 or 64 would fit"


def test_unknown_settings_and_inputs_are_refused():
    body = "A = zeros(f32, [N])\nC = copy(A)\nexpect(C, A)"
    assert run(body, settings={"M": 3}).fault.code == "E0803"
    for name in ("B", "C"):
        assert run(body, inputs={name: RandomInput(1)}).fault.code == "E0804"


@pytest.mark.parametrize(
    ("array", "settings_", "code"),
    [
        (np.zeros((8, 8), np.float32), {}, "E0807"),
        (np.zeros(64, np.float32), {"N": 32}, "E0807"),
        (np.zeros(33, np.float32), {}, "E0703"),
        (np.zeros(64, np.complex64), {}, "E0805"),
        (np.full(64, 1e60), {}, "E0807"),
    ],
)
def test_files_that_do_not_fit_are_refused(array, settings_, code, tmp_path):
    np.save(tmp_path / "a.npy", array)
    body = "A = zeros(f32, [N])\nexpect(copy(A), A)"
    source = FileInput(tmp_path / "a.npy", None)
    assert run(body, settings=settings_, inputs={"A": source}).fault.code == code


def test_two_files_that_disagree_about_a_size_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(32, np.float32))
    np.save(tmp_path / "b.npy", np.zeros(64, np.float32))
    sources = {name: FileInput(tmp_path / f"{name.lower()}.npy", None) for name in "AB"}
    result = run("A = zeros(f32, [N])\nB = zeros(f32, [N])\nexpect(A, B)", inputs=sources)
    assert result.fault.code == "E0807"


# --- comparing ---


def outcome(values: list[float]) -> ReferenceResult:
    array = np.asarray(values, np.float64)
    return ReferenceResult(array, np.abs(array))


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_exact_comparison_is_equality_of_numbers(pairs):
    got = Tensor.from_values("f32", [a for a, _ in pairs])
    want = outcome([b for _, b in pairs])
    each = compare("x", got, want, None, NOWHERE)
    equal = [a == b or (a != a and b != b) for a, b in pairs]
    assert each.passed == all(equal)
    assert each.wrong == equal.count(False)
    if not each.passed:
        assert not equal[each.index[0]]


@given(st.lists(st.tuples(numbers, numbers, st.floats(0, 1e30)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_bounded_comparison_is_an_inequality_for_each_element(rows):
    got = Tensor.from_values("f32", [a for a, _, _ in rows])
    allowed = np.array([c for _, _, c in rows])
    each = compare("x", got, outcome([b for _, b, _ in rows]), lambda v, m, d: allowed, NOWHERE)
    fits = [a == b or (a != a and b != b) or abs(a - b) <= c for a, b, c in rows]
    assert each.passed == all(fits)
    assert each.wrong == fits.count(False)
    assert each.passed or not fits[each.index[0]]


def test_64_bit_integers_that_f64_cannot_tell_apart_differ():
    big = 1 << 62
    got, want = (Tensor.from_values("i64", np.array([n])) for n in (big, big + 1))
    assert not compare("x", got, want, None, NOWHERE).passed
    assert compare("x", got, got, None, NOWHERE).passed


def test_the_element_nearest_to_its_bound_is_reported():
    got = Tensor.from_values("f32", [1.0, 100.5, 3.0])
    allowed = np.array([1.0, 100.0, 0.25])
    want = ReferenceResult(np.array([1.5, 100.0, 3.2]), np.ones(3))
    each = compare("x", got, want, lambda v, m, d: allowed, NOWHERE)
    assert each.index == (2,)
    assert each.passed


def test_a_result_past_its_bound_fails():
    body = "A = full(f32, [N], 3.0)\nC, D = both(A, 1.0000001)\n"
    loose = "expect(C, same(A), bound=elementwise_error(f32, 2))"
    assert passed(body + loose).expectations[0].error > 0
    failed = run(body + "expect(C, same(A), bound=exact())")
    assert not failed.passed
    assert failed.expectations[0].wrong == 64
    assert bounds.exact()(np.ones(2), np.ones(2), dtype("f32")).tolist() == [0, 0]
