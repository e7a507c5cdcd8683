"""Weights rounded to any type of few bits, with one scale (and zero point) for each group.

Round to nearest, nothing cleverer: it needs no data, it is what a matmul program's tests and
benchmarks need, and the table of its errors says what a format costs. A weight w of a group with
scale s and zero point z is stored as q and read as (q - z) * s:

- **Symmetric** (z = 0; `i2..i8`, floats, codebooks, and unsigned types for weights without negative
  values): s = max |w| / m, where m is the largest magnitude that the type has on both sides.
- **With zero point** (integers): s = (high - low) / (largest - smallest value of the type), where
  low and high are the group's extremes with 0 included; z = smallest value - low / s, rounded to an
  integer, so that 0 is stored exactly.

The scale is rounded to its type first, and the weights are then divided by that rounded scale. A
scale type without mantissa (`f8e8m0`) takes 2**(floor(log2 max |w|) - floor(log2 m)), the rule of
OCP MX v1.0 (6.3), where weights at the top of a group may saturate. A group whose scale is 0 is
stored as zeros. Arithmetic is in f32, each operation rounded to nearest even.

    python -m programs.quantize model.safetensors:TENSOR [--group 128] [--types u4,i4,f4e2m1]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm.errors import VmError
from vm.isa.conversion import convert
from vm.isa.dtypes import DType, DTypeError
from vm.isa.dtypes import dtype as named_dtype
from vm.isa.tensor import Tensor
from vm.runtime.inputs import FileInput, parse_input, read_tensor

TABLE_TYPES = (
    *(f"u{bits}" for bits in range(1, 9)),
    *(f"i{bits}" for bits in range(2, 9)),
    *("f3e1m1", "f4e2m1", "nf4", "f5e2m2", "f6e2m3", "f6e3m2", "f8e4m3", "f8e5m2"),
)


class Quantized(NamedTuple):
    """Quantized weights: `codes` of the weights' shape; `scales`, and `zeros` of the codes' type
    (None if symmetric), with ceil(K / group) in place of K along the quantized axis."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None


@dataclass(frozen=True)
class QuantizationError:
    """How far restored weights are from the given ones, in the weights' own unit but for the last
    two: `relative` is the root mean square error over that of the weights, `decibels` its signal to
    noise ratio, -20 log10(relative)."""

    largest: float
    root_mean_square: float
    relative: float
    decibels: float


def quantize(
    weights: ArrayLike,
    dtype: DType | str,
    group: int | None = None,
    zero_point: bool = False,
    axis: int = 0,
    scale_dtype: DType | str = "f16",
) -> Quantized:
    """`weights` rounded to `dtype` in groups of `group` along `axis` (K); None is all of the axis.

    A last group may be shorter. Unpacks to (codes, scales, zeros). Raises `DTypeError` for a type
    that cannot hold the weights in the way asked for, and for weights that are not finite.
    """
    element, scale_type = named_dtype(dtype), named_dtype(scale_dtype)
    given = np.asarray(weights, dtype=np.float32)
    axis = _checked_axis(given.ndim, axis)
    _check_meaning(element, scale_type, zero_point, given)
    grouped = _grouped(given, group, axis)
    if zero_point:
        low = np.minimum(grouped.min(axis=axis + 1), 0)
        high = np.maximum(grouped.max(axis=axis + 1), 0)
        scales = _rounded_scales((high - low) / np.float32(element.max - element.min), scale_type)
        safe = np.expand_dims(np.where(scales == 0, np.float32(np.inf), scales), axis + 1)
        zeros = np.rint(np.float32(element.min) - np.expand_dims(low, axis + 1) / safe)
        np.clip(zeros, element.min, element.max, out=zeros)
        quotients = np.rint(grouped / safe)
        quotients += zeros
        values = np.clip(quotients, element.min, element.max, out=quotients)
        zero_tensor = Tensor.from_values(element, zeros.squeeze(axis + 1))
    else:
        largest = np.maximum(grouped.max(axis=axis + 1), -grouped.min(axis=axis + 1))
        scales = _scales_of(largest, _magnitude(element), scale_type)
        safe = np.expand_dims(np.where(scales == 0, np.float32(np.inf), scales), axis + 1)
        values, zero_tensor = grouped / safe, None
    rounding = "nearest_entry" if element.kind == "codebook" else "nearest_even"
    codes = element.encode(_ungrouped(values, given.shape, axis), rounding=rounding)
    return Quantized(
        Tensor.from_codes(element, codes), Tensor.from_values(scale_type, scales), zero_tensor
    )


def dequantize(
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    group: int | None = None,
    axis: int = 0,
) -> NDArray[np.float32]:
    """The weights (q - z) * s as f32, rounded once after the subtraction, which is exact."""
    axis = _checked_axis(len(codes.shape), axis)
    grouped = _grouped(codes.values().astype(np.float32), group, axis)
    if zeros is not None:
        grouped = grouped - np.expand_dims(zeros.values().astype(np.float32), axis + 1)
    grouped = grouped * np.expand_dims(scales.values().astype(np.float32), axis + 1)
    return _ungrouped(grouped, codes.shape, axis)


def second_level_scale(weights: ArrayLike, dtype: DType | str, scale_dtype: DType | str) -> float:
    """The f32 by which to divide weights before `quantize` where scales have a small range.

    max |w| / (largest value * largest scale): with `f4e2m1` in groups of 16 and `f8e4m3` scales
    this is NVFP4. 1.0 for weights that are all 0.
    """
    element, scale_type = named_dtype(dtype), named_dtype(scale_dtype)
    largest = np.abs(np.asarray(weights, dtype=np.float32)).max(initial=np.float32(0))
    return float(largest / np.float32(_magnitude(element) * scale_type.max)) or 1.0


