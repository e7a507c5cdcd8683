"""What a program or reference takes: its parameters with sizes still open, and how arguments bind
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.program import Program
from vm.isa.static import Environment, NotStatic, evaluate
from vm.isa.tensor import Tensor
from vm.isa.type_expressions import evaluate_type
from vm.isa.types import GlobalType, ScalarType, Type
from vm.runtime.sizes import Sizes, broken_fact, facts_of


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
    where two arguments, or an argument and the shape asked for, disagree, E0706 where a size stays
    unknown.
    """
    sizes: Sizes[Origin] = Sizes()
    for name, argument in given.items():
        sizes.bind(name, argument.value, argument.origin, f"{name} = {argument.value}")
    tensors = [
        (n, a) for n, a in arguments.items() if not isinstance(signature.types[n], ScalarType)
    ]
    for name, argument in tensors:
        shape = _checked(signature, name, argument)
        for extent, actual in zip(signature.types[name].shape, shape, strict=True):
            if not isinstance(extent, syntax.Name):
                continue
            how = f"{extent.text} = {actual}, as `{name}` is {argument.value!r}"
            if not sizes.bind(extent.text, actual, argument.origin, how):
                raise fail(
                    "E0701", f"{extent.text} is {actual} in `{name}` and "
                    f"{sizes.values[extent.text]} elsewhere", argument.origin,
                    f"`{name}` is {argument.value!r}", others=(sizes.bound_by[extent.text],),
                    fix="give tensors whose shapes agree",
                )  # fmt: skip
    for name, origin in signature.sizes.items():
        if name not in sizes.values:
            raise fail(
                "E0706", f"the size {name} of `{signature.program.name}` is not known", call,
                "here", others=((origin, f"{name} stands in no shape of an argument alone"),),
                fix=f"say it in the call: {name}=...",
            )  # fmt: skip
    for name, argument in tensors:
        wanted = _wanted_shape(signature, name, sizes.values, argument.origin)
        if wanted != argument.value.shape:
            raise fail(
                "E0701", f"`{name}` of `{signature.program.name}` is {list(wanted)} here, not "
                f"{list(argument.value.shape)}", argument.origin, f"this is {argument.value!r}",
                others=tuple(sizes.bound_by[size] for size in sorted(sizes.bound_by)),
                fix="give a tensor of that shape",
            )  # fmt: skip
    return sizes.values


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
            "E0706", f"the shape of `{name}` depends on `{error.name}`", origin, "here",
            fix=f"say it in the call: {error.name}=...",
        ) from None  # fmt: skip


def check_facts(signature: Signature, values: Mapping[str, Any], call: Origin) -> None:
    """Raises `VmError` E0703 where a `where` fact does not hold, with the sizes that would fit."""
    facts = facts_of(signature.program.definition.where, signature.evaluate)
    broken = broken_fact(facts, signature.sizes, values)
    if broken is not None:
        raise fail(
            "E0703", f"`{signature.program.name}` needs {broken.fact.text}, here {broken.shown}",
            call, broken.shown, others=((broken.fact.origin, "needed here"),), fix=broken.fix,
        )  # fmt: skip
