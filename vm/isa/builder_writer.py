"""Writing a program down while an author's Python runs."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from typing import Any

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.builder_expressions import Expression, node_of, too_deep
from vm.isa.builder_frames import Target, author_frame, target_of
from vm.isa.builder_recording import Computation, Recording, Statement
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.parse import MAXIMUM_NESTING, RESERVED
from vm.isa.static import FUNCTIONS, known_dtype
from vm.layouts import NAMES


class Writer:
    """The block that is being written, None outside programs, and how to add to it."""

    def __init__(self) -> None:
        self.recording: Recording | None = None
        self.in_case = False

    def arguments(
        self, arguments: tuple, keywords: dict[str, Any], origin: Origin
    ) -> tuple[tuple[syntax.Expression, ...], tuple[syntax.Keyword, ...]]:
        """The nodes of a call's arguments; one that is None is left out."""
        named = tuple(
            syntax.Keyword(language_word(key), node_of(self, value, origin), origin)
            for key, value in keywords.items()
            if value is not None
        )
        return tuple(node_of(self, argument, origin) for argument in arguments), named

    def expression(self, node: syntax.Expression, inputs: tuple) -> Expression:
        """An expression that is written wherever it is used."""
        expressions = [value for value in flat(inputs) if isinstance(value, Expression)]
        depth = 1 + max((value._depth for value in expressions), default=0)
        if depth > MAXIMUM_NESTING:
            raise too_deep(node.origin)
        inner = [value for value in expressions if value._block() is not None]
        deepest = max(inner, key=lambda value: len(list(value._block().around())), default=None)
        return Expression(
            self, node, runtime=any(value._runtime for value in expressions),
            home=deepest._home if deepest is not None else None, depth=depth,
        )  # fmt: skip

    def compute(
        self, node: syntax.Expression, inputs: tuple, *, always: bool = False,
        effect: bool = False, named: bool = True,
    ) -> Any:  # fmt: skip
        """A computation of the program being written; of constants, just the expression."""
        recording = self.recording
        if recording is None or not (always or any(map(is_runtime, flat(inputs)))):
            return self.expression(node, inputs)
        target = target_of(author_frame()) if named else Target()
        if target.discarded:
            if isinstance(node, syntax.Operation):
                raise fail("E0106", "this is computed and thrown away", node.origin, "here",
                           fix="assign it: x = ...")  # fmt: skip
            self.add(syntax.Execute(node, node.origin))
            return None
        names = [self.fresh(name) for name in target.names]
        computation = Computation(names, node, recording, effect)
        recording.names.update(name for name in names if name is not None)
        recording.events.append(computation)
        results = tuple(
            Expression(self, placeholder, runtime=True, home=computation)
            for placeholder in computation.placeholders()
        )
        return results if len(results) > 1 else results[0]

    def operation(
        self, symbol: str | None, operands: tuple, origin: Origin, *, named: bool = True
    ) -> Expression:
        nodes = tuple(node_of(self, operand, origin) for operand in operands)
        return self.compute(
            syntax.Operation(str(symbol), nodes, origin), operands, named=named
        )

    def add(self, statement: syntax.Statement) -> Statement:
        event = Statement(statement)
        self.recording.events.append(event)
        return event

    def require_inside(self, what: str, origin: Origin) -> Recording:
        if self.recording is None:
            raise fail("E0208", f"{what} outside a program", origin, "here",
                       fix="write it in a function with @b.program(...)")  # fmt: skip
        return self.recording

    def require_visible(self, value: Expression, origin: Origin) -> None:
        """Refuses a value whose block has ended: there, nothing computes it."""
        home = value._block()
        if home is None:
            return
        if self.recording is None or all(block is not home for block in self.recording.around()):
            raise fail(
                "E0201", "this value is not known outside its block", origin, "used here",
                others=((value._node.origin, "made in a block that has ended"),),
                fix="declare a variable before the block, b.var(...), and assign it inside",
            )  # fmt: skip

    def fresh(self, name: str | None) -> str | None:
        """A name that is free here, made from the author's; None where there is none."""
        if name is None or self.recording is None or name in RESERVED:
            return None
        number, candidate = 0, name
        while (
            candidate in INSTRUCTIONS or candidate in NAMES or candidate in FUNCTIONS
            or known_dtype(candidate) is not None or not self.recording.name_is_free(candidate)
        ):  # fmt: skip
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def check_name(self, name: str, origin: Origin) -> None:
        if name in RESERVED or not name.isidentifier() or not name.isascii():
            raise fail("E0104", f"`{name}` cannot be a name", origin, "here",
                       fix="choose another name")  # fmt: skip

    def require_outside(self, what: str, origin: Origin) -> None:
        if self.recording is not None:
            raise fail("E0102", f"a {what} inside a program", origin, "here",
                       fix="write it before the program")  # fmt: skip


def flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from flat(value)
        else:
            yield value


def is_runtime(value: Any) -> bool:
    return isinstance(value, Expression) and value._runtime


def python_word(word: str) -> str:
    """How Python says a word of the language: with a `_` behind where it is one of its own."""
    return f"{word}_" if keyword.iskeyword(word) else word


def language_word(word: str) -> str:
    """The word of the language that Python's stands for."""
    return word[:-1] if word.endswith("_") and keyword.iskeyword(word[:-1]) else word
