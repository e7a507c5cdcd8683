"""Variables: their declarations, and `:=`, which makes them the result of an instruction."""

from __future__ import annotations

from typing import Any

from vm.errors import Origin, VmError, fail
from vm.isa import control, syntax
from vm.isa.instantiate_expressions import Expressions
from vm.isa.instruction import describe, typed_immediate
from vm.isa.type_expressions import evaluate_type
from vm.isa.types import Immediate, Type, Value


class Variables:
    """Declares and assigns variables, at the place that `expressions` has reached."""

    def __init__(self, expressions: Expressions):
        self.expressions = expressions
        self.names = expressions.names
        self._groups: dict[Value, str | None] = {}  # in which each is declared

    def declare(self, statement: syntax.Declare) -> None:
        """`var name: type = value`, of which the type or the value may be missing."""
        if statement.type is None and statement.value is None:
            raise fail(
                "E0209", f"`var {statement.name}` has neither a type nor a value",
                statement.origin, "here", fix=f"write `var {statement.name}: register(f32)[M, N]`",
            )  # fmt: skip
        declared = None
        if statement.type is not None:
            declared = evaluate_type(statement.type, self.expressions.here(), sizes=False)
            if declared.space not in ("register", "scalar"):
                raise fail(
                    "E0203", f"a variable cannot live in {declared.space} memory",
                    statement.type.origin, "here", fix="use shared_alloc, or a parameter",
                )  # fmt: skip
        if declared is None:
            # Its type is that of its first value, which must then come first.
            first = self.expressions.value(statement.value)
            declared = self.expressions.typed(first, statement.value).type
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
        declaration = control.make(control.Declare, statement.origin, self.expressions.scope, {})
        declaration.variable = variable
        self._groups[variable] = self.expressions.scope.group
        self.expressions.emit(declaration)
        return variable

    def assign(self, statement: syntax.Assign) -> None:
        """`name := value`."""
        variable = self.names.find(statement.name)
        if variable is None:
            raise self.expressions.environment.unknown(
                statement.name, statement.origin, self.names.known()
            )
        if not isinstance(variable, Value) or not variable.mutable:
            raise fail(
                "E0207", f"`{statement.name}` is bound once and cannot be assigned",
                statement.origin, "assigned here",
                others=((self.names.place(statement.name), "bound here"),),
                fix=f"declare it as storage: `var {statement.name} = ...`",
            )  # fmt: skip
        group = self.expressions.scope.group
        if self._groups[variable] != group:
            raise fail(
                "E0215", f"group `{group}` assigns `{statement.name}`, a variable of the block",
                statement.origin, f"only the threads of `{group}` come here",
                others=((variable.origin, "the whole block has one value of it"),),
                fix="declare a variable inside the group; results leave it through memory",
            )  # fmt: skip
        self._assign_value(variable, statement.value)
        self.names.mark_assigned(variable)

    def _assign_value(self, variable: Value, value: syntax.Expression) -> None:
        operand = self.expressions.value(value, variable.type)
        self._store(variable, operand, value.origin)

    def _store(self, variable: Value, operand: Any, origin: Origin) -> None:
        """Makes `variable` the result of the instruction that made `operand`."""
        if isinstance(operand, Immediate):
            if variable.type.space != "scalar":
                raise self._mismatch(variable, describe(operand), origin)
            operand = typed_immediate(operand, variable.type.dtype, origin)
        self._require_same(variable, operand, origin)
        last = self.expressions.statements[-1] if self.expressions.statements else None
        fresh = isinstance(operand, Value) and not operand.mutable and operand.name is None
        if fresh and last is not None and last.results == (operand,):
            last.results = (variable,)
        else:
            self.expressions.make(control.Copy, {"x": operand}, origin, {})
            self.expressions.statements[-1].results = (variable,)

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
