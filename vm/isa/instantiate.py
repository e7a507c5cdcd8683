"""Program to kernel: constants are given, every name gets its meaning, every value its type.

Nested expressions become instructions of their own, operators become the instructions they are
sugar for, branches and fully unrolled loops on constants are decided here. This file reads the
header; `instantiate_statements` and `instantiate_expressions` read the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.instantiate_expressions import Expressions
from vm.isa.instantiate_statements import Statements
from vm.isa.instruction import Scope, instead
from vm.isa.kernel import Kernel
from vm.isa.static import COMPARISONS, CONNECTIVES, close_over
from vm.isa.static_kinds import is_kind
from vm.isa.type_expressions import evaluate_type
from vm.isa.types import INDEX, ScalarType, Value

MAXIMUM_THREADS = 1024


def instantiate(
    definition: syntax.Definition,
    constants: Mapping[str, syntax.Constant],
    given: Mapping[str, Any],
    *,
    warp_width: int = 32,
) -> Kernel:
    """The kernel of `definition` with `given` values for its constants and sizes.

    `constants` are those of its module, whose own values hold where `given` says nothing. Raises
    `VmError` for whatever can be known to be wrong before running.
    """
    _require_known(definition, constants, given)
    expressions = Expressions(constants, given)
    header = _Header(definition, expressions, warp_width)
    parameters = header.parameters()
    scalars = (p for p in parameters if p.type.space == "scalar")
    expressions.given_at_launch = frozenset((*header.sizes.values(), *scalars))
    threads = header.threads()
    reference = definition.kind == "reference"
    scope = Scope(threads, warp_width, len(definition.grid), None, reference)
    with expressions.within(scope):
        grid = expressions.grid = header.grid()
        where = header.facts()
        body = Statements(expressions).block(definition.body)
        known = dict(expressions.environment.values)
    return Kernel(
        definition.name, definition.kind, parameters, tuple(header.sizes.values()), grid, threads,
        warp_width, where, body, known, definition.origin,
    )  # fmt: skip


def _require_known(
    definition: syntax.Definition,
    constants: Mapping[str, syntax.Constant],
    given: Mapping[str, Any],
) -> None:
    """Raises E0201 where a value is given to a name that neither module nor program has."""
    unknown = [name for name in given if name not in constants]
    if not unknown:
        return
    names = {node.text for node in syntax.walk(definition) if isinstance(node, syntax.Name)}
    for name in unknown:
        if name not in names:
            raise fail(
                "E0201", f"`{definition.name}` has no constant or size `{name}`",
                definition.origin, "this program",
                fix=instead(
                    name, {*constants, *names},
                    f"its constants are: {', '.join(constants)}" if constants
                    else "its module has no constants",
                ),
            )  # fmt: skip


class _Header:
    """Reads what stands before a program's body; parameters first, as all else may name them."""

    def __init__(self, definition: syntax.Definition, expressions: Expressions, warp_width: int):
        self.definition = definition
        self.expressions = expressions
        self.names = expressions.names
        self.warp_width = warp_width
        self.sizes: dict[str, Value] = {}

    def parameters(self) -> tuple[Value, ...]:
        """The parameters, with the sizes in their types bound."""
        definition = self.definition
        for parameter in definition.parameters:
            for extent in _extents(parameter.type):
                self._bind_size(extent)
        for name, value in self.sizes.items():
            self.names.define(name, value, value.origin)
        parameters = []
        for parameter in definition.parameters:
            type_ = evaluate_type(parameter.type, self.expressions.environment, sizes=True)
            if type_.space == "register" and not all(isinstance(e, int) for e in type_.shape):
                raise fail(
                    "E0303", f"the shape of `{parameter.name}` is not known", parameter.origin,
                    f"this is {type_}",
                    fix="give the sizes of a reference: instantiate(M=64, N=64)",
                )  # fmt: skip
            value = Value(parameter.name, type_, parameter.origin)
            self.names.define(parameter.name, value, parameter.origin)
            parameters.append(value)
        return tuple(parameters)

    def _bind_size(self, extent: syntax.Expression | None) -> None:
        """A name that stands alone in a shape and has no value is a size."""
        if not isinstance(extent, syntax.Name) or extent.text in self.sizes:
            return
        if extent.text in self.expressions.environment.names():
            return
        self.sizes[extent.text] = Value(extent.text, ScalarType(INDEX), extent.origin)

    def threads(self) -> int:
        """The threads of a block."""
        expression = self.definition.threads
        if expression is None:
            return self.warp_width
        threads = self.expressions.static(expression, "integer", "threads")
        if not 0 < threads <= MAXIMUM_THREADS or threads % self.warp_width:
            raise fail(
                "E0401", f"a block of {threads} threads", expression.origin, "here",
                fix=f"a multiple of the warp width {self.warp_width}, at most {MAXIMUM_THREADS}",
            )  # fmt: skip
        return threads

    def grid(self) -> tuple[Any, ...]:
        """The extents of the grid: numbers, or expressions over sizes."""
        nodes = self.definition.grid
        grid = tuple(close_over(extent, self.expressions.environment) for extent in nodes)
        if len(grid) > 3:
            raise fail(
                "E0401", f"a grid of {len(grid)} dimensions", nodes[3].origin, "here",
                fix="a grid has at most 3 dimensions: combine some",
            )  # fmt: skip
        for extent, node in zip(grid, nodes, strict=True):
            if not isinstance(extent, syntax.Expression) and not is_kind(extent, "integer"):
                raise fail(
                    "E0205", "an extent of the grid is a whole number", node.origin,
                    f"this is {extent}", fix="write a number, or an expression over sizes",
                )  # fmt: skip
            if isinstance(extent, int) and not 1 <= extent < 2**31:
                raise fail(
                    "E0401", f"a grid of {extent} blocks", node.origin, "here",
                    fix="a grid has from 1 to 2^31 - 1 blocks in each dimension",
                )  # fmt: skip
            self._require_scalars(extent)
        return grid

    def facts(self) -> tuple[Any, ...]:
        """The facts of `where` that do not hold for the constants alone."""
        facts = []
        for fact in self.definition.where:
            if syntax.is_hint(fact):
                check = self._alignment if fact.function == "aligned" else self._residence
                facts.append(check(fact))
                continue
            closed = close_over(fact, self.expressions.environment)
            if closed is False:
                raise fail(
                    "E0306", "this fact does not hold for these constants", fact.origin, "is false",
                    fix="give the constants other values",
                )  # fmt: skip
            if closed is not True:
                self._require_scalars(closed)
                self._require_truth(closed, fact.origin)
                facts.append(closed)
        return tuple(facts)

    def _require_truth(self, closed: Any, origin: Origin) -> None:
        """Raises E0205 where a fact, or what `and`, `or` and `not` join in it, is a number."""
        if isinstance(closed, syntax.Operation) and closed.operator in CONNECTIVES:
            for operand in closed.operands:
                self._require_truth(operand, operand.origin)
            return
        known = self.names.find(closed.text) if isinstance(closed, syntax.Name) else None
        is_truth = (
            (isinstance(closed, syntax.Operation) and closed.operator in COMPARISONS)
            or (isinstance(closed, syntax.Literal) and isinstance(closed.value, bool))
            or (known is not None and known.type.dtype.kind == "bool")
        )
        if not is_truth:
            raise fail(
                "E0205", "a fact is true or false", origin, "this is a number",
                fix="compare it, such as N % 32 == 0",
            )  # fmt: skip

    def _alignment(self, fact: syntax.Call) -> syntax.Expression:
        named = fact.arguments[0] if fact.arguments else None
        value = self.names.find(named.text) if isinstance(named, syntax.Name) else None
        if len(fact.arguments) != 2 or value is None or value.type.space != "global":
            raise fail(
                "E0209", "aligned takes a global parameter and a number of bytes", fact.origin,
                "here", fix="write aligned(A, 16)",
            )  # fmt: skip
        number = self.expressions.static(fact.arguments[1], "integer", "alignment")
        if number < 1 or number & (number - 1):
            raise fail(
                "E0209", f"an alignment of {number} bytes", fact.arguments[1].origin, "here",
                fix="give a power of two: aligned(A, 16)",
            )  # fmt: skip
        return syntax.Call("aligned", (named, syntax.Literal(number, fact.origin)), (), fact.origin)

    def _residence(self, fact: syntax.Call) -> syntax.Expression:
        count = 0
        if len(fact.arguments) == 1 and not fact.keywords:
            count = self.expressions.static(fact.arguments[0], "integer", "number of blocks")
        if not 1 <= count <= 32:
            raise fail(
                "E0209", "resident takes the number of blocks that a multiprocessor holds at once",
                fact.origin, "here", fix="write resident(2): from 1 to 32",
            )  # fmt: skip
        return syntax.Call("resident", (syntax.Literal(count, fact.origin),), (), fact.origin)

    def _require_scalars(self, node: Any) -> None:
        """Grid and facts are computed from scalars; only `aligned` speaks of a tensor."""
        if not isinstance(node, syntax.Expression):
            return
        if isinstance(node, syntax.Call) and node.function == "aligned":
            return
        for name in syntax.walk(node):
            value = self.names.find(name.text) if isinstance(name, syntax.Name) else None
            if value is not None and value.type.space != "scalar":
                raise fail(
                    "E0203", "a grid or fact is computed from scalars", name.origin,
                    f"this is {value.type}", others=((value.origin, "defined here"),),
                    fix="use sizes and scalar parameters",
                )  # fmt: skip


def _extents(type_: syntax.Expression) -> Iterable[syntax.Expression | None]:
    """What is written as extents and strides of a parameter's type."""
    for node in syntax.walk(type_):
        if isinstance(node, syntax.Subscript):
            yield from (index.offset for index in node.indices)
        if isinstance(node, syntax.Keyword) and isinstance(node.value, syntax.Sequence):
            yield from node.value.items