def quantization_error(weights: ArrayLike, restored: ArrayLike) -> QuantizationError:
    """The error of `restored` against `weights`, summed in f64."""
    exact = np.asarray(weights, dtype=np.float64)
    error = np.asarray(restored, dtype=np.float64) - exact
    noise, signal = math.sqrt(np.mean(error**2)), math.sqrt(np.mean(exact**2))
    relative = noise / signal if signal else 0.0
    decibels = -20 * math.log10(relative) if relative else math.inf
    return QuantizationError(float(np.abs(error).max()), noise, relative, decibels)


def error_table(
    weights: ArrayLike,
    types: Sequence[str] = TABLE_TYPES,
    group: int | None = 128,
    axis: int = 0,
) -> str:
    """The errors of each type, as text: unsigned types with zero points, all others symmetric."""
    lines = ["type     bits/weight    largest        rms  relative     dB"]
    for name in types:
        element = named_dtype(name)
        result = quantize(weights, element, group, element.kind == "unsigned", axis)
        error = quantization_error(weights, dequantize(*result, group=group, axis=axis))
        stored = sum(part.nbytes for part in result if part is not None)
        lines.append(
            f"{name:8} {8 * stored / result.codes.size:11.2f} {error.largest:10.3g} "
            f"{error.root_mean_square:10.3g} {error.relative:9.2%} {error.decibels:6.1f}"
        )
    return "\n".join(lines)


def _check_meaning(
    element: DType, scale_type: DType, zero_point: bool, weights: NDArray[np.float32]
) -> None:
    if scale_type.kind not in ("float", "scale"):
        raise DTypeError(f"{scale_type.name} is no type of scales; write f16, bf16, f32 or f8e8m0")
    if not np.isfinite(weights).all():
        raise DTypeError("weights that are infinite or NaN have no scale; remove them first")
    if element.kind in ("bool", "scale") or (element.is_integer and element.bits > 16):
        raise DTypeError(
            f"{element.name} is no type of weights; write u1..u16, i2..i16, a float or a codebook"
        )
    if zero_point and not element.is_integer:
        raise DTypeError(f"{element.name} has no zero point: it is symmetric; zero_point=False")
    if zero_point and scale_type.kind == "scale":
        raise DTypeError("scales that are powers of two go without zero point; zero_point=False")
    if element.name == "i1" and not zero_point:
        raise DTypeError("i1 has no positive value; write u1 with zero_point=True")
    if element.kind == "unsigned" and not zero_point and (weights < 0).any():
        raise DTypeError(
            f"{element.name} has no negative values; "
            f"write zero_point=True, or i{element.bits} for a symmetric type"
        )


def _magnitude(element: DType) -> float:
    """The largest magnitude that the type has on both sides of 0."""
    if element.kind == "codebook":
        return max(abs(element.min), abs(element.max))
    return float(element.max)


def _scales_of(
    largest: NDArray[np.float32], magnitude: float, scale_type: DType
) -> NDArray[np.float32]:
    if scale_type.kind != "scale":
        return _rounded_scales(largest / np.float32(magnitude), scale_type)
    power = np.float32(2.0 ** (math.frexp(magnitude)[1] - 1))
    scales = convert(largest / power, named_dtype("f32"), scale_type, rounding="toward_zero")
    return np.where(largest == 0, np.float32(scale_type.min), scales)


def _rounded_scales(scales: NDArray[np.float32], scale_type: DType) -> NDArray[np.float32]:
    return convert(scales, named_dtype("f32"), scale_type).astype(np.float32)


def _checked_axis(rank: int, axis: int) -> int:
    if not -rank <= axis < rank:
        raise DTypeError(f"weights of rank {rank} have no axis {axis}; write 0 to {rank - 1}")
    return axis % rank


def _grouped(weights: NDArray[Any], group: int | None, axis: int) -> NDArray[Any]:
    """The axis as two, groups and places in a group, with zeros in a last group's empty places."""
    extent = weights.shape[axis]
    group = extent if group is None else group
    if group < 1 or not extent:
        raise DTypeError(f"groups of {group} along an axis of {extent}; both are at least 1")
    if extent % group:
        empty = [(0, 0)] * weights.ndim
        empty[axis] = (0, -extent % group)
        weights = np.pad(weights, empty)
    before, after = weights.shape[:axis], weights.shape[axis + 1 :]
    return weights.reshape(*before, -(-extent // group), group, *after)


def _ungrouped(grouped: NDArray[Any], shape: Sequence[int], axis: int) -> NDArray[Any]:
    before, after = grouped.shape[:axis], grouped.shape[axis + 2 :]
    flat = grouped.reshape(*before, grouped.shape[axis] * grouped.shape[axis + 1], *after)
    return flat[(slice(None),) * axis + (slice(shape[axis]),)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints the table of errors of a tensor in a file."""
    parser = argparse.ArgumentParser(prog="python -m programs.quantize", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", help="file.npy, file.npz:key or file.safetensors:tensor")
    parser.add_argument("--group", type=int, default=128, help="weights with one scale")
    parser.add_argument("--axis", type=int, default=0, help="the axis of groups, K; PyTorch's is 1")
    parser.add_argument("--types", default=",".join(TABLE_TYPES), help="names, with commas")
    given = parser.parse_args(arguments)
    try:
        source = parse_input(given.input)
        if not isinstance(source, FileInput):
            raise DTypeError("random numbers are no weights; name a file")
        weights = read_tensor(source).values()
        print(error_table(weights, given.types.split(","), given.group, given.axis))
    except (VmError, DTypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
