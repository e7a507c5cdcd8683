"""What a case can call besides programs and references: makers of inputs, and bounds of errors.

A function of tensors gives a `Planned`: the dtypes and shapes of its results at once, their values
when asked. So a case can be checked without computing anything.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.dtypes import DType, DTypeError
from vm.isa.dtypes import dtype as named_dtype
from vm.isa.packing import packed_size
from vm.isa.philox import random_codes, random_values
from vm.isa.tensor import Tensor

Shape = tuple[int, ...]
MAXIMUM_CODE_BITS = 16

MAXIMUM_ELEMENTS = 2**29
"""Of a tensor in a case. Asking for more memory than there is does not fail on every system: some
end the process."""


@dataclass(frozen=True)
class Planned:
    """Tensors to be: their dtypes and shapes, and how to compute them."""

    types: tuple[tuple[DType, Shape], ...]
    compute: Callable[[], tuple[Tensor, ...]]


def blank(element: DType, shape: Shape) -> Tensor:
    """A tensor of zeros that takes no memory, for when only dtype and shape matter."""
    stored = (*shape[:-1], packed_size(shape[-1], element)) if element.is_packed else shape
    return Tensor(element, shape, np.broadcast_to(np.zeros((), element.memory), stored))


def random(
    dtype: DType, shape: Shape, *, seed: int, scale: float = 1.0, below: int | None = None
) -> Planned:
    """Random elements, the same on every machine: floats nearly normal with standard deviation
    `scale`; of integers, `bool` and codebooks every code alike, or every code `below` a number
    (vm/isa/philox.py says exactly)."""

    def compute() -> Tensor:
        if dtype.is_float and dtype.kind != "codebook":
            return Tensor.from_values(dtype, random_values(dtype, shape, seed, scale))
        return Tensor.from_codes(dtype, random_codes(dtype, shape, seed, below=below))

    return _one(dtype, shape, compute)


def arange(dtype: DType, shape: Shape, *, start: float = 0, step: float = 1) -> Planned:
    """start, start + step, ... in row-major order, each cast to `dtype`; integers wrap."""

    def compute() -> Tensor:
        values = start + step * np.arange(math.prod(shape), dtype=np.int64)
        return Tensor.from_values(
            dtype, values.reshape(shape), "wrap" if dtype.is_integer else "saturate"
        )

    return _one(dtype, shape, compute)


def full(dtype: DType, shape: Shape, value: float) -> Planned:
    """The same value everywhere, cast to `dtype`."""
    return _one(dtype, shape, lambda: Tensor.from_values(dtype, np.full(shape, value)))


def zeros(dtype: DType, shape: Shape) -> Planned:
    """0 everywhere."""
    return full(dtype, shape, 0)


def all_codes(dtype: DType) -> Planned:
    """Every code of a dtype of at most 16 bits, once, in order."""
    if dtype.bits > MAXIMUM_CODE_BITS:
        raise DTypeError(f"{dtype.name} has 2^{dtype.bits} codes; at most 2^16 are listed")
    count = 2 if dtype.kind == "bool" else 1 << dtype.bits
    return _one(
        dtype, (count,), lambda: Tensor.from_codes(dtype, np.arange(count).astype(dtype.storage))
    )


def transpose(x: Tensor, order: Shape | None = None) -> Planned:
    """The tensor with its axes in another order, reversed where none is given."""
    axes = tuple(reversed(range(len(x.shape)))) if order is None else order
    if sorted(axes) != list(range(len(x.shape))):
        raise DTypeError(f"{list(axes)} is no order of {len(x.shape)} axes")
    shape = tuple(x.shape[axis] for axis in axes)
    return _one(
        x.dtype, shape, lambda: Tensor.from_codes(x.dtype, np.transpose(x.codes(), axes).copy())
    )


def quantize(
    weights: Tensor,
    dtype: DType,
    *,
    group_size: int,
    zero_point: bool = False,
    axis: int = 0,
    scale_dtype: DType | None = None,
) -> Planned:
    """Float weights rounded to `dtype` in groups of `group_size` along `axis`: codes, scales and,
    with `zero_point`, zero points. programs/quantize.py says how."""
    scale_kind = scale_dtype or named_dtype("f16")
    if not 0 <= axis < len(weights.shape) or group_size < 1:
        raise DTypeError(f"groups of {group_size} along axis {axis} of {weights!r} have no meaning")
    grouped = tuple(
        -(-extent // group_size) if a == axis else extent for a, extent in enumerate(weights.shape)
    )
    types = ((dtype, weights.shape), (scale_kind, grouped), (dtype, grouped))

    def compute() -> tuple[Tensor, ...]:
        from programs.quantize import quantize as quantized

        values = weights.values()
        parts = quantized(values, dtype, group_size, zero_point, axis, scale_kind)
        return tuple(part for part in parts if part is not None)

    return Planned(types if zero_point else types[:2], compute)


def _one(element: DType, shape: Shape, compute: Callable[[], Tensor]) -> Planned:
    return Planned(((element, shape),), lambda: (compute(),))


INPUTS: Mapping[str, Callable[..., Planned]] = {
    function.__name__: function for function in (random, arange, full, zeros, all_codes)
}
"""Functions that make a case's inputs: what `--input` can put a file in place of."""

