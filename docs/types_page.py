"""Writes docs/types.md: every type with its limits, taken from the types themselves.

    python docs/types_page.py
    python docs/types_page.py --measure FILE.safetensors:TENSOR

The second measures the errors of a real weight first: it reads a weight [N, K],
quantizes it to every type and form along K, and writes benchmarks/results/quantization_error.json,
whose table the page shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from programs.quantize import (
    dequantize,
    quantization_error,
    quantize,
    second_level_scale,
)
from vm.isa.dtypes import DType, dtype, known_names
from vm.runtime.inputs import parse_input, read_tensor

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "types.md"
ERRORS = ROOT / "benchmarks" / "results" / "quantization_error.json"

ORIGINALS = ERRORS.with_name("formats_against_originals.json")
PACKING = ERRORS.with_name("packing.json")

NAMED = ("f16", "bf16", "tf32", "f32", "f64")
SCALES = ("f8e8m0", "f8e4m3")
INTEGER_BITS = (*range(1, 9), 16, 32, 64)

# The name of a form, the type of its codes, elements of a group, zero points, the type of scales,
# and whether one f32 scales the whole weight once more.
FORMS: tuple[tuple[str, str, int, bool, str, bool], ...] = (
    *((f"u{bits}, zero points", f"u{bits}", 128, True, "f16", False) for bits in range(1, 9)),
    *((f"i{bits}", f"i{bits}", 128, False, "f16", False) for bits in range(2, 9)),
    *((name, name, 128, False, "f16", False) for name in
      ("f3e1m1", "f4e2m1", "f5e2m2", "f6e2m3", "f6e3m2", "f8e4m3", "f8e5m2")),
    ("NF4", "nf4", 64, False, "f32", False),
    ("MXFP4", "f4e2m1", 32, False, "f8e8m0", False),
    ("MXFP6 (E2M3)", "f6e2m3", 32, False, "f8e8m0", False),
    ("MXFP8 (E4M3)", "f8e4m3", 32, False, "f8e8m0", False),
    ("NVFP4", "f4e2m1", 16, False, "f8e4m3", True),
)  # fmt: skip

TEXT = """# Types

Written by `python docs/types_page.py` from the types themselves; `vm/isa/dtypes.py` defines them.
An element of b bits is packed little-endian at bit k * b, in registers, shared and global memory
alike; types whose elements fill no NumPy element are uint8 arrays with rows that begin at bytes.
`vm.pack` and `vm.unpack` do it for arrays of codes; on one core, in GB/s of codes in arrays
(`python -m benchmarks.packing`, which has every width up to 63):

{packing}

## Integers

