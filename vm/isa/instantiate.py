"""Program to kernel: constants are given, every name gets its meaning, every value its type.

Nested expressions become instructions of their own, operators become the instructions they are
sugar for, branches and fully unrolled loops on constants are decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from vm.errors import Origin, VmError, fail
from vm.isa import control, syntax
from vm.isa.bind_arguments import bind_arguments
from vm.isa.dtypes import DType, dtype
from vm.isa.instruction import INSTRUCTIONS, Instruction, Scope, describe, nearest, typed_immediate
from vm.isa.kernel import Kernel
from vm.isa.scopes import Names
from vm.isa.static import Environment, NotStatic, close_over, evaluate, fold, operate
from vm.isa.type_expressions import evaluate_type
from vm.isa.types import (
    CONSTANT_DTYPES,
    INDEX,
    Immediate,
    RegisterType,
    ScalarType,
    Tile,
    Type,
    Value,
    whole_tile,
)

MAXIMUM_UNROLL = 4096
MAXIMUM_THREADS = 1024

BOOL = dtype("bool")


@dataclass(frozen=True)
class _Static:
    """A name that stands for something known: the loop variable of an unrolled loop."""

    value: Any


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
    return _Instantiation(definition, constants, given, warp_width).kernel()


class _Instantiation:
    def __init__(
        self,
        definition: syntax.Definition,
        constants: Mapping[str, syntax.Constant],
        given: Mapping[str, Any],
        warp_width: int,
    ):
        self.definition = definition
        self.names = Names()
        self.environment = Environment(
            dict(given), constants, {}, self._is_runtime, self.names.known
        )
        self.statements: list[Instruction] = []
        self.scope: Scope | None = None  # none while the header is read
        self.warp_width = warp_width
        self.loops = 0
        self.unrolled = 1
        self.sizes: dict[str, Value] = {}

    # --- the header ---
    def kernel(self) -> Kernel:
        definition = self.definition
        parameters = self._parameters()
        threads = self._threads()
        reference = definition.kind == "reference"
        self.scope = Scope(threads, self.warp_width, len(definition.grid), None, reference)
        self.environment = self.environment.with_context(
            threads=threads, warps=max(1, threads // self.warp_width), warp_width=self.warp_width
        )
        # Register parameters of a reference may have had layouts; types are complete only now.
        grid = tuple(close_over(extent, self.environment) for extent in definition.grid)
        if len(grid) > 3:
            raise fail(
                "E0401", f"a grid of {len(grid)} dimensions", definition.grid[3].origin, "here",
                fix="a grid has at most 3 dimensions: combine some",
            )  # fmt: skip
        for extent, node in zip(grid, definition.grid, strict=True):
            if not isinstance(extent, syntax.Expression) and not _is_kind(extent, "integer"):
                raise fail(
                    "E0205", "an extent of the grid is a whole number", node.origin,
                    f"this is {extent}", fix="write a number, or an expression over sizes",
                )  # fmt: skip
            if isinstance(extent, int) and not 1 <= extent < 2**31:
                raise fail(
                    "E0401", f"a grid of {extent} blocks", node.origin, "here",
                    fix="a grid has from 1 to 2^31 - 1 blocks in each dimension",
                )  # fmt: skip
        where = self._facts()
        for node in (*grid, *where):
            self._require_scalars(node)
        body = self._block(definition.body)
        return Kernel(
            definition.name, definition.kind, parameters,
            tuple(v for v in self.sizes.values() if isinstance(v, Value)), grid, threads,
            self.warp_width, where, body, dict(self.environment.values), definition.origin,
        )  # fmt: skip

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

    def _is_runtime(self, name: str) -> bool:
        return name in self.sizes or self.names.find(name) is not None

    def _parameters(self) -> tuple[Value, ...]:
        definition = self.definition
        for parameter in definition.parameters:
            for extent in _extents(parameter.type):
                self._bind_size(extent)
        for name, value in self.sizes.items():
            self.names.define(name, value, value.origin)
        parameters = []
        for parameter in definition.parameters:
            type_ = evaluate_type(parameter.type, self.environment, sizes=True)
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
        if extent.text in self.environment.names():
            return
        self.sizes[extent.text] = Value(extent.text, ScalarType(INDEX), extent.origin)

    def _threads(self) -> int:
        expression = self.definition.threads
        if expression is None:
            return self.warp_width
        threads = self._static(expression, "integer", "threads")
        if not 0 < threads <= MAXIMUM_THREADS or threads % self.warp_width:
            raise fail(
                "E0401", f"a block of {threads} threads", expression.origin, "here",
                fix=f"a multiple of the warp width {self.warp_width}, at most {MAXIMUM_THREADS}",
            )  # fmt: skip
        return threads

    def _facts(self) -> tuple[Any, ...]:
        facts = []
        for fact in self.definition.where:
            if syntax.is_hint(fact):
                check = self._alignment if fact.function == "aligned" else self._residence
                facts.append(check(fact))
                continue
            closed = close_over(fact, self.environment)
            if closed is False:
                raise fail(
                    "E0306", "this fact does not hold for these constants", fact.origin, "is false",
                    fix="give the constants other values",
                )  # fmt: skip
            if closed is not True:
                facts.append(closed)
        return tuple(facts)

    def _alignment(self, fact: syntax.Call) -> syntax.Expression:
        named = fact.arguments[0] if fact.arguments else None
        value = self.names.find(named.text) if isinstance(named, syntax.Name) else None
        if len(fact.arguments) != 2 or value is None or value.type.space != "global":
            raise fail(
                "E0209", "aligned takes a global parameter and a number of bytes", fact.origin,
                "here", fix="write aligned(A, 16)",
            )  # fmt: skip
        number = self._static(fact.arguments[1], "integer", "alignment")
        return syntax.Call(
            "aligned", (named, syntax.Literal(number, fact.origin)), (), fact.origin
        )

    def _residence(self, fact: syntax.Call) -> syntax.Expression:
        count = 0
        if len(fact.arguments) == 1 and not fact.keywords:
            count = self._static(fact.arguments[0], "integer", "number of blocks")
        if not 1 <= count <= 32:
            raise fail(
                "E0209", "resident takes the number of blocks that a multiprocessor holds at once",
                fact.origin, "here", fix="write resident(2): from 1 to 32",
            )  # fmt: skip
        return syntax.Call("resident", (syntax.Literal(count, fact.origin),), (), fact.origin)

    # --- statements ---
    def _block(self, block: syntax.Block) -> list[Instruction]:
        outer, self.statements = self.statements, []
        with self.names.block():
            self._statements(block)
        self.statements, made = outer, self.statements
        return made

    def _statements(self, block: syntax.Block) -> None:
        for statement in block.statements:
            self._statement(statement)

    def _statement(self, statement: syntax.Statement) -> None:
        match statement:
            case syntax.Bind():
                self._bind(statement)
            case syntax.Declare():
                self._declare(statement)
            case syntax.Assign():
                self._assign(statement)
            case syntax.Execute(call):
                instruction = self._instruction(call, None)
                if isinstance(instruction, Immediate) or (
                    instruction.results and instruction.pure
                ):
                    raise fail(
                        "E0106", "this result is thrown away", call.origin, "has no effect",
                        fix="bind it: `name = ...`, or remove the line",
                    )  # fmt: skip
            case syntax.If():
                self._if(statement)
            case syntax.For():
                self._for(statement)
            case syntax.While():
                self._while(statement)
            case syntax.Group():
                self._group(statement)
            case syntax.Jump(kind):
                if not self.loops:
                    raise fail(
                        "E0208", f"`{kind}` outside a loop", statement.origin, "no loop here",
                        fix="remove it, or use exit() to end the block",
                    )  # fmt: skip
                self._emit(control.make(control.Jump, statement.origin, self.scope, {}, kind=kind))
                self.names.leave()
            case syntax.Return(value):
                operand = self._value(value)
                self._emit(
                    control.make(control.Return, statement.origin, self.scope, {}, value=operand)
                )

    def _bind(self, statement: syntax.Bind) -> None:
        names = statement.names
        operand = self._expression(statement.value, None, len(names))
        if len(names) > 1:
            results = operand if isinstance(operand, tuple) else (operand,)
            if len(results) != len(names):
                raise fail(
                    "E0209", f"{len(results)} results for {len(names)} names", statement.origin,
                    "here", fix=f"bind {len(results)} names",
                )  # fmt: skip
            for name, value in zip(names, results, strict=True):
                value.name = name
                self.names.define(name, value, statement.origin)
            return
        if isinstance(operand, tuple):
            raise fail(
                "E0209", f"{len(operand)} results for one name", statement.origin, "here",
                fix=f"bind {len(operand)} names: `a, b = ...`",
            )  # fmt: skip
        if isinstance(operand, Value) and operand.mutable:
            operand = self._make(control.Copy, {"x": operand}, statement.origin, {}, None)
        elif isinstance(operand, Immediate) and operand.dtype is None:
            self.names.define(names[0], _Static(operand.value), statement.origin)
            return
        elif isinstance(operand, Tile):
            raise fail(
                "E0203", "a tile of memory is not a value", statement.value.origin,
                "not yet loaded", fix="load it: `x = load(...)`",
            )  # fmt: skip
        if isinstance(operand, Value) and operand.name is None:
            operand.name = names[0]
        self.names.define(names[0], operand, statement.origin)

    def _declare(self, statement: syntax.Declare) -> None:
        if statement.type is None and statement.value is None:
            raise fail(
                "E0209", f"`var {statement.name}` has neither a type nor a value",
                statement.origin, "here", fix=f"write `var {statement.name}: register(f32)[M, N]`",
            )  # fmt: skip
        declared = None
        if statement.type is not None:
            declared = evaluate_type(statement.type, self.environment, sizes=False)
            if declared.space not in ("register", "scalar"):
                raise fail(
                    "E0203", f"a variable cannot live in {declared.space} memory",
                    statement.type.origin, "here", fix="use shared_alloc, or a parameter",
                )  # fmt: skip
        if declared is None:
            # Its type is that of its first value, which must then come first.
            first = self._value(statement.value)
            declared = self._typed(first, statement.value).type
            variable = self._new_variable(statement, declared)
            self._store(variable, first, statement.value.origin)
        else:
            variable = self._new_variable(statement, declared)
            if statement.value is not None:
                self._assign_value(variable, statement.value)
        self.names.define(statement.name, variable, statement.origin)
        if statement.value is not None:
            self.names.mark_assigned(variable)

    def _new_variable(self, statement: syntax.Declare, type_: Type) -> Value:
        variable = Value(statement.name, type_, statement.origin, mutable=True)
        declaration = control.make(control.Declare, statement.origin, self.scope, {})
        declaration.variable = variable
        # The declaration stands where the statement does, before its value is computed.
        self._emit(declaration)
        return variable

    def _assign(self, statement: syntax.Assign) -> None:
        variable = self.names.find(statement.name)
        if variable is None:
            raise self.environment.unknown(statement.name, statement.origin, self.names.known())
        if not isinstance(variable, Value) or not variable.mutable:
            raise fail(
                "E0207", f"`{statement.name}` is bound once and cannot be assigned",
                statement.origin, "assigned here",
                others=((self.names.place(statement.name), "bound here"),),
                fix=f"declare it as storage: `var {statement.name} = ...`",
            )  # fmt: skip
        self._assign_value(variable, statement.value)
        self.names.mark_assigned(variable)

    def _assign_value(self, variable: Value, value: syntax.Expression) -> None:
        operand = self._value(value, variable.type)
        self._store(variable, operand, value.origin)

    def _store(self, variable: Value, operand: Any, origin: Origin) -> None:
        """Makes `variable` the result of the instruction that made `operand`."""
        if isinstance(operand, Immediate):
            if variable.type.space != "scalar":
                raise self._mismatch(variable, describe(operand), origin)
            operand = typed_immediate(operand, variable.type.dtype, origin)
        self._require_same(variable, operand, origin)
        last = self.statements[-1] if self.statements else None
        fresh = isinstance(operand, Value) and not operand.mutable and operand.name is None
        if fresh and last is not None and last.results == (operand,):
            last.results = (variable,)
            if isinstance(variable.type, RegisterType) and variable.type.layout is None:
                pass
        else:
            self._make(control.Copy, {"x": operand}, origin, {}, None)
            self.statements[-1].results = (variable,)

    def _require_same(self, variable: Value, operand: Any, origin: Origin) -> None:
        ours, theirs = variable.type, operand.type
        same = (
            ours.space == theirs.space and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        )
        if not same:
            raise self._mismatch(variable, str(theirs), origin)

    def _mismatch(self, variable: Value, shown: str, origin: Origin) -> VmError:
        return fail(
            "E0205", f"`{variable.name}` holds {variable.type}, not {shown}", origin,
            f"this is {shown}", others=((variable.origin, f"declared as {variable.type}"),),
            fix="cast or reshape the value, or declare another type",
        )  # fmt: skip

    # --- control ---
    def _if(self, statement: syntax.If) -> None:
        condition = self._value(statement.condition)
        if isinstance(condition, Immediate):
            self._require_truth(condition, statement.condition)
            chosen = statement.then if condition.value else statement.otherwise
            if chosen is not None:
                with self.names.block():
                    self._statements(chosen)
            return
        made = control.make(
            control.If, statement.origin, self.scope, {"condition": statement.condition.origin},
            condition=condition,
        )  # fmt: skip
        with self.names.branches() as branches:
            with branches.branch():
                made.then = self._block(statement.then)
            with branches.branch():
                empty = syntax.Block((), (), statement.origin)
                made.otherwise = self._block(statement.otherwise or empty)
        self._emit(made)

    def _require_truth(self, condition: Immediate, node: syntax.Expression) -> None:
        if not isinstance(condition.value, bool):
            raise fail(
                "E0205", "a condition is true or false", node.origin, f"this is {condition.value}",
                fix="compare it: `x != 0`",
            )  # fmt: skip

    def _for(self, statement: syntax.For) -> None:
        bounds = [self._value(bound) for bound in statement.bounds]
        for bound, node in zip(bounds, statement.bounds, strict=True):
            if not isinstance(bound, Immediate) and not isinstance(bound.type, ScalarType):
                raise fail(
                    "E0206", "a bound of a loop is one value for the whole group", node.origin,
                    f"this is {bound.type}", fix="reduce it to a scalar",
                )  # fmt: skip
            if isinstance(bound, Immediate) and not _is_kind(bound.value, "integer"):
                raise fail(
                    "E0205", "the bounds of a loop are whole numbers", node.origin,
                    f"this is {bound.value}", fix="write a number such as 4",
                )  # fmt: skip
        places = [bound.origin for bound in statement.bounds]
        start, stop, step = Immediate(0), bounds[0], Immediate(1)
        if len(bounds) > 1:
            start, stop = bounds[:2]
        if len(bounds) == 3:
            step = bounds[2]
        known = all(isinstance(bound, Immediate) for bound in (start, stop, step))
        unroll = self._unroll(statement.unroll)
        if isinstance(step, Immediate) and step.value == 0:
            raise fail("E0204", "a loop with step 0", places[-1], "never ends", fix="use 1")
        if known:
            turns = range(start.value, stop.value, step.value)
            if not turns:
                return
            if unroll == control.FULL:
                self._unrolled(statement, turns)
                return
        kind = next((b.type.dtype for b in (start, stop, step) if b.type is not None), INDEX)
        start, stop, step = (
            typed_immediate(b, kind, statement.origin) if isinstance(b, Immediate) else b
            for b in (start, stop, step)
        )
        made = control.make(
            control.For, statement.origin, self.scope,
            {"start": places[0], "stop": places[min(1, len(places) - 1)], "step": places[-1]},
            start=start, stop=stop, step=step, unroll=unroll,
        )  # fmt: skip
        made.variable = Value(statement.name, ScalarType(kind), statement.origin)
        with self._loop(), self.names.block():
            self.names.define(statement.name, made.variable, statement.origin)
            made.body = self._block(statement.body)
        self._emit(made)

    @contextmanager
    def _loop(self):
        self.loops += 1
        with self.names.branches() as branches:
            with branches.branch():
                yield
            with branches.branch():
                pass  # the loop may make no turn
        self.loops -= 1

    def _unroll(self, hint: syntax.Expression | None) -> int | str | None:
        if hint is None:
            return None
        if isinstance(hint, syntax.Name) and hint.text == control.FULL:
            return control.FULL
        copies = self._static(hint, "integer", "unroll")
        if not 1 <= copies <= MAXIMUM_UNROLL:
            raise fail(
                "E0402", f"a loop cannot be unrolled {copies} times", hint.origin, "here",
                fix=f"write a number from 1 to {MAXIMUM_UNROLL}, or `unroll full`",
            )  # fmt: skip
        return copies

    def _unrolled(self, statement: syntax.For, turns: range) -> None:
        outer = self.unrolled
        self.unrolled *= len(turns)
        if self.unrolled > MAXIMUM_UNROLL:
            raise fail(
                "E0402", f"this loop would be written out {self.unrolled} times",
                statement.origin, f"the limit is {MAXIMUM_UNROLL}",
                fix="write `unroll 8`, or no hint",
            )  # fmt: skip
        for jump in syntax.walk(statement.body):
            if isinstance(jump, syntax.Jump):
                raise fail(
                    "E0208", f"`{jump.kind}` in a loop that is written out", jump.origin, "here",
                    others=((statement.origin, "unroll full"),), fix="write `unroll 8` instead",
                )  # fmt: skip
        for turn in turns:
            with self.names.block():
                self.names.define(statement.name, _Static(turn), statement.origin)
                self._statements(statement.body)
        self.unrolled = outer

    def _while(self, statement: syntax.While) -> None:
        made = control.make(control.While, statement.origin, self.scope, {})
        outer, self.statements = self.statements, []
        with self._loop(), self.names.block():
            condition = self._value(statement.condition)
            if not isinstance(condition, Immediate):
                leave = control.make(
                    control.If, statement.condition.origin, self.scope,
                    {"condition": statement.condition.origin}, condition=condition,
                )  # fmt: skip
                leave.then = []
                leave.otherwise = [
                    control.make(
                        control.Jump, statement.origin, self.scope, {}, kind="break"
                    )
                ]
                self._emit(leave)
            else:
                self._require_truth(condition, statement.condition)
            endless = not isinstance(condition, Immediate) or condition.value
            if endless:
                self._statements(statement.body)
        self.statements, made.body = outer, self.statements
        if endless:
            self._emit(made)

    def _group(self, statement: syntax.Group) -> None:
        if self.scope.group is not None:
            raise fail(
                "E0403", "a group inside a group", statement.origin, "here",
                fix="write the groups one after the other",
            )  # fmt: skip
        named = {k.name: k for k in statement.keywords}
        if "warps" not in named or not set(named) <= {"warps", "copies"}:
            raise fail(
                "E0209", "a group says how many warps it has", statement.origin, "here",
                fix=f"write `group {statement.name}(warps=1) {{ ... }}`, with copies=8 for eight",
            )  # fmt: skip
        warps = self._static(named["warps"].value, "integer", "warps")
        copies = 1
        if "copies" in named:
            copies = self._static(named["copies"].value, "integer", "copies")
        first = 0
        for earlier in reversed(self.statements):
            if not isinstance(earlier, control.Group):
                break
            first += earlier.warps * earlier.copies
        total = self.scope.threads // self.warp_width
        if warps < 1 or copies < 1 or first + warps * copies > total:
            raise fail(
                "E0403", f"warps {first} to {first + warps * copies - 1} of a block of {total}",
                named["warps"].origin, "here", fix=f"at most {total - first} warps are left",
            )  # fmt: skip
        made = control.make(
            control.Group, statement.origin, self.scope, {}, warps=warps, copies=copies
        )
        made.name, made.first_warp = statement.name, first
        outer_scope, outer_environment = self.scope, self.environment
        threads = warps * self.warp_width
        self.scope = Scope(
            threads, self.warp_width, outer_scope.grid_rank, statement.name,
            outer_scope.reference, copies,
        )  # fmt: skip
        self.environment = outer_environment.with_context(
            threads=threads, warps=warps, warp_width=self.warp_width
        )
        made.body = self._block(statement.body)
        self.scope, self.environment = outer_scope, outer_environment
        self._emit(made)

    # --- expressions ---
    def _static(self, node: syntax.Expression, kind: str, what: str) -> Any:
        """The value of an expression that must be known now, checked to be of `kind`."""
        operand = self._expression(node, None) if kind in ("integer", "number") else None
        if isinstance(operand, Immediate):
            value = operand.value
        elif operand is not None:
            raise self._not_static(node, what)
        else:
            try:
                value = evaluate(node, self._environment())
            except NotStatic:
                raise self._not_static(node, what) from None
        if not _is_kind(value, kind):
            raise fail(
                "E0205", f"the {what} must be {_KINDS[kind][1]}", node.origin, "this is not",
                fix=f"write {_KINDS[kind][2]}",
            )  # fmt: skip
        if kind == "dtype" or kind != "shape":
            return value
        if any(extent < 0 for extent in value) or prod(value) > 2**31:
            raise fail(
                "E0303", f"the shape {list(value)} is negative or has over 2^31 elements",
                node.origin, "here", fix="use smaller extents",
            )  # fmt: skip
        return tuple(value)

    def _not_static(self, node: syntax.Expression, what: str) -> VmError:
        return fail(
            "E0303", f"the {what} must be known at instantiation", node.origin,
            "depends on a value of the run", fix="use constants here",
        )  # fmt: skip

    def _environment(self) -> Environment:
        """The environment with the static names of the blocks around."""
        statics = {n: v.value for n, v in self.names.visible() if isinstance(v, _Static)}
        if not statics:
            return self.environment
        return Environment(
            {**self.environment.values, **statics}, self.environment.lazy,
            self.environment.context, self._is_runtime, self.names.known,
        )  # fmt: skip

    def _value(self, node: syntax.Expression, expected: Type | None = None) -> Any:
        """One operand that is no tile."""
        operand = self._expression(node, expected)
        if isinstance(operand, (Tile, tuple)) or (
            isinstance(operand, Value) and operand.type.space in ("global", "shared")
        ):
            shown = "several values" if isinstance(operand, tuple) else describe(operand)
            raise fail(
                "E0203", "a value is needed here, not memory", node.origin, f"this is {shown}",
                fix="load it: load(...)",
            )  # fmt: skip
        return operand

    def _typed(self, operand: Any, node: syntax.Expression) -> Any:
        if isinstance(operand, Immediate) and operand.dtype is None:
            return typed_immediate(operand, CONSTANT_DTYPES[type(operand.value)], node.origin)
        return operand

    def _expression(self, node: syntax.Expression, expected: Type | None, results: int = 1) -> Any:
        """A `Value`, an `Immediate`, a `Tile`, or a tuple of values of several results."""
        match node:
            case syntax.Literal(value):
                if isinstance(value, str):
                    raise fail(
                        "E0203", "a string is not a value", node.origin, "here",
                        fix="strings are for attributes, such as op=\"max\"",
                    )  # fmt: skip
                return Immediate(value, None, node.origin)
            case syntax.Name(text):
                return self._name(node, text)
            case syntax.Operation():
                return self._operation(node, expected)
            case syntax.Call(function):
                found = self.names.find(function)
                if function in INSTRUCTIONS and found is None:
                    return self._results(self._instruction(node, expected))
                return self._constant(node)
            case syntax.Member() if (call := dotted_call(node)) is not None:
                return self._results(self._instruction(call, expected))
            case syntax.Subscript():
                return self._tile(node)
            case syntax.Sequence():
                raise fail(
                    "E0203", "a list is not a value", node.origin, "here",
                    fix="use fill, or load the numbers from memory",
                )  # fmt: skip
        return self._constant(node)

    def _constant(self, node: syntax.Expression) -> Immediate:
        try:
            value = evaluate(node, self._environment())
        except NotStatic as error:
            raise fail(
                "E0303", f"`{error.name}` is known only when the program runs", error.origin,
                "here", fix="use constants inside layouts and dtypes",
            ) from None  # fmt: skip
        if not isinstance(value, (bool, int, float)):
            raise fail(
                "E0203", "a number is needed here", node.origin, f"this is {value}",
                fix="dtypes and layouts are given as attributes, such as layout=...",
            )  # fmt: skip
        return Immediate(value, None, node.origin)

    def _name(self, node: syntax.Name, text: str) -> Any:
        found = self.names.find(text)
        if found is None:
            return self._constant(node)
        if isinstance(found, _Static):
            return Immediate(found.value, None, node.origin)
        if isinstance(found, Value) and not self.names.is_assigned(found):
            raise fail(
                "E0210", f"`{text}` may have no value yet", node.origin, "used here",
                others=((found.origin, "declared here without a value"),),
                fix="assign it on every way that leads here, or give it a first value",
            )  # fmt: skip
        return found

    def _operation(self, node: syntax.Operation, expected: Type | None) -> Any:
        operands = [self._value(operand) for operand in node.operands]
        if all(isinstance(o, Immediate) and o.dtype is None for o in operands):
            return Immediate(operate(node, [o.value for o in operands]), None, node.origin)
        key = (node.operator, len(operands))
        if node.operator == "+" and len(operands) == 1:
            return operands[0]
        kind = _operators()[key]
        names = list(kind.fields)
        values = dict(zip(names, operands, strict=True))
        places = {n: o.origin for n, o in zip(names, node.operands, strict=True)}
        return self._make(kind, values, node.origin, places, expected)

    def _tile(self, node: syntax.Subscript) -> Tile:
        base = self._expression(node.base, None)
        if not isinstance(base, Value) or base.type.space not in ("global", "shared"):
            shown = "several values" if isinstance(base, tuple) else describe(base)
            raise fail(
                "E0203", "only global and shared tensors have tiles", node.base.origin,
                f"this is {shown}", fix="load from memory, or use a layout change",
            )  # fmt: skip
        shape = base.type.shape
        if len(node.indices) > len(shape):
            raise fail(
                "E0302", f"{len(node.indices)} indices for {len(shape)} dimensions", node.origin,
                f"`{base.name}` is {base.type}", others=((base.origin, "defined here"),),
                fix=f"give at most {len(shape)}",
            )  # fmt: skip
        indices = node.indices + (syntax.Index(None, None, node.origin),) * (
            len(shape) - len(node.indices)
        )
        offsets, extents = [], []
        for dimension, (index, whole) in enumerate(zip(indices, shape, strict=True)):
            offset, extent = self._index(index, whole, base, dimension)
            offsets.append(offset)
            extents.append(extent)
        return Tile(base, tuple(offsets), tuple(extents), node.origin)

    def _index(self, index: syntax.Index, whole: Any, base: Value, dimension: int) -> tuple:
        if index.offset is None:
            return Immediate(0, INDEX, index.origin), whole
        offset = self._value(index.offset)
        if isinstance(offset, Immediate):
            offset = typed_immediate(offset, INDEX, index.offset.origin)
        if not isinstance(offset.type, ScalarType) or not offset.type.dtype.is_integer:
            raise fail(
                "E0206", "an index is one integer for the whole group", index.offset.origin,
                f"this is {describe(offset)}", fix="use gather or scatter for an index by element",
            )  # fmt: skip
        extent = None
        if index.extent is not None:
            extent = self._static(index.extent, "integer", "extent of a tile")
            if extent < 1:
                raise fail(
                    "E0303", f"a tile of extent {extent}", index.extent.origin, "here",
                    fix="at least 1",
                )  # fmt: skip
        self._check_inside(index, offset, extent, whole, base, dimension)
        return offset, extent

    def _check_inside(self, index, offset, extent, whole, base: Value, dimension: int) -> None:
        """A shared tile at a constant place must lie inside; a global one clips."""
        if base.type.space != "shared" or not isinstance(offset, Immediate):
            return
        if offset.value < 0 or offset.value + (extent or 1) > whole:
            last = offset.value + (extent or 1) - 1
            raise fail(
                "E0305", f"elements {offset.value} to {last} of a dimension of {whole}",
                index.origin, f"outside dimension {dimension} of `{base.name}`",
                others=((base.origin, f"`{base.name}` is {base.type}"),),
                fix=f"stay within 0 and {whole - 1}",
            )  # fmt: skip

    # --- instructions ---
    def _instruction(self, call: syntax.Expression, expected: Type | None) -> Any:
        call = dotted_call(call) or call
        kind = INSTRUCTIONS.get(call.function) if isinstance(call, syntax.Call) else None
        if kind is None or issubclass(kind, control.Control):
            if not isinstance(call, syntax.Call):
                raise fail(
                    "E0201", "this is not an instruction", call.origin, "here",
                    fix="write name(arguments)",
                )  # fmt: skip
            known = [n for n, k in INSTRUCTIONS.items() if not issubclass(k, control.Control)]
            close = nearest(call.function, known)
            raise fail(
                "E0201", f"there is no instruction `{call.function}`", call.origin, "unknown name",
                fix=f"did you mean `{close}`?" if close else "see the list in spec/",
            )  # fmt: skip
        values, places = bind_arguments(kind, call, self)
        folded = getattr(kind, "fold", None)
        operands = [values[n] for n in kind.fields]
        known = all(isinstance(o, Immediate) and o.dtype is None for o in operands)
        if folded is not None and known:
            return Immediate(fold(call, folded, [o.value for o in operands]), None, call.origin)
        return self._made(kind, values, call.origin, places, expected)

    def _made(
        self, kind: type[Instruction], values: dict, origin: Origin, places: dict, expected: Any
    ) -> Instruction:
        if self.scope is None:
            raise fail(
                "E0303", f"`{kind.opcode}` runs with the program and cannot stand in its header",
                origin, "here", fix="use constants and sizes here",
            )  # fmt: skip
        instruction = kind(values, origin, self.scope, expected, places)
        types = instruction.check()
        types = () if types is None else types if isinstance(types, tuple) else (types,)
        instruction.results = tuple(Value(None, type_, origin) for type_ in types)
        self._emit(instruction)
        return instruction

    def _make(self, kind, values, origin, places, expected) -> Any:
        return self._results(self._made(kind, values, origin, places, expected))

    def _results(self, instruction: Any) -> Any:
        if isinstance(instruction, Immediate):
            return instruction
        if not instruction.results:
            raise fail(
                "E0209", f"`{instruction.opcode}` has no result", instruction.origin, "used here",
                fix="write it as a statement of its own",
            )  # fmt: skip
        return instruction.results[0] if len(instruction.results) == 1 else instruction.results

    def _emit(self, instruction: Instruction) -> None:
        self.statements.append(instruction)

    # --- what bind_arguments needs ---
    def operand(self, node: syntax.Expression) -> Any:
        """An operand in any space; a memory tensor by its name alone is its whole tile."""
        operand = self._expression(node, None)
        if isinstance(operand, Value) and operand.type.space in ("global", "shared"):
            return whole_tile(operand, node.origin)
        return operand

    def static(self, node: syntax.Expression, kind: str, what: str) -> Any:
        return self._static(node, kind, what)


_KINDS: dict[str, tuple[Any, str, str]] = {
    "integer": (int, "a whole number", "a number such as 4"),
    "number": ((int, float), "a number", "a number such as 0.5"),
    "boolean": (bool, "true or false", "true or false"),
    "string": (str, "a string", 'a string such as "text"'),
    "dtype": (DType, "a dtype", "a dtype such as f16"),
    "shape": (tuple, "a list of whole numbers", "a list such as [64, 32]"),
    "table": (tuple, "a list of numbers", "a list such as [0.5, 1.0]"),
    "layout": (object, "a layout", "a layout such as spatial(8, 4)"),
}


def _is_kind(value: Any, kind: str) -> bool:
    wanted = _KINDS[kind][0]
    if kind == "layout":
        return not isinstance(value, (int, float, str, tuple, DType))
    if kind in ("shape", "table"):
        item = int if kind == "shape" else (int, float)
        return isinstance(value, tuple) and all(
            isinstance(i, item) and not isinstance(i, bool) for i in value
        )
    return isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool))


def dotted_call(node: syntax.Expression) -> syntax.Call | None:
    """The call of a machine instruction, whose name has a dot: `nv.ldmatrix(...)`."""
    if not isinstance(node, syntax.Member) or not isinstance(node.base, syntax.Name):
        return None
    name = f"{node.base.text}.{node.name}"
    if name not in INSTRUCTIONS or node.arguments is None:
        return None
    return syntax.Call(name, node.arguments, node.keywords, node.origin)


def _operators() -> dict[tuple[str, int], type[Instruction]]:
    """Infix and prefix operators: (symbol, number of operands) to the instruction."""
    return {
        (kind.operator, len(kind.fields)): kind
        for kind in INSTRUCTIONS.values()
        if kind.operator is not None
    }


def _extents(type_: syntax.Expression) -> Iterable[syntax.Expression | None]:
    """What is written as extents and strides of a parameter's type."""
    for node in syntax.walk(type_):
        if isinstance(node, syntax.Subscript):
            yield from (index.offset for index in node.indices)
        if isinstance(node, syntax.Keyword) and isinstance(node.value, syntax.Sequence):
            yield from node.value.items
