"""What a kernel expects of its caller, as data, and whether given arrays are that.

Nothing here knows a device: the emulator and every GPU check their arguments with it.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import CodeType
from typing import Any

from vm.errors import InternalError, VmError, fail
from vm.runtime.arrays import Array
from vm.runtime.sizes import Fact, broken_fact


@dataclass(frozen=True)
class PointerArgument:
    """An array. `shape` and `strides` (in elements; none for row-major) are expressions in sizes;
    one that is a name alone binds it. `access` is "in", "out" or "inout". `alignment` is that of
    the address, in bytes. An array with `alias` may overlap others. A dtype narrower than a byte
    has its last axis packed into the bytes of each row, and strides of bytes."""

    name: str
    dtype: str
    shape: tuple[str, ...]
    access: str = "in"
    alignment: int = 1
    strides: tuple[str, ...] | None = None
    alias: bool = False


@dataclass(frozen=True)
class SizeArgument:
    """An integer that follows from the arrays: the value of expression `value`."""

    value: str
    dtype: str = "i32"


@dataclass(frozen=True)
class ScalarArgument:
    """A number given by the caller; `shapes` where the grid or a fact depends on it."""

    name: str
    dtype: str
    shapes: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a compiled kernel expects of its caller; goes to the cache as JSON.

    The kernel's parameters are `pointers`, `sizes`, `scalars` in that order, then the address of
    the workspace and of the semaphores (32-bit words, zero before and after) where it has any:
    `workspace_bytes` and `semaphores` are expressions in sizes. `facts` are expressions that must
    hold. `shared_bytes` is dynamic shared memory. `pdl` lets the kernel begin before the one ahead
    of it has ended: it waits for that itself.
    """

    program: str
    kernel: str
    pointers: tuple[PointerArgument, ...]
    sizes: tuple[SizeArgument, ...]
    scalars: tuple[ScalarArgument, ...]
    threads: int
    shared_bytes: int = 0
    workspace_bytes: str = "0"
    semaphores: str = "0"
    facts: tuple[str, ...] = ()
    pdl: bool = False
    cluster: tuple[int, int, int] | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Manifest:
        """The manifest that `as_json` gave, also after a way through JSON text."""
        pointers = [
            {**each, "shape": tuple(each["shape"]), "strides": _optional(each["strides"])}
            for each in fields["pointers"]
        ]
        changed = {
            "pointers": tuple(PointerArgument(**each) for each in pointers),
            "sizes": tuple(SizeArgument(**each) for each in fields["sizes"]),
            "scalars": tuple(ScalarArgument(**each) for each in fields["scalars"]),
            "facts": tuple(fields["facts"]),
            "cluster": _optional(fields["cluster"]),
        }
        return Manifest(**{**fields, **changed})


