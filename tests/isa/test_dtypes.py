"""Names and limits of the element types."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from vm.isa.dtypes import DTypeError, codebook, dtype, known_names, name_here

SAME_AS = {
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "float6_e3m2fn": "f6e3m2",
    "float6_e2m3fn": "f6e2m3",
    "float4_e2m1fn": "f4e2m1",
    "bfloat16": "bf16",
    "float8_e8m0fnu": "f8e8m0",
    "int4": "i4",
    "uint4": "u4",
    "int2": "i2",
    "uint2": "u2",
}


@pytest.mark.parametrize("name", known_names())
def test_a_name_gives_one_type(name):
    one = dtype(name)
    assert one.name == str(one) == name
    assert dtype(name) is one and dtype(one) is one
    assert hash(one) == hash(dataclasses.replace(one))
    assert one.storage.itemsize * 8 >= one.bits > one.storage.itemsize * 4 or one.bits <= 8
    assert one.is_float + one.is_integer == (name != "bool")


@pytest.mark.parametrize("bits", range(1, 65))
def test_limits_of_integers(bits):
    """The peer says that u4 reaches 16: tilus.md 3.4 a."""
    unsigned, signed = dtype(f"u{bits}"), dtype(f"i{bits}")
    assert (unsigned.min, unsigned.max) == (0, 2**bits - 1)
    assert (signed.min, signed.max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("theirs, ours", SAME_AS.items())
def test_names_of_ml_dtypes(theirs, ours):
    assert dtype(theirs) is dtype(ours)
    assert dtype(np.dtype(getattr(ml_dtypes, theirs))) is dtype(ours)
    if ours[0] in "ui":
        info = ml_dtypes.iinfo(getattr(ml_dtypes, theirs))
        assert (dtype(ours).min, dtype(ours).max) == (int(info.min), int(info.max))
        return
    info = ml_dtypes.finfo(getattr(ml_dtypes, theirs))
    one = dtype(ours)
    assert one.max == float(info.max)
    assert one.min == float(info.min)
    assert one.smallest_normal == float(info.smallest_normal)
    assert one.smallest_subnormal == float(info.smallest_subnormal)
    assert one.epsilon == float(info.eps)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_limits_of_numpy_floats(name):
    one, info = dtype(np.dtype(name)), np.finfo(name)
    assert one.max == float(info.max)
    assert one.min == float(info.min)
    assert one.smallest_normal == float(info.smallest_normal)
    assert one.smallest_subnormal == float(info.smallest_subnormal)
    assert one.epsilon == float(info.eps)


@pytest.mark.parametrize(
    "name, largest",
    [("f7e5m1", 98304.0), ("f6e3m2", 28.0), ("f4e2m1", 6.0), ("f3e1m1", 3.0), ("f3e2m0", 4.0)],
)
def test_all_ones_exponents_are_numbers_in_narrow_floats(name, largest):
    """The peer computes the limit of f7e5m1 as if exponent 31 were reserved: tilus.md 3.4 d."""
    assert dtype(name).max == largest


@pytest.mark.parametrize(
    "name, hint",
    [
        ("float8_e4m3", "f8e4m3"),
        ("float8_e3m4", "f8e3m4"),
        ("float8_e4m3fnuz", "f8e4m3"),
        ("float8_e5m2fnuz", "f8e5m2"),
        ("float8_e4m3b11fnuz", "f8e4m3"),
        ("f8e4m4", "1 sign bit"),
        ("f16e5m10", "f16"),
        ("f9e4m4", "3 to 8"),
        ("f4e0m3", "i4, or f4e1m2"),
        ("u65", "u64"),
        ("u0", "did you mean u"),
        ("int5x", "did you mean"),
        ("fp16", "did you mean f16"),
        ("half", "did you mean"),
        ("U4", "did you mean u4"),
        ("f06e3m2", "did you mean f6e3m2"),
    ],
)
def test_other_names_are_refused_with_a_way_out(name, hint):
    with pytest.raises(DTypeError, match=hint):
        dtype(name)


@pytest.mark.parametrize("thing", [None, 4, object(), ("u4",)])
def test_what_is_no_name_is_refused(thing):
    with pytest.raises(DTypeError, match="write a name such as 'u4'"):
        dtype(thing)


def test_an_integer_has_no_epsilon():
    with pytest.raises(DTypeError, match="u4 is not a float and has no epsilon"):
        dtype("u4").epsilon  # noqa: B018


def test_codebooks():
    ternary = codebook("ternary", [-1.0, 0.0, 1.0], "f16")
    assert (ternary.bits, ternary.kind, ternary.max, ternary.min) == (2, "codebook", 1.0, -1.0)
    assert ternary == codebook("ternary", (-1, 0, 1), dtype("f16")) != codebook("t", (0, 1), "f16")
    assert codebook("large", range(256), "f16").bits == 8
    assert codebook("zero", (-0.0, 1), "f16") != codebook("zero", (0.0, 1), "f16")
    with pytest.raises(DTypeError, match=r"entry 1 .* is not a value of f16; write 0\.0999"):
        codebook("c", [0.0, 0.1], "f16")
    with pytest.raises(DTypeError, match="2 to 256"):
        codebook("c", range(257), "f32")
    with pytest.raises(DTypeError, match="finite"):
        codebook("c", [0.0, float("nan")], "f32")
    with pytest.raises(DTypeError, match="not u8"):
        codebook("c", [0, 1], "u8")


def test_names_that_types_have_elsewhere():
    for name, here in (
        ("fp16", "f16"), ("FP32", "f32"), ("half", "f16"), ("double", "f64"), ("bfloat16", "bf16"),
        ("int8", "i8"), ("uint4", "u4"), ("s32", "i32"), ("fp8_e4m3", "f8e4m3"), ("e2m1", "f4e2m1"),
        ("float8_e5m2", "f8e5m2"), ("float4_e2m1fn", "f4e2m1"), ("fp8e4m3", "f8e4m3"),
        ("fp17", None), ("abc", None), ("e9m9", None), ("int65", None), ("x8", None),
    ):  # fmt: skip
        assert name_here(name) == here, name
