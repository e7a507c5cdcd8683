"""Modules and programs, as users hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vm.errors import Source, fail, read_source
from vm.isa import (  # noqa: F401  (importing a family registers its instructions)
    amd,
    asynchronous,
    control,
    debugging,
    elementwise,
    lanes,
    launch_memory,
    matrix,
    mbarriers,
    memory,
    nvidia,
    nvidia_atomics,
    nvidia_bulk,
    nvidia_halves,
    nvidia_packed,
    nvidia_words,
    randomness,
    registers,
    synchronization,
    syntax,
    tables,
)
from vm.isa.grid_dependence import check_grid_dependence
from vm.isa.instantiate import instantiate
from vm.isa.instruction import instead
from vm.isa.kernel import Kernel
from vm.isa.parse import parse_text
from vm.isa.printer import format_definition, format_text
from vm.isa.recursion import deep_walk
from vm.isa.verify import verify


@dataclass(frozen=True)
class Program:
    """A program or reference with the constants of its module."""

    definition: syntax.Definition
    constants: Mapping[str, syntax.Constant]

    @property
    def name(self) -> str:
        return self.definition.name

    def instantiate(self, *, warp_width: int = 32, **constants: Any) -> Kernel:
        """The kernel with these constants (those of the module where none is given).

        A size may be given too and is then a constant. Raises `VmError` for whatever can be known
        to be wrong before running.
        """
        with deep_walk(self.definition.origin):
            kernel = instantiate(
                self.definition, self.constants, constants, warp_width=warp_width
            )
            verify(kernel)
            check_grid_dependence(kernel)
        return kernel

    def __str__(self) -> str:
        with deep_walk(self.definition.origin):
            return format_definition(self.definition)

    def __eq__(self, other: object) -> bool:
        with deep_walk(self.definition.origin):
            return (
                isinstance(other, Program)
                and self.definition == other.definition
                and dict(self.constants) == dict(other.constants)
            )

    def __hash__(self) -> int:
        with deep_walk(self.definition.origin):
            return hash(self.definition)


class Module:
    """A file: constants, layouts, programs, references, cases and tests, by name."""

    def __init__(self, text: syntax.Text):
        self.text = text
        seen: dict[tuple[type | None, str], syntax.Item] = {}
        for item in text.items:
            kind = type(item) if isinstance(item, (syntax.Case, syntax.Test)) else None
            key = (kind, item.name)
            if key in seen:
                raise fail(
                    "E0207", f"`{item.name}` is defined already", item.origin, "again here",
                    others=((seen[key].origin, "first here"),), fix="choose another name",
                )  # fmt: skip
            seen[key] = item

    @cached_property
    def constants(self) -> dict[str, syntax.Constant]:
        return {i.name: i for i in self.text.items if isinstance(i, syntax.Constant)}

    @cached_property
    def programs(self) -> dict[str, Program]:
        """Programs and references, in the order of the text."""
        return {
            item.name: Program(item, self.constants)
            for item in self.text.items
            if isinstance(item, syntax.Definition)
        }

    @cached_property
    def cases(self) -> dict[str, syntax.Case]:
        return {i.name: i for i in self.text.items if isinstance(i, syntax.Case)}

    @cached_property
    def tests(self) -> dict[str, syntax.Test]:
        return {i.name: i for i in self.text.items if isinstance(i, syntax.Test)}

    def __getitem__(self, name: str) -> Program:
        if name not in self.programs:
            raise fail(
                "E0201", f"there is no program `{name}`", None,
                fix=instead(name, self.programs, "it has: " + ", ".join(self.programs)),
            )  # fmt: skip
        return self.programs[name]

    def __iter__(self) -> Iterator[Program]:
        return iter(self.programs.values())

    def __str__(self) -> str:
        with deep_walk(self.text.origin):
            return format_text(self.text)

    def __eq__(self, other: object) -> bool:
        with deep_walk(self.text.origin):
            return isinstance(other, Module) and self.text == other.text

    def __hash__(self) -> int:
        with deep_walk(self.text.origin):
            return hash(self.text)


def parse(text: str, name: str = "<text>") -> Module:
    """The module written in `text`; `name` is what errors call it."""
    return Module(parse_text(Source(name, text)))


def load(path: str | Path) -> Module:
    """The module in a file."""
    return Module(parse_text(read_source(path)))