def _optional(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.Not)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.And, ast.Or, ast.Load)
_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name),
    *_OPERATORS,
    *_COMPARISONS,
)
_FUNCTIONS: dict[str, Callable[..., int]] = {
    "ceil_div": lambda number, divisor: -(-number // divisor),
    "min": min,
    "max": max,
}


class _FloorDivision(ast.NodeTransformer):
    def visit_Div(self, node: ast.Div) -> ast.FloorDiv:
        return ast.FloorDiv()


@functools.lru_cache(maxsize=4096)
def _parsed(expression: str) -> CodeType:
    """The expression as code, after a look at every node: a manifest may come from a file."""
    tree = ast.parse(expression, mode="eval")
    for node in ast.walk(tree):
        constant = isinstance(node, ast.Constant) and type(node.value) in (int, float)
        if not constant and not isinstance(node, _NODES):
            raise InternalError(f"a manifest holds an expression that is none: {expression}")
    return compile(ast.fix_missing_locations(_FloorDivision().visit(tree)), expression, "eval")


def evaluate(expression: str, sizes: Mapping[str, int]) -> int:
    """The value of an expression of numbers: `+ - * // %` and `/` (both divisions floor),
    comparisons, `and or not`, `ceil_div`, `min`, `max`. Raises `InternalError` for a name without a
    value and `VmError` E0836 where it divides by a size of 0."""
    try:
        return eval(_parsed(expression), {"__builtins__": {}, **_FUNCTIONS}, dict(sizes))
    except NameError as error:
        raise InternalError(f"the manifest's {expression} cannot be known: {error}") from error
    except ZeroDivisionError as error:
        shown = ", ".join(f"{name} = {value}" for name, value in sizes.items())
        raise fail(
            "E0836", f"{expression} divides by 0: {shown}", None,
            fix="give arrays with at least one element along every axis",
        ) from error  # fmt: skip


def bind_sizes(
    manifest: Manifest, arrays: Sequence[Array], scalars: Sequence[Any] = ()
) -> dict[str, Any]:
    """The sizes that the arrays give, every array checked against the manifest, and the `scalars`
    (all of them are given, in order) on which the grid or a fact depends.

    Raises `VmError`: E0829 (dtype), E0830 (shape), E0832 (strides), E0834 (read-only), E0836 (a
    fact). Addresses are checked by `check_addresses`.
    """
    sizes: dict[str, int] = {}
    origins: dict[str, str] = {}
    views = []
    for pointer, array in zip(manifest.pointers, arrays, strict=True):
        if pointer.access != "in" and array.readonly:
            raise _refuse(manifest, pointer, "E0834", "is written and the array is read-only")
        views.append(_logical(manifest, pointer, array))

    def bind(expression: str, value: int, where: str) -> None:
        if expression.isidentifier() and expression not in sizes:
            sizes[expression], origins[expression] = value, where

    # a plain byte array does not say how many narrow elements its rows hold: asked last
    for exact in (True, False):
        for pointer, (shape, guessed, strides) in zip(manifest.pointers, views, strict=True):
            for axis, expression in enumerate(pointer.shape):
                if not (exact and guessed and axis == len(shape) - 1):
                    bind(expression, shape[axis], f"axis {axis} of {pointer.name}")
            for axis, expression in enumerate(pointer.strides or ()):
                bind(expression, strides[axis], f"stride {axis} of {pointer.name}")
    for pointer, array, (shape, guessed, strides) in zip(
        manifest.pointers, arrays, views, strict=True
    ):
        expected = tuple(evaluate(each, sizes) for each in pointer.shape)
        if guessed:  # compare what the array does say: the bytes of its rows
            agrees = array.shape == _packed_shape(expected, pointer.dtype)
        else:
            agrees = shape == expected
        if not agrees:
            known = [f"{name} = {sizes[name]} from {origins[name]}" for name in sizes]
            raise _refuse(
                manifest,
                pointer,
                "E0830",
                f"has shape {_brackets(pointer.shape)} = {_brackets(expected)}, "
                f"not {_brackets(array.shape if guessed else shape)}"
                + (f" ({bits_of(pointer.dtype)}-bit elements in bytes)" if guessed else ""),
                tuple(known),
            )
        walked = [axis for axis, extent in enumerate(shape) if extent != 1]
        wanted = [evaluate(each, sizes) for each in pointer.strides or ()]
        if wanted and [strides[axis] for axis in walked] != [wanted[axis] for axis in walked]:
            problem = f"has strides {_brackets(wanted)}, not {_brackets(strides)}"
            raise _refuse(manifest, pointer, "E0832", problem)
    facts = [
        Fact(text, frozenset(_parsed(text).co_names), functools.partial(evaluate, text))
        for text in manifest.facts
    ]
    sizes |= {
        scalar.name: value
        for scalar, value in zip(manifest.scalars, scalars, strict=False)
        if scalar.shapes
    }
    broken = broken_fact(facts, sizes, sizes)
    if broken is not None:
        problem = f"{manifest.program} needs {broken.fact.text}: {broken.shown}"
        raise fail("E0836", problem, None, fix=broken.fix)
    return sizes


def _logical(
    manifest: Manifest, pointer: PointerArgument, array: Array
) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """The array's shape in elements of the argument's dtype, whether the last extent is a guess,
    and its strides."""
    dtype, shape, guessed = array.dtype, array.shape, False
    narrow = bits_of(pointer.dtype) <= 8
    if array.packed is not None:
        dtype, shape = array.packed
        if array.shape != _packed_shape(shape, dtype):
            problem = f"has storage of {_brackets(array.shape)} bytes for {_brackets(shape)}"
            raise _refuse(manifest, pointer, "E0830", problem)
    elif array.dtype == "u8" and pointer.dtype not in ("u8", "bool") and narrow and shape:
        dtype, guessed = pointer.dtype, bits_of(pointer.dtype) < 8
        shape = (*shape[:-1], shape[-1] * 8 // bits_of(dtype))
    if dtype != pointer.dtype:
        raise _refuse(manifest, pointer, "E0829", f"is {pointer.dtype}, the array is {dtype}")
    if len(shape) != len(pointer.shape):
        problem = f"has {len(pointer.shape)} axes, {_brackets(pointer.shape)}; "
        raise _refuse(manifest, pointer, "E0830", f"{problem}the array has {_brackets(shape)}")
    if pointer.strides is None and not array.contiguous:
        problem = f"is row-major; the array has strides {_brackets(array.strides)}"
        raise _refuse(manifest, pointer, "E0832", problem)
    return shape, guessed, array.strides


def bits_of(dtype: str) -> int:
    """The width that a dtype's name states: 4 for `u4`, 6 for `f6e3m2`, 8 for `bool`; for
    `codebook16_f32`, of 16 entries, 4."""
    digits = "".join(itertools.takewhile(str.isdigit, dtype.lstrip("abcdefghijklmnopqrstuvwxyz")))
    if dtype.startswith("codebook"):  # these are its entries, codebook16_f32
        return (int(digits) - 1).bit_length()
    return int(digits) if digits else 8


def _packed_shape(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """The bytes that hold elements narrower than a byte, each row beginning with a byte."""
    return (*shape[:-1], (shape[-1] * bits_of(dtype) + 7) // 8)


def check_addresses(manifest: Manifest, arrays: Sequence[Array]) -> None:
    """Raises `VmError` E0831 for an address that is not aligned and E0835 for overlap with a
    written array."""
    for pointer, array in zip(manifest.pointers, arrays, strict=True):
        if not array.aligned(pointer.alignment):
            problem = f"is aligned to {pointer.alignment} bytes; its address is {array.pointer:#x}"
            raise _refuse(manifest, pointer, "E0831", problem)
    for first, second in conflicts(manifest):
        if arrays[first].overlaps(arrays[second]):
            problem = f"overlaps {manifest.pointers[second].name}, and one of them is written"
            raise _refuse(manifest, manifest.pointers[first], "E0835", problem)


def conflicts(manifest: Manifest) -> list[tuple[int, int]]:
    """The pairs of arguments, by index, that must not overlap."""
    pairs = itertools.combinations(enumerate(manifest.pointers), 2)
    return [
        (first, second)
        for (first, one), (second, other) in pairs
        if (one.access, other.access) != ("in", "in") and not one.alias and not other.alias
    ]


def _refuse(
    manifest: Manifest,
    pointer: PointerArgument,
    code: str,
    problem: str,
    notes: tuple[str, ...] = (),
) -> VmError:
    return fail(code, f"{manifest.program}: {pointer.name} {problem}", None, notes=notes)


def _brackets(values: Sequence[object]) -> str:
    return f"[{', '.join(str(each) for each in values)}]"
