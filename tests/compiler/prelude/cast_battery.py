"""Casts: every code of the small types, and the numbers around every boundary of rounding."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.compiler.prelude import oracle
from tests.compiler.prelude.battery import Register, Text

MODES = {"saturate": "vm_overflow_saturate", "ieee": "vm_overflow_ieee", "wrap": "vm_overflow_wrap"}


def rows(codes: np.ndarray, count: int) -> np.ndarray:
    """All codes in rows of `count`, the last row filled up by repeating."""
    return np.resize(codes, (-(-len(codes) // count), count))


def add_cast(
    text: Text, source: str, target: str, codes: np.ndarray, count: int, mode: str = "saturate"
) -> None:
    given = rows(codes, count)
    wanted = oracle.cast(source, target, given.reshape(-1), mode).reshape(given.shape)
    text.map(
        f"cast_{source}_{target}_{count}_{mode}",
        [Register(source, count, given)],
        [(target, count)],
        f"vm_cast<{MODES[mode]}>(y0, x0);",
        [wanted],
    )


def every_code(name: str) -> np.ndarray:
    return np.arange(2 ** oracle.bits_of(name), dtype=np.uint32)


def small_sources(target: str) -> Text:
    """Every code of every type of at most 8 bits into `target`, in even and odd numbers."""
    text = Text(f"small_to_{target}")
    sources = [*oracle.SMALL_INTEGERS, *oracle.SMALL_FLOATS, "f8e8m0"]
    for source in sources:
        for count in (8, 5) if target in ("f16", "bf16") else (8,):
            add_cast(text, source, target, every_code(source), count)
    add_cast(text, "bool", target, np.array([0, 1, 2, 255]), 4)
    return text


def half_sources() -> Text:
    """Every code of f16 and bf16 into the types that have ways of their own."""
    text = Text("half_sources")
    for source in ("f16", "bf16"):
        other = "bf16" if source == "f16" else "f16"
        targets = [
            "f32",
            other,
            "tf32",
            "f8e4m3",
            "f8e5m2",
            "f4e2m1",
            "f6e3m2",
            "i8",
            "u4",
            "f8e8m0",
        ]
        for target in [*targets, "bool", "f64"]:
            add_cast(text, source, target, every_code(source), 16)
        add_cast(text, source, "f8e4m3", every_code(source), 5)
        for target in ("f8e4m3", "f8e5m2", other):
            add_cast(text, source, target, every_code(source), 8, "ieee")
    return text


def around(values: np.ndarray) -> np.ndarray:
    """f32 codes of numbers, both their neighbours, and the negatives of all."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32).view(np.uint32).astype(np.int64)
    codes = np.unique(np.concatenate([near - 1, near, near + 1]))
    codes = codes[(codes >= 0) & (codes <= 0x7F800000)]
    return np.concatenate([codes, codes | 0x80000000]).astype(np.uint32)


SPECIAL_F32 = np.array(
    [
        0,
        1,
        0x7FFFFF,
        0x800000,
        0x7F7FFFFF,
        0x7F800000,
        0x7F800001,
        0x7FC00000,
        0x7FFFFFFF,
        0x3F800000,
    ],
    np.uint32,
)


def boundary_codes(target: str) -> np.ndarray:
    """f32 codes at the values of a type, the middles between them, overflow, and some others."""
    rng = np.random.default_rng(1)
    others = np.concatenate([SPECIAL_F32, SPECIAL_F32 | 0x80000000, rng.integers(0, 2**32, 512)])
    if target in ("bool", "f64"):
        return others.astype(np.uint32)
    if target == "f8e8m0":
        values = np.ldexp(1.0, np.arange(255) - 127)
    elif oracle.is_integer(target):
        bits = oracle.bits_of(target)
        ends = np.array([2.0 ** (bits - 1), 2.0**bits])
        values = np.concatenate([np.arange(40) / 2, ends, ends - 0.5, ends - 1])
    else:
        values = oracle.positive_values(target)
        if len(values) > 512:
            picks = np.append(rng.integers(0, len(values) - 1, 300), [0, 1, 2, 1022, 1023, 1024])
            values = np.concatenate([values[picks], values[picks + 1], values[-2:]])
            values = np.unique(values)
        step = values[-1] - values[-2]
        values = np.append(values, values[-1] + step)
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([around(np.concatenate([values, middles])), others]).astype(np.uint32)


