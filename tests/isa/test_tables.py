"""Codebooks of a program's own: tables that are constants, and tables that are arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run
from vm.runtime.reference_values import run_reference

LEVELS = [-1.0, -0.25, 0.5, 2.0, 3.0]
CODEBOOK = f"""vm 1
const levels = {LEVELS}
const WEIGHT = codebook(levels, f16)

program both_ways(A: global(WEIGHT)[N], X: global(f32)[N], Y: out(global(f16))[N],
                  B: out(global(WEIGHT))[N])
  grid (ceil_div(N, 64)) threads 32
{{
  n = block_index() * 64
  store(Y[n +: 64], cast(load(A[n +: 64]), f16))
  store(B[n +: 64], cast(load(X[n +: 64]), WEIGHT, rounding="nearest_entry"))
}}

reference values(A: WEIGHT[N]) {{ return cast(A, f64) * 2.0 }}
"""


def test_a_codebook_of_a_constant_is_a_type_of_programs():
    module = parse(CODEBOOK)
    kernel = module["both_ways"].instantiate()
    element = kernel.parameters[0].type.dtype
    assert (element.kind, element.bits, element.entry) == ("codebook", 3, dtype("f16"))
    codes = np.arange(77) % len(LEVELS)
    numbers = np.random.default_rng(1).normal(0, 2, 77).astype(np.float32)
    A = Tensor.from_codes(element, codes)
    outputs = run(kernel, {"A": A, "X": numbers, "Y": None, "B": None}).outputs
    assert outputs["Y"].values().tolist() == [LEVELS[code] for code in codes]
    # The nearest entry, by looking at all of them.
    distances = np.abs(numbers.astype(np.float64)[:, None] - np.array(LEVELS))
    assert outputs["B"].codes().tolist() == distances.argmin(axis=1).tolist()
    doubled = run_reference(module["values"], {"A": A})
    assert doubled.values.tolist() == [2 * LEVELS[code] for code in codes]


def test_its_kernel_prints_as_text_that_stands_alone():
    kernel = parse(CODEBOOK)["both_ways"].instantiate()
    assert "codebook([-1.0, -0.25, 0.5, 2.0, 3.0], f16)" in str(kernel)
    assert parse(f"vm 1\n{kernel}")["both_ways"].instantiate() == kernel


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("codebook([1.0], f16)", "has 1 entries; it needs 2 to 256"),
        ("codebook([1.0, 0.1], f16)", "is not a value of f16"),
        ("codebook([1.0, 2.0], u8)", "a codebook's entries are f16, bf16 or f32, not u8"),
        ("codebook(3, f16)", "made of a list of numbers"),
        ("codebook([1.0, 2.0], 16)", "entries have a dtype"),
    ],
)
def test_a_codebook_that_cannot_be_is_refused(written, says):
    text = CODEBOOK.replace("codebook(levels, f16)", written)
    with pytest.raises(VmError, match="E0205") as caught:
        parse(text)["both_ways"].instantiate()
    assert says in str(caught.value)


@pytest.mark.parametrize("target", ["WEIGHT", "nf4"])
def test_a_cast_into_a_codebook_says_what_to_write(target):
    text = CODEBOOK.replace(', WEIGHT, rounding="nearest_entry")', f", {target})")
    with pytest.raises(VmError, match="E0213") as caught:
        parse(text)["both_ways"].instantiate()
    assert 'rounding="nearest_entry"' in str(caught.value)


def test_arithmetic_on_codebooks_is_refused_with_the_cast_to_write():
    text = CODEBOOK.replace("cast(load(A[n +: 64]), f16)", "cast(load(A[n +: 64]) * 2.0, f16)")
    with pytest.raises(VmError, match="E0212") as caught:
        parse(text)["both_ways"].instantiate()
    assert "cast(x, f16)" in str(caught.value)


@pytest.mark.parametrize("name", ["u1", "i4", "u7", "f6e3m2", "f8e4m3", "f8e8m0", "tf32"])
def test_arithmetic_on_types_that_store_is_refused(name):
    text = f"""vm 1
program f(A: global({name})[N]) grid (1) threads 32 {{
  a = load(A[0 +: 32])
  print(a + a)
}}"""
    with pytest.raises(VmError, match="E0212") as caught:
        parse(text)["f"].instantiate()
    assert "fix: cast it: cast(x, " in str(caught.value)


# --- lookup ---
def looked_up(codes: Tensor, table: Tensor, place: str) -> np.ndarray:
    """What `lookup` gives where the table is in one of three places."""
    count = table.shape[0]
    text = f"""vm 1
