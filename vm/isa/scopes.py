"""Which names a place in a program can see, and which variables have a value there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vm.errors import Origin, fail
from vm.isa.types import Value


class _Branches:
    """Ways of which exactly one is taken: a variable has a value after all of them only."""

    def __init__(self, names: Names):
        self._names = names
        self._before = set(names.assigned)
        self._after: set[Value] | None = None

    @contextmanager
    def branch(self):
        self._names.assigned = set(self._before)
        self._names.left = False
        yield
        if not self._names.left:  # a way that ends in a jump does not come out here
            assigned = self._names.assigned
            self._after = set(assigned) if self._after is None else self._after & assigned

    def join(self) -> None:
        self._names.assigned = self._before if self._after is None else self._after
        self._names.left = self._after is None


class Names:
    """The blocks around a place, innermost last."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, tuple[Any, Origin]]] = [{}]
        self.assigned: set[Value] = set()
        self.left = False

    @contextmanager
    def block(self):
        """A block: what is bound inside is unknown behind it."""
        self._blocks.append({})
        yield
        self._blocks.pop()

    @contextmanager
    def branches(self):
        """Alternative ways; open each with `branch()` of what this yields."""
        ways = _Branches(self)
        yield ways
        ways.join()

    def leave(self) -> None:
        """What follows in this block is never reached."""
        self.left = True

    def define(self, name: str, value: Any, origin: Origin) -> None:
        """Binds a name; raises E0207 where it stands for something already."""
        for block in self._blocks:
            if name in block:
                earlier = block[name][1]
                mutable = isinstance(block[name][0], Value) and block[name][0].mutable
                raise fail(
                    "E0207", f"`{name}` is bound already", origin, "bound again here",
                    others=((earlier, "first bound here"),),
                    fix=f"assign it: `{name} := ...`" if mutable
                    else f"choose another name, or make it a variable: `var {name} = ...`",
                )  # fmt: skip
        self._blocks[-1][name] = (value, origin)

    def find(self, name: str) -> Any:
        """What the name stands for, None where it is not bound in any block around."""
        for block in reversed(self._blocks):
            if name in block:
                return block[name][0]
        return None

    def place(self, name: str) -> Origin | None:
        for block in reversed(self._blocks):
            if name in block:
                return block[name][1]
        return None

    def visible(self) -> Iterator[tuple[str, Any]]:
        for block in self._blocks:
            for name, (value, _) in block.items():
                yield name, value

    def known(self) -> set[str]:
        return {name for block in self._blocks for name in block}

    def mark_assigned(self, variable: Value) -> None:
        self.assigned.add(variable)

    def is_assigned(self, value: Value) -> bool:
        return not value.mutable or value in self.assigned
