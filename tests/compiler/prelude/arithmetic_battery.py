"""Elementwise functions: arithmetic against exact rationals, functions within their bounds."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np

from tests.compiler.prelude import oracle
from tests.compiler.prelude.battery import Register, Text

COUNT = 6
INTEGERS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "u4", "i3", "i48")
FLOATS = ("f16", "bf16", "f32", "f64", "f8e4m3", "f6e3m2")


def float_of_fraction(x: Fraction) -> float:
    """The float64 below it in magnitude, its last bit set where that is not all of it."""
    magnitude = abs(x)
    if magnitude == 0:
        return 0.0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - 52
    scaled = magnitude / Fraction(2) ** exponent
    whole = scaled.numerator // scaled.denominator | (scaled.denominator != 1)
    return float(np.ldexp(float(whole), exponent)) * (-1 if x < 0 else 1)


def codes_of(type_: str, rng: np.random.Generator, rows: int, count: int = COUNT) -> np.ndarray:
    """Random codes, with special ones and near numbers among them."""
    bits = oracle.bits_of(type_)
    codes = rng.integers(0, 2**64, (rows, count), dtype=np.uint64) >> np.uint64(64 - bits)
    if oracle.is_integer(type_) or type_ == "bool":
        ends = [0, 1, 2, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 3, 2**bits - 2]
        special = np.array(ends, np.uint64) & np.uint64(2**bits - 1)
    else:
        sign = np.uint64(2 ** (bits - 1))
        if type_ == "f64":
            top = 0x7FF << 52
            ends = [0, 1, 0x3FF << 52, top - 1, top, top + 1, (1 << 52) - 1, 1 << 52]
        else:
            exponent, mantissa, _, unused = oracle.format_of(type_)
            top = ((1 << exponent) - 1) << mantissa
            one = ((1 << (exponent - 1)) - 1) << mantissa
            ends = [0, 1, one, top - 1, top, top + 1, (1 << mantissa) - 1, 1 << mantissa]
            ends = [min(end, 2 ** (exponent + mantissa) - 1) << unused for end in ends]
        special = np.array(ends, np.uint64)
        special = np.concatenate([special, special | sign])
        near = rng.random(codes.shape) < 0.5  # exponents close to one another, so that bits meet
        if type_ in ("f16", "bf16", "f32", "f64"):
            middle = {"f16": 0x3C00, "bf16": 0x3F80, "f32": 0x3F800000, "f64": 0x3FF << 52}[type_]
            spread = np.uint64(2 ** (bits - 1) // 32)
            close = np.uint64(middle) + codes % spread
            codes = np.where(near, close | (codes & sign), codes)
    chosen = special[rng.integers(0, len(special), codes.shape)]
    codes = np.where(rng.random(codes.shape) < 0.25, chosen, codes)
    return codes.astype(oracle.code_type(type_))


def exact(type_: str, function: Callable[..., Fraction], *operands: np.ndarray) -> np.ndarray:
    """Codes of a rational function of finite values; of `function` in f64 where one is not."""
    values = [oracle.decode(type_, each).reshape(-1) for each in operands]
    result = []
    for numbers in zip(*(value.tolist() for value in values), strict=True):
        with np.errstate(all="ignore"):
            plain = float(function(*(np.float64(number) for number in numbers)))
        if all(np.isfinite(numbers)) and not (np.isinf(plain) or np.isnan(plain) or plain == 0):
            plain = float_of_fraction(function(*map(Fraction, numbers)))
        result.append(plain)
    numbers = np.array(result).reshape(operands[0].shape)
    if type_ in ("f32", "f64"):
        with np.errstate(all="ignore"):
            return round_to_single(numbers) if type_ == "f32" else numbers.view(np.uint64)
    return oracle.encode_float(type_, numbers, "ieee", False)


def round_to_single(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32).view(np.uint32)


def f64_result(function: Callable, *operands: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return function(*(each.view(np.float64) for each in operands)).view(np.uint64)


def integer_result(type_: str, function: Callable, *operands: np.ndarray) -> np.ndarray:
    bits = oracle.bits_of(type_)
    lists = [oracle.decode(type_, each).reshape(-1).tolist() for each in operands]
    result = [function(*numbers) % 2**bits for numbers in zip(*lists, strict=True)]
    return np.array(result, np.uint64).reshape(operands[0].shape).astype(oracle.code_type(type_))


def smaller(type_: str, largest: bool, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = oracle.decode(type_, a), oracle.decode(type_, b)
    if oracle.is_integer(type_):
        return np.where((x > y) == largest, a, b)
    negative_a = np.signbit(x)
    take_a = np.where(x == y, negative_a != largest, (x > y) if largest else (x < y))
    return np.where(np.isnan(y) | (take_a & ~np.isnan(x)), a, b)


def add_map(
    text: Text,
    name: str,
    type_: str,
    operands: list[np.ndarray],
    wanted,
    out: str = "",
    call: str = "",
) -> None:
    registers = [Register(type_, each.shape[1], each) for each in operands]
    arguments = ", ".join(["y0", *(f"x{i}" for i in range(len(operands)))])
    text.map(
        f"{name}_{type_}", registers, [(out or type_, COUNT)],
        f"{call or 'vm_' + name}({arguments});",
        [wanted],
    )  # fmt: skip


def floats(type_: str) -> Text:
    text = Text(f"arithmetic_{type_}")
    rng = np.random.default_rng(5)
    a, b, c = (codes_of(type_, rng, 192) for _ in range(3))
    single = codes_of(type_, rng, 192, 1)
    double = type_ == "f64"
    for name, function in (("add", operator.add), ("sub", operator.sub), ("mul", operator.mul)):
        wanted = f64_result(function, a, b) if double else exact(type_, function, a, b)
        add_map(text, name, type_, [a, b], wanted)
    repeated = np.repeat(single, COUNT, axis=1)
    wanted = (
        f64_result(np.multiply, repeated, b) if double else exact(type_, operator.mul, repeated, b)
    )
    text.map(
        f"mul_broadcast_{type_}", [Register(type_, 1, single), Register(type_, COUNT, b)],
        [(type_, COUNT)] * 2, "vm_mul(y0, x0, x1); vm_mul(y1, x1, x0);", [wanted, wanted],
    )  # fmt: skip
    wanted = f64_result(np.divide, a, b) if double else exact(type_, operator.truediv, a, b)
    add_map(text, "div", type_, [a, b], wanted)
    if not double:
        wanted = exact(type_, lambda x, y, z: x * y + z, a, b, c)
        add_map(text, "fma", type_, [a, b, c], wanted)
    for name, largest in (("min", False), ("max", True)):
        add_map(text, name, type_, [a, b], smaller(type_, largest, a, b))
    sign = a.dtype.type(2 ** (oracle.bits_of(type_) - 1))
    add_map(text, "neg", type_, [a], a ^ sign)
    add_map(text, "abs", type_, [a], a & ~sign)
    x = oracle.decode(type_, a)
    for name, function in (
        ("floor", np.floor),
        ("ceil", np.ceil),
        ("round", np.rint),
        ("sqrt", np.sqrt),
    ):
        with np.errstate(all="ignore"):
            result = function(x)
            if type_ == "f32":
                codes = function(x.astype(np.float32)).view(np.uint32)
            elif double:
                codes = result.view(np.uint64)
            else:
                codes = oracle.encode_float(type_, result, "ieee", True)
        add_map(text, name, type_, [a], codes)
    comparisons(text, type_, a, np.where(rng.random(a.shape) < 0.3, a, b))
    return text


def comparisons(text: Text, type_: str, a: np.ndarray, b: np.ndarray) -> None:
    x, y = oracle.decode(type_, a), oracle.decode(type_, b)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        wanted = getattr(operator, name)(x, y).astype(np.uint32)
        add_map(text, name, type_, [a, b], wanted, out="bool")
    rng = np.random.default_rng(6)
    condition = rng.integers(0, 2, a.shape).astype(np.uint32)
    text.map(
        f"where_{type_}",
        [Register("bool", COUNT, condition), Register(type_, COUNT, a), Register(type_, COUNT, b)],
        [(type_, COUNT)], "vm_where(y0, x0, x1, x2);", [np.where(condition != 0, a, b)],
    )  # fmt: skip


def integers(type_: str) -> Text:
    text = Text(f"arithmetic_{type_}")
    rng = np.random.default_rng(7)
    a, b, c = (codes_of(type_, rng, 256) for _ in range(3))
    divisor = np.where(b == 0, b.dtype.type(1), b)
    bits = oracle.bits_of(type_)
    amount = rng.integers(0, min(bits + 3, 2 ** (bits - 1)), a.shape).astype(a.dtype)
    functions = {
        "add": (operator.add, b), "sub": (operator.sub, b), "mul": (operator.mul, b),
        "and": (operator.and_, b), "or": (operator.or_, b), "xor": (operator.xor, b),
        "div": (operator.floordiv, divisor), "mod": (operator.mod, divisor),
        "ceil_div": (lambda x, y: -(-x // y), divisor),
        "shl": (lambda x, y: x << y, amount), "shr": (lambda x, y: x >> y, amount),
    }  # fmt: skip
    for name, (function, other) in functions.items():
        add_map(text, name, type_, [a, other], integer_result(type_, function, a, other))
    add_map(
        text, "fma", type_, [a, b, c], integer_result(type_, lambda x, y, z: x * y + z, a, b, c)
    )
    add_map(text, "min", type_, [a, b], smaller(type_, False, a, b))
    add_map(text, "max", type_, [a, b], smaller(type_, True, a, b))
    add_map(text, "neg", type_, [a], integer_result(type_, operator.neg, a))
    add_map(text, "abs", type_, [a], integer_result(type_, abs, a))
    add_map(text, "not", type_, [a], integer_result(type_, operator.inv, a))
    comparisons(text, type_, a, np.where(rng.random(a.shape) < 0.3, a, b))
    return text


def indices() -> Text:
    """The same operations on C++ integers."""
    text = Text("indices")
    kinds = {"i32": "int", "u32": "unsigned", "i64": "long long", "u64": "unsigned long long"}
    rng = np.random.default_rng(9)
    for type_, kind in kinds.items():
        a, b = codes_of(type_, rng, 128), codes_of(type_, rng, 128)
        divisor = np.where(b == 0, b.dtype.type(1), b)
        amount = rng.integers(0, oracle.bits_of(type_) + 3, a.shape).astype(a.dtype)
        for name, function, other in (
            ("add", operator.add, b), ("sub", operator.sub, b), ("mul", operator.mul, b),
            ("div", operator.floordiv, divisor), ("mod", operator.mod, divisor),
            ("ceil_div", lambda x, y: -(-x // y), divisor), ("min", min, b), ("max", max, b),
            ("shl", operator.lshift, amount), ("shr", operator.rshift, amount),
            ("neg", operator.neg, None), ("abs", abs, None),
        ):  # fmt: skip
            operands = [a] if other is None else [a, other]
            body = " ".join(
                f"vm_set<{k}>(y0, vm_index_{name}<{kind}>("
                + ", ".join(f"vm_get<{k}>(x{i})" for i in range(len(operands)))
                + "));"
                for k in range(COUNT)
            )
            text.map(
                f"index_{name}_{type_}", [Register(type_, COUNT, each) for each in operands],
                [(type_, COUNT)], body, [integer_result(type_, function, *operands)],
            )  # fmt: skip
        for target, other_kind in kinds.items():
            body = " ".join(
                f"vm_set<{k}>(y0, vm_index_cast<{other_kind}, {kind}>(vm_get<{k}>(x0)));"
                for k in range(COUNT)
            )
            wanted = oracle.cast(type_, target, a.reshape(-1)).reshape(a.shape)
            text.map(
                f"index_cast_{type_}_{target}", [Register(type_, COUNT, a)], [(target, COUNT)],
                body, [wanted],
            )  # fmt: skip
    return text


# Units in the last place that a function may be off in f32 and f64, and where it is tried.
FUNCTIONS = {
    "exp": (np.exp, 2, (-90, 90)), "exp2": (np.exp2, 2, (-127, 128)), "log": (np.log, 2, (0, 1e6)),
    "log2": (np.log2, 2, (0, 1e6)), "rsqrt": (lambda x: 1 / np.sqrt(x), 2, (0, 1e6)),
    "tanh": (np.tanh, 2, (-10, 10)), "sin": (np.sin, 2, (-48000, 48000)),
    "cos": (np.cos, 2, (-48000, 48000)),
}  # fmt: skip


def within(type_: str, x: np.ndarray, function: Callable, bound: float, codes: np.ndarray) -> None:
    """Every result is within `bound` units in the last place, and the last rounding."""
    got = oracle.decode(type_, codes)
    with np.errstate(all="ignore"):
        wanted = function(x)
    mantissa = 52 if type_ == "f64" else oracle.format_of(type_)[1]
    lowest = {"f64": -1022, "f16": -14}.get(type_, -126)
    exponent = np.frexp(np.where(np.isfinite(wanted), wanted, 1))[1] - 1
    unit = np.ldexp(1.0, np.maximum(exponent, lowest) - mantissa)
    special = ~np.isfinite(wanted) | ~np.isfinite(got)
    limit = oracle.positive_values(type_)[-1] if type_ == "f16" else np.finfo(np.float32).max
    close = np.abs(got - np.where(special, 0, wanted)) <= (bound + 0.5) * unit
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    overflow = np.isinf(got) & (np.abs(wanted) >= limit) & (type_ != "f64")
    wrong = ~np.where(special, same | overflow, close)
    assert not wrong.any(), (type_, x[wrong][:4], got[wrong][:4], wanted[wrong][:4])


def functions(type_: str) -> Text:
    text = Text(f"functions_{type_}")
    rng = np.random.default_rng(8)
    for name, (function, bound, (low, high)) in FUNCTIONS.items():
        if type_ in ("f16", "bf16"):
            codes = np.arange(2**16, dtype=np.uint32).reshape(-1, 16)
            x = oracle.decode(type_, codes)
            far = (np.abs(x) > 48000) & (name in ("sin", "cos"))
            codes = np.where(far, 0, codes)
        else:
            kind = np.float32 if type_ == "f32" else np.float64
            numbers = np.concatenate(
                [rng.uniform(low, high, 3000),
                 rng.uniform(-1, 1, 500) * 2.0 ** rng.integers(-20, 1, 500),
                 [0.0, -0.0, 1.0, np.nan] + [np.inf, -np.inf] * (name not in ("sin", "cos"))]
            )  # fmt: skip
            numbers = np.abs(numbers) if low == 0 else numbers
            codes = np.resize(numbers.astype(kind), (220, 16)).view(f"u{kind().itemsize}")
        x = oracle.decode(type_, codes) if type_ != "f64" else codes.view(np.float64)
        judge = partial(within, type_, x, function, bound if type_ not in ("f16", "bf16") else 0.51)
        text.map(
            f"{name}_{type_}",
            [Register(type_, 16, codes)],
            [(type_, 16)],
            f"vm_{name}(y0, x0);",
            [judge],
        )
    return text


BATTERIES = {
    "indices": indices,
    **{f"float_{t}": partial(floats, t) for t in FLOATS},
    **{f"integer_{t}": partial(integers, t) for t in INTEGERS},
    **{f"functions_{t}": partial(functions, t) for t in ("f16", "bf16", "f32", "f64")},
}