program f(I: global({codes.dtype.name})[N], T: global({table.dtype.name})[{count}],
          C: out(global({table.dtype.name}))[N])
  grid (ceil_div(N, 64)) threads 32
{{
  n = block_index() * 64
  shared = shared_alloc({table.dtype.name}, [{count}])
  store(shared, load(T))
  synchronize()
  registers = load(T)
  store(C[n +: 64], lookup(load(I[n +: 64]), {place}))
}}"""
    kernel = parse(text)["f"].instantiate()
    assert parse(f"vm 1\n{kernel}")["f"].instantiate() == kernel
    return run(kernel, {"I": codes, "T": table, "C": None}).outputs["C"].codes()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["T", "shared", "registers"]),
    st.sampled_from(["u1", "u2", "u3", "u5", "u8", "u32"]),
    st.sampled_from(["f16", "bf16", "f32", "u4", "f6e2m3", "i16"]),
    st.integers(2, 256),
    st.integers(0, 2**32 - 1),
)
def test_lookup_takes_the_entry_of_each_code(place, code, entry, count, seed):
    random = np.random.default_rng(seed)
    element = dtype(entry)
    entries = random.integers(0, 1 << min(element.bits, 15), count).astype(element.storage)
    count = min(count, 1 << dtype(code).bits)
    codes = random.integers(0, count, 70)
    got = looked_up(Tensor.from_codes(code, codes), Tensor.from_codes(element, entries), place)
    # f16 and bf16 codes below 2^15 may be NaN, of which all are one.
    want = element.encode(element.decode(entries), "ieee") if element.is_float else entries
    assert got.tolist() == [want[c] for c in codes]


@pytest.mark.parametrize("place", ["T", "shared", "registers"])
def test_a_code_past_the_table_is_a_fault(place):
    codes = np.zeros(130, np.uint8)
    codes[101] = 5
    with pytest.raises(VmError, match="E0508") as caught:
        looked_up(Tensor.from_codes("u3", codes), Tensor.from_values("f16", LEVELS), place)
    assert "code 5 at [37] names no entry of a table of 5" in str(caught.value)
    assert "block 1" in str(caught.value)


def test_a_code_past_the_table_is_a_fault_in_references_too():
    text = "vm 1\nreference f(I: u3[N], T: f16[5]) { return cast(lookup(I, T), f64) }"
    reference = parse(text)["f"]
    table = Tensor.from_values("f16", LEVELS)
    good = run_reference(reference, {"I": Tensor.from_codes("u3", [4, 0, 1]), "T": table})
    assert good.values.tolist() == [3.0, -1.0, -0.25]
    assert good.magnitude.tolist() == [3.0, 1.0, 0.25]
    with pytest.raises(VmError, match="E0508"):
        run_reference(reference, {"I": Tensor.from_codes("u3", [4, 6, 1]), "T": table})


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("load(S[0 +: 32]), T", "E0205", "view(x, u4, layout=...)"),
        ("load(F[0 +: 32]), T", "E0205", "cast(x, u8)"),
        ("load(I[0 +: 32]), W", "E0303", "constant"),
        ("load(I[0 +: 32]), D", "E0302", "a vector of 2 to 256 entries"),
        ("load(I[0 +: 32]), D[0]", "E0302", "larger tables are read with gather"),
        ("load(I[0 +: 32]), T[0 +: 1]", "E0302", "a vector of 2 to 256 entries"),
        ("load(I[0 +: 32]), load(D)", "E0302", "a vector of 2 to 256 entries"),
        ("load(I[0 +: 32]), 1.0", "E0203", "lookup"),
    ],
)
def test_what_is_no_table_and_what_are_no_codes_is_refused(arguments, code, says):
    text = f"""vm 1
program f(I: global(u4)[N], S: global(i4)[N], F: global(f16)[N], T: global(f16)[16],
          W: global(f16)[N], D: global(f16)[2, 300]) grid (1) threads 32 {{
  print(lookup({arguments}))
}}"""
    with pytest.raises(VmError, match=code) as caught:
        parse(text)["f"].instantiate()
    assert says in str(caught.value)


def test_a_table_that_is_being_written_is_a_race():
    text = """vm 1
program f(I: global(u4)[64], C: out(global(f16))[64]) grid (1) threads 64 {
  t = shared_alloc(f16, [16])
  store(t, 1.0)
  store(C, lookup(load(I), t))
}"""
    codes = Tensor.from_codes("u4", np.zeros(64, np.uint8))
    with pytest.raises(VmError, match="E0601"):
        run(parse(text)["f"].instantiate(), {"I": codes, "C": None})