FUNCTIONS: Mapping[str, Callable[..., Planned]] = {
    **INPUTS,
    "transpose": transpose,
    "quantize": quantize,
}


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "DType": ("a dtype such as f16", lambda v: isinstance(v, DType)),
    "DType | str": ("a dtype such as f16", lambda v: isinstance(v, DType)),
    "Shape": ("a list of whole numbers such as [64, 32]", lambda v: _is_shape(v)),
    "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "Tensor": ("a tensor", lambda v: isinstance(v, Tensor)),
}


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(extent, int) and not isinstance(extent, bool) and extent >= 0 for extent in value
    )


def call_function(
    name: str,
    function: Callable[..., Any],
    call: syntax.Call,
    positional: list[Any],
    named: dict[str, Any],
) -> Any:
    """Calls a function of cases with evaluated arguments.

    Raises `VmError`: E0209 where the arguments do not match its parameters, E0205 where one is of
    another kind or the function refuses it, E0705 for a tensor that is too large.
    """
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*positional, **named).arguments
    except TypeError as error:
        raise fail(
            "E0209", f"`{name}`: {error}", call.origin, "in this call",
            fix=f"write {name}{shown_signature(function)}",
        ) from None  # fmt: skip
    places = {k.name: k.value.origin for k in call.keywords}
    places |= dict(zip(signature.parameters, (a.origin for a in call.arguments), strict=False))
    for parameter, value in bound.items():
        kind = str(signature.parameters[parameter].annotation).removesuffix(" | None")
        wanted, fits = _KINDS[kind]
        if not fits(value):
            raise fail(
                "E0205", f"`{parameter}` of `{name}` must be {wanted}", places[parameter],
                "this is not", fix=f"write {name}{shown_signature(function)}",
            )  # fmt: skip
    try:
        result = function(**bound)
    except DTypeError as error:
        raise fail(
            "E0205", f"`{name}`: {error}", call.origin, "in this call",
            fix=f"write {name}{shown_signature(function)}",
        ) from None  # fmt: skip
    for element, shape in result.types if isinstance(result, Planned) else ():
        check_size(element, shape, call.origin)
    return result


def check_size(element: DType, shape: Shape, origin: Origin) -> None:
    """Raises `VmError` E0705 for a tensor that is too large for a case."""
    if math.prod(shape) > MAXIMUM_ELEMENTS:
        raise fail(
            "E0705", f"{element.name}{list(shape)} has {math.prod(shape)} elements",
            origin, "too large", fix="at most 2^29; give smaller sizes with --set",
        )  # fmt: skip


def shown_signature(function: Callable[..., Any]) -> str:
    """`(dtype, shape, seed=..., scale=1.0)`"""
    parts = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            default = parameter.default
            shown = str(default).lower() if isinstance(default, bool) else default
            parts.append(f"{parameter.name}={'...' if shown is None else shown}")
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            parts.append(f"{parameter.name}=...")
        else:
            parts.append(parameter.name)
    return f"({', '.join(parts)})"
