"""Every form of quantized weights: within its bound, and weight by weight exactly."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from programs.quantized_matmul import FORMATS, Form, main, quantized_matmul
from tests.isa.exact_types import values_of_codes
from tests.programs.quantized_forms import FORMS, form_of
from vm.isa.dtypes import DTypeError, dtype
from vm.isa.program import Module, load, parse
from vm.isa.tensor import Tensor
from vm.runtime.cases import check_case, run_case
from vm.runtime.reference import run

every_form = pytest.mark.parametrize("name", FORMS)


@cache
def module_of(name: str) -> Module:
    return quantized_matmul(FORMS[name])


@every_form
def test_its_cases_pass(name):
    module = module_of(name)
    assert set(module.cases) == {"main", "odd", "one_row"}
    for case in (module.cases["odd"], module.cases["one_row"]):
        result = run_case(module, case)
        assert result.passed, result.fault or result.expectations
        assert result.expectations[0].bound > 0


@every_form
def test_what_it_prints_is_the_module(name):
    module = module_of(name)
    again = parse(str(module))
    assert again == module
    assert all(check_case(again, case) is None for case in again.cases.values())


def test_the_largest_case_passes():
    for name in ("u3-128", "mxfp4", "nvfp4", "codebook"):
        module = module_of(name) if name in FORMS else quantized_matmul(form_of("u3", 128))
        assert run_case(module, module.cases["main"]).passed


# --- exactly: the activations are a unit matrix, so that each weight comes out alone ---
def weight_values(form: Form, codes: np.ndarray, table: np.ndarray | None) -> np.ndarray:
    """What codes stand for, by the tables of exact rationals."""
    if table is not None:
        return table[codes].astype(np.float64)
    if form.weight == "nf4":
        return np.asarray(dtype("nf4").table)[codes]
    return np.array([float(v) for v in values_of_codes(form.weight)])[codes]


def rounded(values: np.ndarray, activation: str) -> np.ndarray:
    """Rounded to f16 or bf16, in f64; of bf16 the tests only have values it holds exactly."""
    if activation == "bf16":
        assert not np.any(values.astype(np.float32).view(np.uint32) & 0xFFFF)
        return values
    return values.astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("name", [n for n, f in FORMS.items() if f.scale != "f32"])
def test_a_unit_matrix_gives_back_every_weight(name):
    form, module = FORMS[name], module_of(name)
    unit = form.group or 1
    K, N = -(-80 // unit) * unit, 37
    random = np.random.default_rng(len(name))
    count = form.entries or 1 << dtype(form.weight).bits
    codes = np.arange(K * N).reshape(K, N)[:, random.permutation(N)] % count
    if dtype(form.weight).has_nan:
        # NaN is no weight, and what overflows with its scale is none of f16.
        exact = values_of_codes(form.weight)
        usable = [not isinstance(v, str) and abs(v) <= 4096 for v in exact]
        codes = np.where(np.array(usable)[codes], codes, 0)
    groups = K // form.group if form.group else 1
    power = random.integers(-3, 4, (groups, N))
    scales = np.ldexp(1.0, power)
    if form.scale not in ("f8e8m0", "bf16"):
        scales *= random.choice([1.0, 1.5, -1.25], (groups, N))
    zeros = random.integers(0, count, (groups, N)) if form.zero_point else None
    table = random.permutation(64)[:count] / 8.0 if form.entries else None
    A = Tensor.from_values(form.activation, np.eye(K))
    B = Tensor.from_codes(form.weight, codes)
    arguments = {"A": A, "S": Tensor.from_values(form.scale, scales)}
    if zeros is not None:
        arguments["Z"] = Tensor.from_codes(form.weight, zeros)
    if table is not None:
        arguments["T"] = Tensor.from_values(form.activation, table)
    if form.second_level:
        arguments["second"] = 0.5
    packed = run(module["pack_weight"].instantiate(), {"B": B, "P": None}).outputs["P"]
    product = run(module["matmul"].instantiate(), {**arguments, "P": packed, "C": None})

    times = (lambda rows: np.repeat(rows, form.group, axis=0)) if form.group else (lambda r: r)
    want = rounded(weight_values(form, codes, table), form.activation)
    if zeros is not None:
        want = want - times(weight_values(form, zeros, None))
    want = want * times(scales)
    if form.group:
        want = rounded(want, form.activation)
    if form.second_level:
        want = want * 0.5
    np.testing.assert_array_equal(product.outputs["C"].values(), rounded(want, form.activation))


def test_it_agrees_with_the_matmul_that_was_written_by_hand():
    hand = load(Path(__file__).parents[2] / "programs" / "matmul_w4a16.vm")
    inputs = run_case(hand, hand.cases["odd_rows"]).variables
    results = []
    for module in (hand, quantized_matmul(form_of("u4", 128))):
        packed = run(module["pack_weight"].instantiate(), {"B": inputs["B"], "P": None})
        given = {**{n: inputs[n] for n in "ASZ"}, "P": packed.outputs["P"], "C": None}
        results.append(run(module["matmul"].instantiate(), given).outputs["C"].codes())
    np.testing.assert_array_equal(*results)


def test_roundings_are_counted_as_the_kernel_makes_them():
    assert Form("u4", None).operand_roundings == 0
    assert Form("u4", 128).operand_roundings == 1  # the product with the scale
    assert Form("nf4", None).operand_roundings == 1  # the entry
    assert Form("nf4", 64).operand_roundings == 2
    assert Form("nf4", 64, "f32").operand_roundings == 3  # the scale as well
    assert FORMATS["mxfp8"].operand_roundings == 0
    assert FORMATS["nvfp4"].operand_roundings == 0
    assert Form("f8e4m3", 16, "f8e4m3").operand_roundings == 0  # 4 + 4 digits in 11
    assert Form("f8e4m3", 16, "f8e4m3", activation="bf16").operand_roundings == 0  # in 8
    assert Form("i8", 16, "f8e4m3", activation="bf16").operand_roundings == 1
    assert Form("u8", 16, "f8e8m0", zero_point=True, activation="bf16").operand_roundings == 1
    assert (FORMATS["nvfp4"].sum_roundings, Form("u4", None).sum_roundings) == (1, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": "f8e7m0"}, "activation='bf16'"),
        ({"scale": "f8e8m0"}, "activation='bf16'"),
        ({"weight": "u9"}, "at most 8 bits"),
        ({"weight": "f8e8m0"}, "no type of weights"),
        ({"weight": "f4e2m1", "zero_point": True}, "leave zero_point out"),
        ({"entries": 17}, "2 to 16 entries"),
        ({"weight": "i4", "entries": 16}, "weight='u4'"),
        ({"scale": "f64"}, "scales are"),
        ({"activation": "f32"}, "f16 or bf16"),
        ({"group": 0}, "at least 1"),
    ],
)
def test_a_form_without_meaning_is_refused_with_what_to_write(change, says):
    with pytest.raises(DTypeError, match=says):
        replace(Form(), **change)


def test_a_group_that_fits_no_tile_is_refused():
    with pytest.raises(DTypeError, match="multiple of 16"):
        quantized_matmul(Form(group=24))


def test_the_command_prints_and_runs(capsys):
    assert main(["--weight", "u3", "--group", "128", "--zero-point", "--print"]) == 0
    assert parse(capsys.readouterr().out) == quantized_matmul(form_of("u3", 128))
    assert main(["--format", "mxfp4"]) == 0
    assert capsys.readouterr().out.count("PASS") == 3
    assert main(["--weight", "f8e7m0"]) == 1
    assert "activation='bf16'" in capsys.readouterr().err
