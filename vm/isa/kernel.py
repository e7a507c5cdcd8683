"""A kernel: a program with its constants given, flat and typed.

Every operand is a value, an immediate or a tile; every value has a type; nothing is nested. It is
the form that the reference machine runs and that passes rewrite. It prints as `.vm` text whose
program instantiates to an equal kernel: equality is that of the text up to the names of locals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vm.errors import NOWHERE, Origin
from vm.isa import control, syntax
from vm.isa.dtypes import DType
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.parse import RESERVED
from vm.isa.printer import format_definition
from vm.isa.type_expressions import dtype_syntax
from vm.isa.types import GlobalType, Immediate, RegisterType, ScalarType, SharedType, Tile, Value


@dataclass(eq=False)
class Kernel:
    """`kind` is "program" or "reference"; `sizes` are the i32 scalars bound by shapes.

    `grid` and `where` are expressions over the sizes and scalar parameters, or numbers.
    """

    name: str
    kind: str
    parameters: tuple[Value, ...]
    sizes: tuple[Value, ...]
    grid: tuple[Any, ...]
    threads: int
    warp_width: int
    where: tuple[Any, ...]
    body: list[Instruction]
    constants: dict[str, Any] = field(default_factory=dict)
    origin: Origin = NOWHERE

    @cached_property
    def text(self) -> str:
        """The canonical text: locals are renamed in the order in which they are bound."""
        return format_definition(_Writer(self, canonical=True).definition())

    @property
    def resident_blocks(self) -> int | None:
        """How many blocks a multiprocessor is to hold at once, if the program says it."""
        asked = [fact.arguments[0].value for fact in self.where
                 if syntax.is_hint(fact) and fact.function == "resident"]  # fmt: skip
        return max(asked, default=None)

    def __str__(self) -> str:
        return format_definition(_Writer(self, canonical=False).definition())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Writer:
    """Kernel to syntax."""

    def __init__(self, kernel: Kernel, canonical: bool):
        self.kernel = kernel
        self.canonical = canonical
        self.names: dict[Value, str] = {}
        self.used: set[str] = set(RESERVED)
        for value in (*kernel.parameters, *kernel.sizes):
            self.names[value] = value.name
            self.used.add(value.name)

    def definition(self) -> syntax.Definition:
        kernel = self.kernel
        return syntax.Definition(
            kernel.kind,
            kernel.name,
            tuple(syntax.Parameter(p.name, type_syntax(p.type)) for p in kernel.parameters),
            tuple(static_syntax(extent) for extent in kernel.grid),
            syntax.Literal(kernel.threads) if kernel.kind == "program" else None,
            tuple(static_syntax(fact) for fact in kernel.where),
            self.block(kernel.body),
        )

    def block(self, statements: list[Instruction]) -> syntax.Block:
        return syntax.Block(tuple(self.statement(s) for s in statements))

    def define(self, value: Value) -> str:
        wanted = None if self.canonical else value.name
        name, number = wanted or f"t{len(self.names)}", 1
        while name in self.used:
            name, number = f"{wanted or 't'}_{number}", number + 1
        self.used.add(name)
        self.names[value] = name
        return name

    def statement(self, instruction: Instruction) -> syntax.Statement:
        match instruction:
            case control.If():
                otherwise = self.block(instruction.otherwise) if instruction.otherwise else None
                return syntax.If(
                    self.operand(instruction.condition), self.block(instruction.then), otherwise
                )
            case control.For():
                bounds = tuple(
                    self.operand(o)
                    for o in (instruction.start, instruction.stop, instruction.step)
                )
                name = self.define(instruction.variable)
                unroll = instruction.unroll
                hint = None
                if unroll is not None:
                    hint = syntax.Name(unroll) if unroll == control.FULL else syntax.Literal(unroll)
                return syntax.For(name, bounds, hint, self.block(instruction.body))
            case control.While():
                return syntax.While(syntax.Literal(True), self.block(instruction.body))
            case control.Group():
                keywords = [syntax.Keyword("warps", syntax.Literal(instruction.warps))]
                if instruction.copies != 1:
                    keywords.append(syntax.Keyword("copies", syntax.Literal(instruction.copies)))
                return syntax.Group(
                    instruction.name, tuple(keywords), self.block(instruction.body)
                )
            case control.Declare():
                variable = instruction.variable
                return syntax.Declare(self.define(variable), type_syntax(variable.type), None)
            case control.Jump():
                return syntax.Jump(instruction.kind)
            case control.Return():
                return syntax.Return(self.operand(instruction.value))
        call = self.call(instruction)
        if not instruction.results:
            return syntax.Execute(call)
        (first, *_) = instruction.results
        if first.mutable:
            return syntax.Assign(self.names[first], call)
        return syntax.Bind(tuple(self.define(value) for value in instruction.results), call)

    def call(self, instruction: Instruction) -> syntax.Expression:
        if instruction.opcode in RESERVED and instruction.operator is not None:
            # `and`, `or` and `not` are words of the language: only their operators can be written.
            operands = tuple(self.operand(operand) for operand in instruction.operands())
            return syntax.Operation(instruction.operator, operands)
        positional: list[syntax.Expression] = []
        keywords: list[syntax.Keyword] = []
        for name, item in instruction.fields.items():
            value = getattr(instruction, name)
            if isinstance(item, Operand) and item.repeated:
                positional += [self.operand(operand) for operand in value]
            elif isinstance(item, Operand):
                if value is not None and not item.optional:
                    positional.append(self.operand(value, base=_base(item)))
                elif value is not None:
                    keywords.append(syntax.Keyword(name, self.operand(value)))
            elif item.required:
                positional.append(static_syntax(value, base=_base(item)))
            elif value != item.default:
                keywords.append(syntax.Keyword(name, static_syntax(value)))
        return syntax.Call(instruction.opcode, tuple(positional), tuple(keywords))

    def operand(self, operand: Any, base: int = 10) -> syntax.Expression:
        match operand:
            case Immediate(value):
                return syntax.Literal(value, base=base)
            case Tile(base, offsets, extents):
                indices = tuple(
                    self.index(offset, extent)
                    for offset, extent in zip(offsets, extents, strict=True)
                )
                name = syntax.Name(self.names[base])
                return syntax.Subscript(name, indices) if indices else name
        return syntax.Name(self.names[operand])


    def index(self, offset: Any, extent: Any) -> syntax.Index:
        if extent is None:
            return syntax.Index(self.operand(offset))
        if not isinstance(extent, int):
            return syntax.Index(None)
        return syntax.Index(self.operand(offset), syntax.Literal(extent))


def _base(item: Operand | Attribute) -> int:
    """How whole numbers of a field are written."""
    return 16 if item.hexadecimal else 10


def static_syntax(value: Any, base: int = 10) -> syntax.Expression:
    """The expression that evaluates to a static value."""
    from vm.errors import Source
    from vm.isa.parse import parse_expression

    if isinstance(value, (bool, int, float, str)):
        return syntax.Literal(value, base=base)
    if isinstance(value, DType):
        return dtype_syntax(value)
    if isinstance(value, tuple):
        return syntax.Sequence(tuple(static_syntax(item) for item in value))
    if isinstance(value, syntax.Expression):
        return value
    return parse_expression(Source("<layout>", str(value)))


def type_syntax(type_: Any) -> syntax.Expression:
    """The expression that evaluates to a type."""
    dtype = dtype_syntax(type_.dtype)
    if isinstance(type_, ScalarType):
        return dtype
    indices = tuple(syntax.Index(static_syntax(extent)) for extent in type_.shape)
    keywords: tuple[syntax.Keyword, ...] = ()
    if isinstance(type_, (RegisterType, SharedType)) and type_.layout is not None:
        keywords = (syntax.Keyword("layout", static_syntax(type_.layout)),)
    if isinstance(type_, GlobalType) and type_.strides is not None:
        keywords = (syntax.Keyword("strides", static_syntax(type_.strides)),)
    call = syntax.Call(type_.space, (dtype,), keywords)
    if isinstance(type_, GlobalType) and type_.access != "in":
        call = syntax.Call(type_.access, (call,))
    return syntax.Subscript(call, indices)
