"""Casts between types, and what every code of small types stands for, for tables.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.isa import exact_types as types

SMALL = [
    "f3e1m1", "f3e2m0", "f4e1m2", "f4e2m1", "f4e3m0", "f5e2m2", "f5e3m1", "f6e2m3", "f6e3m2",
    "f7e3m3", "f8e4m3", "f8e5m2", "f8e3m4", "f8e2m5", "f8e8m0",
]  # fmt: skip
WHOLE = ["u1", "u2", "u3", "u4", "u5", "u7", "u8", "i1", "i2", "i3", "i4", "i6", "i8"]
TARGETS = [
    "f3e2m0", "f4e2m1", "f5e2m2", "f6e2m3", "f6e3m2", "f8e4m3", "f8e5m2", "f8e2m5", "f8e8m0", "f16",
    "bf16", "tf32", "i4", "u4", "i8", "u8", "i16", "u16", "bool",
]  # fmt: skip


def number(value: float) -> str:
    if np.isnan(value):
        return "nan"
    if np.isinf(value):
        return "inf" if value > 0 else "-inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 and (
        value or np.copysign(1, value) > 0
    ) else float(value).hex()  # fmt: skip


def floats(values: np.ndarray) -> str:
    """The list of some numbers, all as floats."""
    shown = [number(v) for v in values.tolist()]
    return "[" + ", ".join(s + ".0" if s.lstrip("-").isdigit() else s for s in shown) + "]"


def wanted_list(target: str, values: np.ndarray) -> str:
    if target == "bool":
        return "[" + ", ".join("true" if v else "false" for v in values.tolist()) + "]"
    if types.is_integer(target):
        return "[" + ", ".join(str(int(v)) for v in values.tolist()) + "]"
    return floats(values)


def program(name: str, arguments: str) -> list[str]:
    return [
        "", f"program {name}(A: global(S)[N], C: out(global(T))[N])",
        "  grid (ceil_div(N, 64)) threads 32", "{", "  at = block_index() * 64",
        f"  store(C[at +: 64], cast(load(A[at +: 64]), T{arguments}))", "}",
    ]  # fmt: skip


MODES = {
    "nearest": ("nearest_even", "saturate", ""),
    "nearest_ieee": ("nearest_even", "ieee", ', overflow="ieee"'),
    "zero": ("toward_zero", "saturate", ', rounding="toward_zero"'),
    "zero_ieee": ("toward_zero", "ieee", ', overflow="ieee", rounding="toward_zero"'),
}


def interesting(target: str) -> np.ndarray:
    """Numbers around the boundaries of a type: its values' middles, limits and beyond, as f32."""
    if target == "bool":
        return np.array([0.0, -0.0, 1.0, -1.0, 2.0**-126, np.nan, np.inf])
    of = types.table(target)
    middles = of.middles[np.isfinite(of.middles)]
    if len(middles) > 12:
        middles = np.concatenate([middles[:3], middles[len(middles) // 2 - 3 :][:6], middles[-3:]])
    narrow = middles.astype(np.float32)
    beside = [np.nextafter(narrow, np.float32(way)) for way in (np.inf, -np.inf)]
    near = np.concatenate([middles, *beside])
    more = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, -1e-45])
    with np.errstate(over="ignore"):
        return np.concatenate([near, more]).astype(np.float32).astype(np.float64)


def rules_of(target: str) -> list[str]:
    found = ["Exec/cast", "Num/cast-nearest", "Num/cast-zero", "Num/cast-overflow", "Num/cast-nan"]
    if types.is_integer(target):
        return [*found, "Num/cast-integer"]
    if target == "bool":
        return ["Exec/cast", "Num/cast-bool"]
    return [*found, "Num/cast-scale"] if target == "f8e8m0" else [*found, "Num/cast-zero-sign"]


def lines() -> Iterator[str]:
    yield ""
    yield "const S = f32"
    yield "const T = f32"
    for name, (_, _, arguments) in MODES.items():
        yield from program(name, arguments)
    for source in [*SMALL, *WHOLE]:
        rule = "Type/scale" if source == "f8e8m0" else {
            "u": "Type/unsigned", "i": "Type/signed", "f": "Type/float"}[source[0]]  # fmt: skip
        special = {"f8e4m3": ', "Type/f8e4m3"', "f8e5m2": ', "Type/f8e5m2"'}.get(source, "")
        values = types.decoded(source)
        yield ""
        yield f'test "every code of {source}" rules "{rule}", "Type/packing"{special} {{'
        # Casts into f64 are exact, and f64 shows every value.
        yield (f"  assert_return(nearest(all_codes({source}), S={source}, T=f64), "
               f"tensor(f64, {floats(values)}))")  # fmt: skip
        yield (f"  assert_return(nearest(all_codes({source}), S={source}, T={source}), "
               f"all_codes({source}))")  # fmt: skip
        if source != "f8e8m0" and source not in ("f8e4m3", "f8e5m2"):
            wide = f"nearest(all_codes({source}), S={source}, T=f64)"
            yield f"  assert_return(nearest({wide}, S=f64, T={source}), all_codes({source}))"
        yield "}"
    for target in TARGETS:
        numbers = interesting(target)
        shown = ", ".join(f'"{rule}"' for rule in rules_of(target))
        yield ""
        yield f'test "f32 into {target}"'
        yield f"  rules {shown} {{"
        for name, (rounding, overflow, _) in MODES.items():
            for first in range(0, len(numbers), 12):
                part = numbers[first : first + 12]
                wanted = types.cast_exactly(part, "f32", target, overflow, rounding)
                yield (f"  assert_return({name}(tensor(f32, {floats(part)}), T={target}), "
                       f"tensor({target}, {wanted_list(target, wanted)}))")  # fmt: skip
        yield "}"
