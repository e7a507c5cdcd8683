"""Quantized weights against a scalar transcription of the rules, one weight at a time."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from programs.quantize import (
    TABLE_TYPES,
    dequantize,
    error_table,
    main,
    quantization_error,
    quantize,
    second_level_scale,
)
from vm.isa.dtypes import DTypeError, codebook, dtype

WEIGHTS = np.random.default_rng(4).standard_normal((72, 5)).astype(np.float32) / 50


def nearest_values(quotients: np.ndarray, element) -> list[Fraction]:
    """For each quotient the values of the type at the least distance, by trying all of them."""
    values = element.decode(np.arange(len(element.table) or 1 << element.bits))
    exact = [Fraction(float(v)) for v in values if np.isfinite(v)]
    limit = max(exact), min(exact)
    nearest = []
    for quotient in quotients.tolist():
        x = min(max(Fraction(quotient), limit[1]), limit[0])
        least = min(abs(x - value) for value in exact)
        nearest.append({value for value in exact if abs(x - value) == least})
    return nearest


@pytest.mark.parametrize("scale_name", ["f16", "f32", "bf16"])
@pytest.mark.parametrize("name", [*TABLE_TYPES, "f8e3m4"])
def test_every_code_is_nearest(name, scale_name):
    """One column of two groups: scale by the formula, in f32, and each value by exhaustion."""
    element, scale_type = dtype(name), dtype(scale_name)
    zero_point = element.kind == "unsigned"
    weights = WEIGHTS[:20, :1]
    codes, scales, zeros = quantize(weights, element, 12, zero_point, scale_dtype=scale_name)
    assert codes.shape == (20, 1) and scales.shape == (2, 1)
    for index, part in enumerate((weights[:12, 0], weights[12:, 0])):
        low, high = min(part.min(), np.float32(0)), max(part.max(), np.float32(0))
        spread = high - low if zero_point else max(high, -low)
        scale = spread / np.float32(element.max - element.min if zero_point else element.max)
        scale = np.float32(scale_type.decode(scale_type.encode(scale)))
        assert scales.values()[index, 0] == scale
        quotients = part / scale
        got = codes.values()[:, 0][12 * index : 12 * index + 12].astype(np.float64)
        if zero_point:
            zero = round(float(np.float32(element.min) - low / scale))
            assert zeros.values()[index, 0] == min(max(zero, element.min), element.max)
            zero = int(zeros.values()[index, 0])
            expected = [min(max(round(q) + zero, 0), element.max) for q in quotients.tolist()]
            assert got.tolist() == expected
        else:
            assert zeros is None
            choices = nearest_values(quotients, element)
            assert all(Fraction(v) in near for v, near in zip(got.tolist(), choices, strict=True))


@pytest.mark.parametrize(
    "name, zero_point", [("u3", True), ("i4", False), ("i4", True), ("nf4", False)]
)
def test_restored_weights_are_code_less_zero_times_scale(name, zero_point):
    codes, scales, zeros = quantize(WEIGHTS, name, 16, zero_point)
    restored = dequantize(codes, scales, zeros, group=16)
    assert restored.dtype == np.float32 and restored.shape == WEIGHTS.shape
    for k, n in np.ndindex(*WEIGHTS.shape):
        zero = np.float32(zeros.values()[k // 16, n]) if zero_point else np.float32(0)
        scale = np.float32(scales.values()[k // 16, n])
        assert restored[k, n] == (np.float32(codes.values()[k, n]) - zero) * scale


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["u4", "i5", "f4e2m1", "u1"]),
    st.integers(1, 80),
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(0, 2),
)
def test_the_axis_only_turns_the_weights(name, group, others, axis):
    axis = min(axis, len(others))
    shape = (*others[:axis], 37, *others[axis:])
    weights = np.random.default_rng(group).standard_normal(shape)
    zero_point = name[0] == "u"
    codes, scales, zeros = quantize(weights, name, group, zero_point, axis=axis)
    turned = quantize(np.moveaxis(weights, axis, 0), name, group, zero_point)
    assert (np.moveaxis(codes.codes(), axis, 0) == turned.codes.codes()).all()
    assert (np.moveaxis(scales.codes(), axis, 0) == turned.scales.codes()).all()
    restored = dequantize(codes, scales, zeros, group, axis)
    assert (np.moveaxis(restored, axis, 0) == dequantize(*turned, group=group)).all()
    again = quantize(weights, name, group, zero_point, axis=axis - len(shape))
    assert (again.codes.codes() == codes.codes()).all()


def test_no_group_is_the_whole_axis():
    whole, same = quantize(WEIGHTS, "i8"), quantize(WEIGHTS, "i8", group=72)
    assert whole.scales.shape == (1, 5)
    assert (whole.codes.codes() == same.codes.codes()).all()


@pytest.mark.parametrize("name", TABLE_TYPES)
@pytest.mark.parametrize("scale_name", ["f16", "f8e8m0", "f8e4m3"])
def test_zeros_come_back_as_zeros(name, scale_name):
    if name[0] == "u" and scale_name == "f8e8m0":
        return
    weights = np.zeros((32, 2))
    weights[16:, 1] = np.linspace(-1, 1.5, 16)
    weights[20, 1] = 0
    result = quantize(weights, name, 16, name[0] == "u", scale_dtype=scale_name)
    assert (dequantize(*result, group=16)[weights == 0] == 0).all()


def test_scales_without_mantissa_follow_the_mx_rule():
    """MXFP4: 2**(floor(log2 max) - 2), where 2 is the exponent of the largest f4e2m1, 6."""
    _, scales, _ = quantize(WEIGHTS, "f4e2m1", 32, scale_dtype="f8e8m0")
    for group, n in np.ndindex(*scales.shape):
        largest = np.abs(WEIGHTS[32 * group : 32 * group + 32, n]).max()
        assert scales.values()[group, n] == 2.0 ** (np.frexp(largest)[1] - 1 - 2)


def test_two_level_scales_use_the_range_of_their_type():
    """NVFP4: with f8e4m3 scales alone, weights of this size fall among its subnormals."""
    second = second_level_scale(WEIGHTS, "f4e2m1", "f8e4m3")
    assert second == np.float32(np.abs(WEIGHTS).max() / np.float32(6 * 448))
    two_level = quantize(WEIGHTS / np.float32(second), "f4e2m1", 16, scale_dtype="f8e4m3")
    assert two_level.scales.values().max() == 448
    one_level = quantize(WEIGHTS, "f4e2m1", 16, scale_dtype="f8e4m3")
    restored = dequantize(*two_level, group=16) * np.float32(second)
    better = quantization_error(WEIGHTS, restored).relative
    assert better < quantization_error(WEIGHTS, dequantize(*one_level, group=16)).relative
    assert second_level_scale(np.zeros((2, 2)), "f4e2m1", "f8e4m3") == 1.0


def test_a_wider_type_of_a_family_loses_less():
    for family in ("u", "i"):
        names = [name for name in TABLE_TYPES if name[0] == family]
        errors = []
        for name in names:
            result = quantize(WEIGHTS, name, 24, zero_point=family == "u")
            errors.append(quantization_error(WEIGHTS, dequantize(*result, group=24)))
        assert all(a.relative > b.relative for a, b in pairwise(errors))


def test_the_error_is_what_it_says():
    error = quantization_error([3.0, -4.0], [3.0, -3.0])
    assert error.largest == 1 and error.root_mean_square == np.sqrt(0.5)
    assert error.relative == np.sqrt(0.5) / np.sqrt(12.5)
    assert error.decibels == -20 * np.log10(error.relative)
    assert quantization_error([1.0], [1.0]).decibels == np.inf


def test_a_codebook_of_ones_own():
    ternary = codebook("ternary", [-1, 0, 1], "f16")
    result = quantize(WEIGHTS, ternary, 24)
    assert set(np.unique(result.codes.codes())) == {0, 1, 2}
    assert result.codes.nbytes == 72 * 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("u4",), "write zero_point=True, or i4"),
        (("f4e2m1", 16, True), "zero_point=False"),
        (("i1",), "write u1 with zero_point=True"),
        (("bool",), "no type of weights"),
        (("f8e8m0",), "no type of weights"),
        (("i32",), "no type of weights"),
        (("i4", 0), "groups of 0"),
        (("i4", 16, False, 2), "no axis 2"),
        (("i4", 16, False, 0, "u8"), "no type of scales"),
        (("u4", 16, True, 0, "f8e8m0"), "powers of two go without zero point"),
        (("int4x",), "did you mean"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(DTypeError, match=message):
        quantize(WEIGHTS, *arguments)
    with pytest.raises(DTypeError, match="infinite or NaN"):
        quantize([[np.nan, 1.0]], "i4")


def test_the_command_prints_the_table(tmp_path, capsys):
    path = tmp_path / "weight.safetensors"
    save_file({"a": WEIGHTS, "b": np.ascontiguousarray(WEIGHTS.T).astype(np.float16)}, path)
    assert main([f"{path}:a", "--group", "24", "--types", "u4,nf4"]) == 0
    assert capsys.readouterr().out.strip() == error_table(WEIGHTS, ["u4", "nf4"], 24)
    assert main([f"{path}:b", "--group", "24", "--axis", "1", "--types", "u3"]) == 0
    halves = WEIGHTS.T.astype(np.float16)
    assert capsys.readouterr().out.strip() == error_table(halves, ["u3"], 24, axis=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["weight.npy", "--types", "u99"], "u64"),
        (["none.npy"], "E0801"),
        (["weight.txt"], "E0804"),
        (["random:1"], "name a file"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    np.save("weight.npy", WEIGHTS)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
