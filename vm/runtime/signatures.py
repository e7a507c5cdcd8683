"""What a program or reference takes: its parameters with sizes still open, and how arguments bind
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vm.errors import Origin, VmError, fail
from vm.isa import syntax
from vm.isa.printer import format_expression
from vm.isa.program import Program
from vm.isa.static import Environment, NotStatic, evaluate
from vm.isa.tensor import Tensor
from vm.isa.type_expressions import evaluate_type
from vm.isa.types import GlobalType, ScalarType, Type

# How far from a size that does not fit one that would is looked for.
SEARCH = 4096


@dataclass(frozen=True)
class Argument:
    """What is given for a parameter, and where it was written."""

    value: Any
    origin: Origin


@dataclass(frozen=True, eq=False)
class Signature:
    """The header of a program; extents in `types` are numbers or expressions over `sizes`."""

    program: Program
    types: dict[str, Type]
    sizes: dict[str, Origin]
    constants: Environment

    @property
    def inputs(self) -> tuple[str, ...]:
        """Parameters that a call gives: all but `out` ones."""
        return tuple(name for name, type_ in self.types.items() if _access(type_) != "out")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Parameters that a call has as results: `out` and `inout` ones."""
        return tuple(n for n, t in self.types.items() if _access(t) in ("out", "inout"))

    @property
    def scalars(self) -> tuple[str, ...]:
        return tuple(n for n, t in self.types.items() if isinstance(t, ScalarType))

    def evaluate(self, expression: Any, values: Mapping[str, Any]) -> Any:
        """An extent, grid extent or fact with the sizes and scalars known."""
        if not isinstance(expression, syntax.Expression):
            return expression
        constants = self.constants
        environment = Environment({**constants.values, **values}, constants.lazy)
        return evaluate(expression, environment)

    def shape(self, name: str, values: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape of a parameter with the sizes known; raises E0303 where it is none."""
        extents = tuple(self.evaluate(extent, values) for extent in self.types[name].shape)
        for extent, expression in zip(extents, self.types[name].shape, strict=True):
            if not isinstance(extent, int) or isinstance(extent, bool) or extent < 0:
                raise fail(
                    "E0303", f"`{name}` of `{self.program.name}` has an extent of {extent}",
                    getattr(expression, "origin", self.program.definition.origin), "here",
                    fix="call it with sizes that make it a whole number from 0 up",
                )  # fmt: skip
        return extents


def _access(type_: Type) -> str:
    return type_.access if isinstance(type_, GlobalType) else "in"


@lru_cache(maxsize=256)
def signature(program: Program) -> Signature:
    """The signature of a program or reference; raises what its header is refused for."""
    constants = Environment({}, program.constants)
    sizes: dict[str, Origin] = {}
    for parameter in program.definition.parameters:
        for node in syntax.walk(parameter.type):
            if isinstance(node, syntax.Subscript):
                for index in node.indices:
                    extent = index.offset
                    if isinstance(extent, syntax.Name) and extent.text not in constants.names():
                        sizes.setdefault(extent.text, extent.origin)
    environment = Environment({}, program.constants, {}, sizes.__contains__)
    types = {
        parameter.name: evaluate_type(parameter.type, environment, sizes=True)
        for parameter in program.definition.parameters
    }
    return Signature(program, types, sizes, constants)


def bind_sizes(
    signature: Signature,
    arguments: Mapping[str, Argument],
    given: Mapping[str, Argument],
    call: Origin,
) -> dict[str, int]:
    """The value of every size, from the shapes of the arguments and from `given`.

    Raises `VmError`: E0702 where an argument has another dtype or rank than its parameter, E0701
    where two arguments, or an argument and the shape asked for, disagree or a size stays unknown.
    """
    sizes = {name: argument.value for name, argument in given.items()}
    bound_by: dict[str, tuple[Origin, str]] = {
        name: (argument.origin, f"{name} = {argument.value}") for name, argument in given.items()
    }
    tensors = [
        (n, a) for n, a in arguments.items() if not isinstance(signature.types[n], ScalarType)
    ]
    for name, argument in tensors:
        shape = _checked(signature, name, argument)
        for extent, actual in zip(signature.types[name].shape, shape, strict=True):
            if not isinstance(extent, syntax.Name):
                continue
            if sizes.setdefault(extent.text, actual) != actual:
                raise fail(
                    "E0701", f"{extent.text} is {actual} in `{name}` and {sizes[extent.text]} "
                    "elsewhere", argument.origin, f"`{name}` is {argument.value!r}",
                    others=(bound_by[extent.text],),
                    fix="give tensors whose shapes agree",
                )  # fmt: skip
            label = f"{extent.text} = {actual}, as `{name}` is {argument.value!r}"
            bound_by.setdefault(extent.text, (argument.origin, label))
    for name, origin in signature.sizes.items():
        if name not in sizes:
            raise fail(
                "E0701", f"the size {name} of `{signature.program.name}` is not known", call,
                "here", others=((origin, f"{name} stands in no shape of an argument alone"),),
                fix=f"say it in the call: {name}=...",
            )  # fmt: skip
    for name, argument in tensors:
        wanted = _wanted_shape(signature, name, sizes, argument.origin)
        if wanted != argument.value.shape:
            raise fail(
                "E0701", f"`{name}` of `{signature.program.name}` is {list(wanted)} here, not "
                f"{list(argument.value.shape)}", argument.origin, f"this is {argument.value!r}",
                others=tuple(bound_by[size] for size in sorted(bound_by)),
                fix="give a tensor of that shape",
            )  # fmt: skip
    return sizes


def _checked(signature: Signature, name: str, argument: Argument) -> tuple[int, ...]:
    """The shape of an argument, which has the parameter's dtype and rank."""
    type_ = signature.types[name]
    tensor = argument.value
    fits = isinstance(tensor, Tensor)
    if not fits or tensor.dtype != type_.dtype or len(tensor.shape) != len(type_.shape):
        shown = repr(tensor) if fits else f"the number {tensor}"
        parameter = next(p for p in signature.program.definition.parameters if p.name == name)
        raise fail(
            "E0702", f"`{name}` of `{signature.program.name}` is {type_}", argument.origin,
            f"this is {shown}", others=((parameter.origin, "the parameter"),),
            fix="give a tensor of that dtype and rank",
        )  # fmt: skip
    return tensor.shape


def _wanted_shape(
    signature: Signature, name: str, sizes: Mapping[str, int], origin: Origin
) -> tuple[int, ...]:
    try:
        return signature.shape(name, sizes)
    except NotStatic as error:
        raise fail(
            "E0701", f"the shape of `{name}` depends on `{error.name}`", origin, "here",
            fix=f"say it in the call: {error.name}=...",
        ) from None  # fmt: skip


def check_facts(signature: Signature, values: Mapping[str, Any], call: Origin) -> None:
    """Raises `VmError` E0703 where a `where` fact does not hold, with the sizes that would fit."""
    for fact in signature.program.definition.where:
        if syntax.is_hint(fact):
            continue  # of addresses: for the executor that has them
        if signature.evaluate(fact, values):
            continue
        names = [name for name in signature.sizes if _mentions(fact, name)]
        shown = " and ".join(f"{name} = {values[name]}" for name in names)
        raise fail(
            "E0703", f"`{signature.program.name}` needs {format_expression(fact)}, here {shown}",
            call, shown, others=((fact.origin, "needed here"),),
            fix="; ".join(filter(None, (_would_fit(signature, values, n) for n in names)))
            or "give the constants other values with --set",
        )  # fmt: skip


def _mentions(fact: syntax.Expression, name: str) -> bool:
    return any(isinstance(n, syntax.Name) and n.text == name for n in syntax.walk(fact))


def _would_fit(signature: Signature, values: Mapping[str, Any], name: str) -> str | None:
    """The nearest values of a size, one on each side, with which every fact about it holds."""
    facts = [
        fact
        for fact in signature.program.definition.where
        if not (syntax.is_hint(fact))
        and _mentions(fact, name)
    ]

    def fits(candidate: int) -> bool:
        trial = {**values, name: candidate}
        try:
            return all(signature.evaluate(fact, trial) for fact in facts)
        except VmError:  # such as a division by a size of 0
            return False

    actual = values[name]
    below = next(filter(fits, range(actual - 1, max(0, actual - SEARCH), -1)), None)
    above = next(filter(fits, range(actual + 1, actual + SEARCH)), None)
    found = [str(each) for each in (below, above) if each is not None]
    return f"{name} = {' or '.join(found)} would fit" if found else None