def f32_sources(mode: str) -> Text:
    """f32 at every boundary of every small float, of the halves and of some integers."""
    text = Text(f"f32_{mode}")
    floats = [*oracle.SMALL_FLOATS, "f16", "bf16", "tf32", "f8e8m0"]
    integers = [
        "u1",
        "i1",
        "u3",
        "i4",
        "u8",
        "i8",
        "i16",
        "u31",
        "i31",
        "u32",
        "i32",
        "u33",
        "i64",
        "u64",
    ]
    for target in floats if mode == "ieee" else [*floats, *integers, "bool", "f64"]:
        add_cast(text, "f32", target, boundary_codes(target), 8, mode)
    if mode == "saturate":
        add_cast(text, "f32", "f16", boundary_codes("f16"), 3)
        add_cast(text, "f32", "f8e4m3", boundary_codes("f8e4m3"), 3)
        add_cast(text, "f32", "f6e3m2", boundary_codes("f6e3m2"), 7)
    return text


def wide_sources() -> Text:
    """f64 and wide integers, where one rounding must not become two."""
    text = Text("wide_sources")
    rng = np.random.default_rng(2)
    ties = np.concatenate(
        [boundary_codes(t)[:240] for t in ("f16", "bf16", "f8e4m3", "f4e2m1", "tf32")]
    )
    with np.errstate(all="ignore"):
        middle = ties.view(np.float32).astype(np.float64)
        doubles = np.concatenate(
            [middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf),
             rng.integers(0, 2**64, 256, dtype=np.uint64).view(np.float64),
             np.ldexp(1 + rng.random(64), rng.integers(-160, 140, 64)),
             [2.0**128, -(2.0**128), 3.4028235677973366e38, 3.402823567797337e38],
             [0.5, 1.5, 2.5, -0.5]]
        )  # fmt: skip
    codes = doubles.view(np.uint64)
    for target in ("f32", "f16", "bf16", "f8e4m3", "f8e8m0", "i32", "u8", "i64", "u64", "bool"):
        add_cast(text, "f64", target, codes, 4)
    for target in ("f32", "f16"):
        add_cast(text, "f64", target, codes, 4, "ieee")
    for source, bits in (
        ("i32", 32),
        ("u32", 32),
        ("i64", 64),
        ("u64", 64),
        ("i16", 16),
        ("u16", 16),
    ):
        powers = 2 ** np.arange(bits, dtype=np.uint64)
        near = np.concatenate([powers, powers - 1, powers + 1, powers + powers // 2048, ~powers])
        mixed = np.concatenate([near, rng.integers(0, 2**64, 200, dtype=np.uint64)])
        mixed = mixed & np.uint64(2**bits - 1)
        for target in ("f32", "f16", "bf16", "f8e4m3", "f64", "bool"):
            add_cast(text, source, target, mixed, 4)
        for target in ("i8", "u8", "u4", "i32", "u32", "i64", "u64", "u16", "i48"):
            add_cast(text, source, target, mixed, 4)
            add_cast(text, source, target, mixed, 4, "wrap")
    return text


def fast_paths() -> Text:
    """The ways through words give what the general path gives, on random words."""
    text = Text("fast_paths")
    rng = np.random.default_rng(3)
    for number, source in enumerate([*oracle.SMALL_INTEGERS, *oracle.SMALL_FLOATS]):
        bits = oracle.bits_of(source)
        given = rng.integers(0, 2**bits, (64, 8))
        for target in ("f16", "bf16") if bits == 8 else (("f16", "bf16")[number % 2],):
            wanted = oracle.cast(source, target, given.reshape(-1)).reshape(given.shape)
            text.map(
                f"both_{source}_{target}",
                [Register(source, 8, given)],
                [(target, 8), (target, 8)],
                "vm_cast(y0, x0); vm_cast_each<vm_overflow_saturate>(y1, x0);",
                [wanted, wanted],
            )
    return text


BATTERIES = {
    **{f"small_to_{t}": partial(small_sources, t) for t in ("f16", "bf16", "f32", "i32")},
    "half_sources": half_sources,
    "f32_saturate": partial(f32_sources, "saturate"),
    "f32_ieee": partial(f32_sources, "ieee"),
    "wide_sources": wide_sources,
    "fast_paths": fast_paths,
}
