"""What an author writes: expressions, statements and the items of a module.

These nodes are what the parser makes, the Python builder makes and the printer prints. They name
instructions, types and layouts only by their text, so they know none of them; `instantiate` gives
them meaning. Every node has an `Origin`, which takes no part in equality; nor do comments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from vm.errors import NOWHERE, Origin


def _origin() -> Origin:
    return field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Literal:
    """A number, a truth value or a string. `base` is how a whole number is written: 2, 10 or 16."""

    value: int | float | bool | str
    origin: Origin = _origin()
    base: int = field(default=10, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and True are different literals although Python calls them equal; repr also
        # tells -0.0 from 0.0 and makes a NaN equal to itself.
        return isinstance(other, Literal) and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))


@dataclass(frozen=True)
class Name:
    """A constant, dtype, layout, parameter, size, binding or variable, by its name."""

    text: str
    origin: Origin = _origin()


@dataclass(frozen=True)
class Keyword:
    """`name=value` among the arguments of a call."""

    name: str
    value: Expression
    origin: Origin = _origin()


@dataclass(frozen=True)
class Call:
    """`function(arguments, name=value)`: an instruction, or a function of constants."""

    function: str
    arguments: tuple[Expression, ...] = ()
    keywords: tuple[Keyword, ...] = ()
    origin: Origin = _origin()


@dataclass(frozen=True)
class Member:
    """`base.name` or, with `arguments`, `base.name(arguments, name=value)`: layouts only."""

    base: Expression
    name: str
    arguments: tuple[Expression, ...] | None = None
    keywords: tuple[Keyword, ...] = ()
    origin: Origin = _origin()


@dataclass(frozen=True)
class Operation:
    """An infix operator with two operands or a prefix operator with one."""

    operator: str
    operands: tuple[Expression, ...]
    origin: Origin = _origin()


@dataclass(frozen=True)
class Index:
    """One position of a subscript: `offset`, `offset +: extent`, or `:` where both are None."""

    offset: Expression | None
    extent: Expression | None = None
    origin: Origin = _origin()


@dataclass(frozen=True)
class Subscript:
    """`base[index, ...]`: a tile of a memory operand, or the shape of a type."""

    base: Expression
    indices: tuple[Index, ...]
    origin: Origin = _origin()


@dataclass(frozen=True)
class Sequence:
    """`[item, ...]`: a shape, strides, or a table of numbers."""

    items: tuple[Expression, ...]
    origin: Origin = _origin()


Expression = Literal | Name | Call | Member | Operation | Subscript | Sequence


@dataclass(frozen=True)
class Trivia:
    """What surrounds a statement or item and has no meaning: kept by `vm fmt`."""

    leading: tuple[str, ...] = ()
    trailing: str | None = None
    blank_before: bool = False


def _trivia() -> Trivia:
    return field(default=Trivia(), compare=False, repr=False)


@dataclass(frozen=True)
class Block:
    """Statements in order; `closing` are comments between the last statement and the brace."""

    statements: tuple[Statement, ...] = ()
    closing: tuple[str, ...] = field(default=(), compare=False, repr=False)
    origin: Origin = _origin()


@dataclass(frozen=True)
class Bind:
    """`a, b = value`: each name stands for its value from here to the end of the block."""

    names: tuple[str, ...]
    value: Expression
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Declare:
    """`var name: type = value`: storage with one type and layout, which `:=` assigns."""

    name: str
    type: Expression | None
    value: Expression | None
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Assign:
    """`name := value`: the variable holds the value from here on."""

    name: str
    value: Expression
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Execute:
    """An instruction for its effect; a machine instruction's name has a dot."""

    call: Call | Member
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class If:
    """`if condition { ... } else { ... }`."""

    condition: Expression
    then: Block
    otherwise: Block | None = None
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class For:
    """`for name in range(bounds) unroll hint { ... }`; `bounds` as in Python's range."""

    name: str
    bounds: tuple[Expression, ...]
    unroll: Expression | None
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class While:
    """`while condition { ... }`."""

    condition: Expression
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Group:
    """`group name(warps=n) { ... }`: threads of the block that run their own statements."""

    name: str
    keywords: tuple[Keyword, ...]
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Jump:
    """`break` or `continue`, of the innermost loop."""

    kind: str
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Return:
    """`return value`: the result of a reference."""

    value: Expression
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


Statement = Bind | Declare | Assign | Execute | If | For | While | Group | Jump | Return


@dataclass(frozen=True)
class Constant:
    """`const name = value` (a number, truth value or dtype) or `layout name = value`."""

    kind: str
    name: str
    value: Expression
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Parameter:
    """`name: type` of a program or reference."""

    name: str
    type: Expression
    origin: Origin = _origin()


@dataclass(frozen=True)
class Definition:
    """A program (`kind` "program") or a whole-tensor reference in f64 (`kind` "reference")."""

    kind: str
    name: str
    parameters: tuple[Parameter, ...]
    grid: tuple[Expression, ...]
    threads: Expression | None
    where: tuple[Expression, ...]
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Case:
    """`case name(SIZE = value) { ... }`: inputs, calls of programs, and what is expected."""

    name: str
    sizes: tuple[Keyword, ...]
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


@dataclass(frozen=True)
class Test:
    """`test "name" needs "races" rules "Exec/load" { ... }`: assertions about programs.

    `needs` are capabilities without which an implementation leaves the test out; `rules` are the
    rules of the specification that it tests.
    """

    name: str
    needs: tuple[str, ...]
    rules: tuple[str, ...]
    body: Block
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


Item = Constant | Definition | Case | Test


@dataclass(frozen=True)
class Text:
    """A whole file: the version of the language it is written in, and its items."""

    version: int
    items: tuple[Item, ...]
    closing: tuple[str, ...] = field(default=(), compare=False, repr=False)
    origin: Origin = _origin()
    trivia: Trivia = _trivia()


HINTS = ("aligned", "resident")
"""Facts that no expression over sizes can say: `aligned(A, 16)`, of an array's address, and
`resident(2)`, how many blocks a multiprocessor is to hold at once."""


def is_hint(fact: object) -> bool:
    """Whether a fact is one of `HINTS`."""
    return isinstance(fact, Call) and fact.function in HINTS


def children(node: object) -> Iterator[object]:
    """The nodes directly below `node`, in the order they are written."""
    for item in fields(node):
        if item.name in ("origin", "trivia", "closing"):
            continue
        value = getattr(node, item.name)
        if hasattr(value, "__dataclass_fields__"):
            yield value
        elif isinstance(value, tuple):
            yield from (part for part in value if hasattr(part, "__dataclass_fields__"))


def walk(node: object) -> Iterator[object]:
    """`node` and every node below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)
