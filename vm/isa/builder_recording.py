"""What happens while an author's Python runs, and the block of statements it becomes.

Every computation is recorded where Python makes it, under a placeholder that its users refer to.
When the program is complete, `settle` decides which of them stand inside the expression that uses
them, as an author of text would write it, and which are bound to a name: the first only where the
program still computes everything in the order in which Python did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from vm.errors import Origin
from vm.isa import syntax

# Beyond this an expression is cut by a binding, far below the nesting that text may have.
_MAXIMUM_DEPTH = 24


@dataclass(eq=False)
class Computation:
    """A value or several: `names` has the author's name for each, or None."""

    names: list[str | None]
    node: syntax.Expression
    recording: Recording
    effect: bool
    depth: int = 1
    inlined: bool = False

    @property
    def origin(self) -> Origin:
        return self.node.origin

    def placeholders(self) -> tuple[syntax.Name, ...]:
        """What stands for the results until they have their final names."""
        return tuple(
            syntax.Name(f"%{id(self)}.{position}", self.origin)
            for position in range(len(self.names))
        )


@dataclass(eq=False)
class Statement:
    """A statement; where it has blocks, these are recordings."""

    node: syntax.Statement


class Recording:
    """A block that is being written."""

    def __init__(self, parent: Recording | None, origin: Origin):
        self.parent = parent
        self.origin = origin
        self.events: list[Computation | Statement] = []
        self.names: set[str] = set()
        # Where an `else` would go: the `if` statement of this block, the block that the last
        # `if` of its chain stands in, and that `if`.
        self.chain: tuple[Statement, Recording, Statement] | None = None

    def around(self) -> Iterator[Recording]:
        """This block and those it stands in."""
        here: Recording | None = self
        while here is not None:
            yield here
            here = here.parent

    def name_is_free(self, name: str) -> bool:
        return all(name not in block.names for block in self.around())


def settle(recording: Recording, taken: set[str]) -> syntax.Block:
    """The finished block; `taken` are names that automatic ones must avoid."""
    return _Settling(recording, set(taken)).block(recording)


class _Settling:
    def __init__(self, recording: Recording, taken: set[str]):
        self.computations: dict[str, Computation] = {}
        self.uses: Counter[str] = Counter()
        self.final: dict[str, syntax.Expression] = {}
        self.taken = taken
        self.automatic = 0
        for block in _recordings(recording):
            self.taken |= block.names
            for event in block.events:
                self.uses.update(_placeholders(event.node))
                if isinstance(event, Computation):
                    self.computations |= {p.text: event for p in event.placeholders()}
        for block in _recordings(recording):
            self._inline(block)

    def _inline(self, recording: Recording) -> None:
        """Decides what is written inside its user: only what is the last thing computed before."""
        waiting: list[Computation] = []
        for event in recording.events:
            used = [self.computations[text] for text in _placeholders(event.node)]
            used = [computation for computation in used if computation in waiting]
            if used and waiting[-len(used) :] == used:
                for computation in used:
                    computation.inlined = True
                del waiting[-len(used) :]
                if isinstance(event, Computation):
                    event.depth = 1 + max(computation.depth for computation in used)
            elif used:
                waiting.clear()
            if isinstance(event, Computation) and self._may_move(event):
                waiting.append(event)
            else:
                waiting.clear()

    def _may_move(self, computation: Computation) -> bool:
        (first, *more) = computation.placeholders()
        unnamed = not more and computation.names[0] is None
        return unnamed and self.uses[first.text] == 1 and computation.depth < _MAXIMUM_DEPTH

    def block(self, recording: Recording) -> syntax.Block:
        statements = []
        for event in recording.events:
            if isinstance(event, Statement):
                statements.append(self._rewritten(event.node))
                continue
            node = self._rewritten(event.node)
            placeholders = event.placeholders()
            if event.inlined:
                self.final[placeholders[0].text] = node
            elif event.effect and event.names == [None] and not self.uses[placeholders[0].text]:
                statements.append(syntax.Execute(node, event.origin))
            else:
                names = tuple(name or self._automatic_name() for name in event.names)
                for placeholder, name in zip(placeholders, names, strict=True):
                    self.final[placeholder.text] = syntax.Name(name, event.origin)
                statements.append(syntax.Bind(names, node, event.origin))
        return syntax.Block(tuple(statements), (), recording.origin)

    def _automatic_name(self) -> str:
        while (name := f"t{self.automatic}") in self.taken:
            self.automatic += 1
        self.taken.add(name)
        return name

    def _rewritten(self, node: Any) -> Any:
        """`node` with every placeholder and recording in it replaced."""
        if isinstance(node, Recording):
            return self.block(node)
        if isinstance(node, tuple):
            return tuple(self._rewritten(part) for part in node)
        if isinstance(node, syntax.Name):
            final = self.final.get(node.text, node)
            return syntax.Name(final.text, node.origin) if isinstance(final, syntax.Name) else final
        if not hasattr(node, "__dataclass_fields__"):
            return node
        changes = {}
        for item in fields(node):
            if item.name not in ("origin", "trivia", "closing"):
                changes[item.name] = self._rewritten(getattr(node, item.name))
        return replace(node, **changes)


def _recordings(recording: Recording) -> Iterator[Recording]:
    yield recording
    for event in recording.events:
        if isinstance(event, Statement):
            for name in ("then", "otherwise", "body"):
                block = getattr(event.node, name, None)
                if block is not None:
                    yield from _recordings(block)


def _placeholders(node: object) -> list[str]:
    """The placeholders in an expression or in the header of a statement, in written order."""
    return [
        part.text
        for part in syntax.walk(node)
        if isinstance(part, syntax.Name) and part.text.startswith("%")
    ]