`u1` to `u64` and `i1` to `i64` (two's complement), every width between. Arithmetic is on 8, 16, 32
and 64 bits; all others are stored and cast.

{integers}

## Floats

Sign, exponent, mantissa from the top bit down; the bias is 2^(e-1) - 1 (0 for e = 1); an exponent
field of 0 is zero and subnormals. Types of 3 to 8 bits have no special codes, except that `f8e4m3`
(OCP E4M3) has NaN and `f8e5m2` (OCP E5M2) infinities and NaN. Arithmetic is on `f16`, `bf16`, `f32`
and `f64`. `f4e2m1`, `f6e2m3` and `f6e3m2` are the other elements of OCP MX.

{floats}

## Scales and codebooks

`f8e8m0` is the scale of OCP MX: code c is 2^(c - 127), 255 is NaN; no sign, no zero. Any float may
scale too: NVFP4 uses `f8e4m3` and one f32 for the whole weight.

{scales}

`nf4` has the 16 values of QLoRA (2023). A codebook of one's own is a constant of the program,
`const W = codebook([-1.0, 0.0, 0.5, 2.0], f16)`, with 2 to 256 entries of f16, bf16 or f32; one
whose table is an argument is read with `lookup(codes, table)`. Two equal entries are one value: a
code of the second may come back as the first.

## Casts

`cast(x, dtype)` rounds to nearest even, subnormals included, and saturates; `overflow="ieee"` gives
infinity or NaN where the type has them, `rounding` is `nearest_even`, `toward_zero`, `stochastic`
(with `random=philox(seed, counter)`: the same bits on every executor) or, for codebooks,
`nearest_entry`. A cast into a codebook by rounding is refused: E0213 says what to write.

Checked exhaustively against tables of exact rationals, all codes of every source of up to 16 bits
into every type, and f32 and f64 at every rounding boundary with its neighbours, in both overflow
modes, to nearest even and toward zero; codebooks as sources, and as targets to the nearest entry.
The command prints how many casts that are (186 million) and how long they take:

    python -m tests.isa.exhaustive_casts

## What a weight loses

{errors_source}
Rounded to nearest, nothing cleverer. Unsigned types have zero points, the others are symmetric;
groups lie along K. `bits` counts codes, scales and zero points as they are stored. The signal to
noise ratio is 20 log10 of the weight's root mean square over the error's.

{errors}

`python -m programs.quantize FILE.safetensors:TENSOR --axis 1` prints such a table for any weight.

## Checkpoints

`programs/formats.py` describes each of these once: the dtype of its codes, the layouts that take
them out of words and bytes, and the rule that finds an element's scale. Of that come a program that
restores the weight (`python -m programs.formats NAME`) and a matmul that multiplies by the tensors
of a checkpoint where they lie (`python -m programs.quantized_matmul --checkpoint NAME`).

| format | what its program says of it |
|---|---|
| GPTQ | 2, 3, 4, 8 bits in words along K, zero points along N less one (version 1), `g_idx` |
| AWQ | words along N whose nibbles stand in the order 0 2 4 6 1 3 5 7 |
| compressed-tensors, pack-quantized | 1 to 8 bits in words along K, symmetric or with zero points |
| MXFP4 | `f4e2m1` and `f8e8m0` as they stand |
| bitsandbytes NF4 | the first element in the upper nibble; absolute maxima, nested or not |
| GGUF Q4_0, Q4_1, Q8_0, Q4_K, Q6_K, MXFP4 | blocks of bytes: every field a view of them |

`make test` compares each with a decoder of its own and the GGUF types with gguf's `dequantize`, the
weights as they are restored and as a product by a unit matrix gives them back. `make test-formats`
installs the packages that write these files and compares with them, element by element. On
{date}, with torch {torch}, all of these were {verdict}:

{originals}
"""


def table(header: str, rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; `header` has the names of columns between bars."""
    lines = [f"| {header} |", "|" + "---|" * (header.count("|") + 1)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """A limit: exactly where that is short, else to four digits."""
    exact = repr(int(value)) if float(value).is_integer() and abs(value) < 1e6 else repr(value)
    return exact if len(exact) <= 8 else f"{value:.4g}"


def integers() -> str:
    rows = []
    for bits in INTEGER_BITS:
        unsigned, signed = dtype(f"u{bits}"), dtype(f"i{bits}")
        rows.append((f"`u{bits}`", 0, f"{unsigned.max}", f"`i{bits}`", signed.min, signed.max))
    return table("type | min | max | type | min | max", rows)


def floats() -> str:
    names = [name for name in known_names() if dtype(name).kind == "float"]
    names.sort(key=lambda name: (name in NAMED, dtype(name).bits))
    rows = [float_row(dtype(name)) for name in names]
    header = "type | bits | exponent | mantissa | bias | max | smallest normal | "
    return table(header + "smallest subnormal | infinity | NaN", rows)


def float_row(kind: DType) -> tuple[object, ...]:
    return (
        f"`{kind.name}`", kind.bits, kind.exponent_bits, kind.mantissa_bits, kind.bias,
        number(kind.max), number(kind.smallest_normal), number(kind.smallest_subnormal),
        "yes" if kind.has_infinity else "", "yes" if kind.has_nan else "",
    )  # fmt: skip


def scales() -> str:
    kinds = [dtype(name) for name in SCALES]
    rows = [
        (f"`{kind.name}`", number(kind.smallest_subnormal), number(kind.max), kind.mantissa_bits)
        for kind in kinds
    ]
    return table("type | smallest positive | max | mantissa bits", rows)


def measured(weight: np.ndarray, form: tuple[str, str, int, bool, str, bool]) -> dict[str, Any]:
    """The error of a weight [N, K] in one form, in the weight's own unit but for `relative`."""
    name, code, group, zero_point, scale, second_level = form
    second = second_level_scale(weight, code, scale) if second_level else 1.0
    scaled = weight / np.float32(second)
    parts = quantize(scaled, code, group, zero_point, axis=1, scale_dtype=scale)
    restored = dequantize(*parts, group=group, axis=1) * np.float32(second)
    error = quantization_error(weight, restored)
    stored = 8 * sum(part.nbytes for part in parts if part is not None) + 32 * second_level
    return {
        "form": name, "codes": code, "group": group, "scales": scale,
        "bits_per_weight": round(stored / weight.size, 4), "largest": float(f"{error.largest:.4g}"),
        "root_mean_square": float(f"{error.root_mean_square:.4g}"),
        "relative": float(f"{error.relative:.4g}"), "decibels": round(error.decibels, 2),
    }  # fmt: skip


def measure(text: str, called: str) -> dict[str, Any]:
    """The data of quantization_error.json for a weight in a file."""
    weight = read_tensor(parse_input(text)).values().astype(np.float32)
    return {
        "weight": called, "shape": list(weight.shape),
        "root_mean_square": float(f"{np.sqrt(np.mean(weight.astype(np.float64) ** 2)):.4g}"),
        "forms": [measured(weight, form) for form in FORMS],
    }  # fmt: skip


def errors(data: dict[str, Any]) -> str:
    rows = [
        (row["form"], f"`{row['codes']}`", row["group"], f"`{row['scales']}`",
         f"{row['bits_per_weight']:.2f}", f"{row['largest']:.3g}",
         f"{row['root_mean_square']:.3g}", f"{row['relative']:.2%}", f"{row['decibels']:.1f}")
        for row in data["forms"]
    ]  # fmt: skip
    header = "form | codes | group | scales | bits | largest error | root mean square | "
    return table(header + "relative | dB", rows)


def originals(data: dict[str, Any]) -> str:
    """What `make test-formats` compared, a row for each format."""
    rows = []
    for name in dict.fromkeys(row["format"] for row in data["comparisons"]):
        found = [row for row in data["comparisons"] if row["format"] == name]
        package = found[0]["package"]
        settings: dict[str, list[str]] = {}
        for option, value in (one.split("=") for row in found for one in row["settings"]):
            settings.setdefault(option, []).append(value)
        shown = "; ".join(
            f"{option} {' '.join(dict.fromkeys(values))}" for option, values in settings.items()
        )
        rows.append((f"`{name}`", f"{package} {data['packages'][package]}", len(found),
                     sum(row["elements"] for row in found), shown))  # fmt: skip
    return table("format | compared with | weights | elements | settings", rows)


def packing(data: dict[str, Any]) -> str:
    rows = [row for row in data["widths"] if row["bits"] < 8]
    return table(
        "bits | " + " | ".join(str(row["bits"]) for row in rows),
        [(way, *(f"{row[way]:.2f}" for row in rows)) for way in ("pack", "unpack")],
    )


def page() -> str:
    """The text of docs/types.md."""
    compared = json.loads(ORIGINALS.read_text(encoding="utf-8"))
    equal = all(row["equal"] for row in compared["comparisons"])
    data = json.loads(ERRORS.read_text(encoding="utf-8"))
    rows, columns = data["shape"]
    source = (
        f"The weight is {data['weight']},\n{rows} x {columns}, with a root mean square of "
        f"{data['root_mean_square']:.3g}."
    )
    return TEXT.format(
        integers=integers(), floats=floats(), scales=scales(), errors_source=source,
        errors=errors(data), date=compared["date"], torch=compared["packages"]["torch"],
        verdict="equal" if equal else "not equal", originals=originals(compared),
        packing=packing(json.loads(PACKING.read_text(encoding="utf-8"))),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", metavar="FILE:TENSOR", help="a weight [N, K]")
    parser.add_argument("--called", default="a weight", help="what the page calls it")
    given = parser.parse_args(arguments)
    if given.measure:
        text = json.dumps(measure(given.measure, given.called), indent=2)
        ERRORS.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
