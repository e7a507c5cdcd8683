"""Statements of a program's text to instructions: branches and unrolled loops are decided here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vm.errors import Origin, fail
from vm.isa import control, syntax
from vm.isa.instantiate_expressions import Expressions, Known
from vm.isa.instantiate_variables import Variables
from vm.isa.instruction import Instruction, Scope, typed_immediate
from vm.isa.static_kinds import is_kind
from vm.isa.types import INDEX, Immediate, ScalarType, Tile, Value

MAXIMUM_UNROLL = 4096


class Statements:
    """Writes down the instructions of statements, at the place that `expressions` has reached."""

    def __init__(self, expressions: Expressions):
        self.expressions = expressions
        self.names = expressions.names
        self.variables = Variables(expressions)
        self.loops = 0
        self.unrolled = 1

    def block(self, block: syntax.Block) -> list[Instruction]:
        """The instructions of a block; what it binds is unknown behind it."""
        outer, self.expressions.statements = self.expressions.statements, []
        with self.names.block():
            self._statements(block)
        self.expressions.statements, made = outer, self.expressions.statements
        return made

    def _statements(self, block: syntax.Block) -> None:
        for statement in block.statements:
            self._statement(statement)

    def _statement(self, statement: syntax.Statement) -> None:
        match statement:
            case syntax.Bind():
                self._bind(statement)
            case syntax.Declare():
                self.variables.declare(statement)
            case syntax.Assign():
                self.variables.assign(statement)
            case syntax.Execute(call):
                instruction = self.expressions.instruction(call)
                if isinstance(instruction, Immediate) or (instruction.results and instruction.pure):
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
                self.expressions.emit(self._made(control.Jump, statement.origin, {}, kind=kind))
                self.names.leave()
            case syntax.Return(value):
                operand = self.expressions.value(value)
                self.expressions.emit(
                    self._made(control.Return, statement.origin, {}, value=operand)
                )

    def _bind(self, statement: syntax.Bind) -> None:
        names = statement.names
        operand = self.expressions.expression(statement.value)
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
            operand = self.expressions.make(control.Copy, {"x": operand}, statement.origin, {})
        elif isinstance(operand, Immediate) and operand.dtype is None:
            self.names.define(names[0], Known(operand.value), statement.origin)
            return
        elif isinstance(operand, Tile):
            raise fail(
                "E0203", "a tile of memory is not a value", statement.value.origin,
                "not yet loaded", fix="load it: `x = load(...)`",
            )  # fmt: skip
        if isinstance(operand, Value) and operand.name is None:
            operand.name = names[0]
        self.names.define(names[0], operand, statement.origin)

    # --- control ---
    def _made(
        self,
        kind: type[control.Control],
        origin: Origin,
        places: dict[str, Origin],
        /,
        **values: Any,
    ) -> control.Control:
        """A control instruction, which is written down when its blocks are."""
        return control.make(kind, origin, self.expressions.scope, places, **values)

    def _if(self, statement: syntax.If) -> None:
        condition = self.expressions.value(statement.condition)
        if isinstance(condition, Immediate):
            self._require_truth(condition, statement.condition)
            chosen = statement.then if condition.value else statement.otherwise
            if chosen is not None:
                with self.names.block():
                    self._statements(chosen)
            return
        made = self._made(
            control.If, statement.origin, {"condition": statement.condition.origin},
            condition=condition,
        )  # fmt: skip
        with self.names.branches() as branches:
            with branches.branch():
                made.then = self.block(statement.then)
            with branches.branch():
                empty = syntax.Block((), (), statement.origin)
                made.otherwise = self.block(statement.otherwise or empty)
        self.expressions.emit(made)

    def _require_truth(self, condition: Immediate, node: syntax.Expression) -> None:
        if not isinstance(condition.value, bool):
            raise fail(
                "E0205", "a condition is true or false", node.origin, f"this is {condition.value}",
                fix="compare it: `x != 0`",
            )  # fmt: skip

    def _for(self, statement: syntax.For) -> None:
        bounds = [self.expressions.value(bound) for bound in statement.bounds]
        for bound, node in zip(bounds, statement.bounds, strict=True):
            if not isinstance(bound, Immediate) and not isinstance(bound.type, ScalarType):
                raise fail(
                    "E0206", "a bound of a loop is one value for the whole group", node.origin,
                    f"this is {bound.type}", fix="reduce it to a scalar",
                )  # fmt: skip
            if isinstance(bound, Immediate) and not is_kind(bound.value, "integer"):
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
        made = self._made(
            control.For, statement.origin,
            {"start": places[0], "stop": places[min(1, len(places) - 1)], "step": places[-1]},
            start=start, stop=stop, step=step, unroll=unroll,
        )  # fmt: skip
        made.variable = Value(statement.name, ScalarType(kind), statement.origin)
        with self._loop(), self.names.block():
            self.names.define(statement.name, made.variable, statement.origin)
            made.body = self.block(statement.body)
        self.expressions.emit(made)

    @contextmanager
    def _loop(self) -> Iterator[None]:
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
        copies = self.expressions.static(hint, "integer", "unroll")
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
                self.names.define(statement.name, Known(turn), statement.origin)
                self._statements(statement.body)
        self.unrolled = outer

    def _while(self, statement: syntax.While) -> None:
        made = self._made(control.While, statement.origin, {})
        outer, self.expressions.statements = self.expressions.statements, []
        with self._loop(), self.names.block():
            condition = self.expressions.value(statement.condition)
            if not isinstance(condition, Immediate):
                leave = self._made(
                    control.If, statement.condition.origin,
                    {"condition": statement.condition.origin}, condition=condition,
                )  # fmt: skip
                leave.then = []
                leave.otherwise = [self._made(control.Jump, statement.origin, {}, kind="break")]
                self.expressions.emit(leave)
            else:
                self._require_truth(condition, statement.condition)
            endless = not isinstance(condition, Immediate) or condition.value
            if endless:
                self._statements(statement.body)
        self.expressions.statements, made.body = outer, self.expressions.statements
        if endless:
            self.expressions.emit(made)

    def _group(self, statement: syntax.Group) -> None:
        outer = self.expressions.scope
        if outer.group is not None:
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
        warps = self.expressions.static(named["warps"].value, "integer", "warps")
        copies = 1
        if "copies" in named:
            copies = self.expressions.static(named["copies"].value, "integer", "copies")
        first = 0
        for earlier in reversed(self.expressions.statements):
            if not isinstance(earlier, control.Group):
                break
            first += earlier.warps * earlier.copies
        total = outer.warps
        for count, keyword in ((warps, "warps"), (copies, "copies")):
            if count < 1:
                raise fail(
                    "E0403", f"a group of {count} {keyword}", named[keyword].origin, "here",
                    fix=f"write {keyword}=1 or more",
                )  # fmt: skip
        if first + warps * copies > total:
            raise fail(
                "E0403", f"warps {first} to {first + warps * copies - 1} of a block of {total}",
                named["warps"].origin, "here", fix=f"at most {total - first} warps are left",
            )  # fmt: skip
        made = self._made(control.Group, statement.origin, {}, warps=warps, copies=copies)
        made.name, made.first_warp = statement.name, first
        threads = warps * outer.warp_width
        scope = Scope(
            threads, outer.warp_width, outer.grid_rank, statement.name, outer.reference, copies
        )
        loops, self.loops = self.loops, 0  # no jump leaves a group
        with self.expressions.within(scope):
            made.body = self.block(statement.body)
        self.loops = loops
        self.expressions.emit(made)
