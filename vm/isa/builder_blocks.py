"""Blocks of a program, which are open while Python is inside a `with` or a `for`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vm.errors import Origin, VmError, fail
from vm.isa import syntax
from vm.isa.builder_expressions import Expression
from vm.isa.builder_frames import author_frame, target_of
from vm.isa.builder_recording import Recording, Statement
from vm.isa.builder_writer import Writer


class Block:
    """A block of the program that is open while Python is inside its `with`.

    `attach` puts the new block where it belongs; `parent` is the block around it, where that is
    not the one being written.
    """

    def __init__(
        self,
        writer: Writer,
        origin: Origin,
        attach: Callable[[Recording], Any],
        parent: Recording | None = None,
    ):
        self.writer = writer
        self.origin = origin
        self.attach = attach
        self.outer = writer.require_inside("a block", origin)
        self.parent = parent or self.outer

    def __enter__(self) -> None:
        inner = Recording(self.parent, self.origin)
        self.attach(inner)
        self.writer.recording = inner

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.writer.recording = self.outer


class Turns:
    """The iterator behind `for NAME in b.range(...)`: one turn, in which the block is written."""

    def __init__(
        self, writer: Writer, bounds: tuple, unroll: syntax.Expression | None, origin: Origin
    ):
        self.writer = writer
        self.bounds = bounds
        self.unroll = unroll
        self.origin = origin
        self.block: Block | None = None

    def __iter__(self) -> Turns:
        return self

    def __next__(self) -> Expression:
        if self.block is not None:
            self.block.__exit__(None, None, None)
            raise StopIteration
        writer = self.writer
        wanted = target_of(author_frame()).names[0]
        name = writer.fresh(wanted) or writer.fresh("i")
        self.block = Block(
            writer, self.origin,
            lambda block: writer.add(
                syntax.For(name, self.bounds, self.unroll, block, self.origin)
            ),
        )  # fmt: skip
        self.block.__enter__()
        writer.recording.names.add(name)
        return Expression(
            writer, syntax.Name(name, self.origin), runtime=True, home=writer.recording
        )


def if_block(writer: Writer, condition: syntax.Expression, origin: Origin) -> Block:
    """`if condition { ... }`"""

    def attach(block: Recording) -> None:
        outer = writer.recording
        statement = writer.add(syntax.If(condition, block, None, origin))
        outer.chain = (statement, outer, statement)

    return Block(writer, origin, attach)


def else_if_block(writer: Writer, condition: syntax.Expression, origin: Origin) -> Block:
    """`else if condition { ... }` of the `if` directly before."""
    outer, (first, parent, last) = _chain(writer, "elif_", origin)
    otherwise = Recording(parent, origin)
    # What the condition is computed from belongs to the `else`.
    start = outer.events.index(first) + 1
    otherwise.events = outer.events[start:]
    del outer.events[start:]
    for computation in otherwise.events:
        computation.recording = otherwise
    last.node = replace(last.node, otherwise=otherwise)

    def attach(block: Recording) -> None:
        statement = Statement(syntax.If(condition, block, None, origin))
        otherwise.events.append(statement)
        outer.chain = (first, otherwise, statement)

    return Block(writer, origin, attach, otherwise)


def else_block(writer: Writer, origin: Origin) -> Block:
    """`else { ... }` of the `if` directly before."""
    outer, (first, parent, last) = _chain(writer, "else_", origin)
    if outer.events[-1] is not first:
        raise _no_if("else_", origin)
    outer.chain = None

    def attach(block: Recording) -> None:
        last.node = replace(last.node, otherwise=block)

    return Block(writer, origin, attach, parent)


def _chain(writer: Writer, what: str, origin: Origin) -> tuple[Recording, tuple]:
    outer = writer.require_inside(f"an {what}", origin)
    chain = outer.chain
    if chain is None:
        raise _no_if(what, origin)
    behind = outer.events[outer.events.index(chain[0]) + 1 :]
    if any(isinstance(event, Statement) for event in behind):
        raise _no_if(what, origin)
    return outer, chain


def _no_if(what: str, origin: Origin) -> VmError:
    return fail(
        "E0102", f"there is no `if_` directly before this `{what}`", origin, "here",
        fix="write it right behind the block of an if_ or elif_",
    )  # fmt: skip
