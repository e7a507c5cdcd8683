"""What an instruction is: one class with operands, attributes, meaning and checks.

A subclass states its operands and attributes as class attributes, in the order in which they are
written; its docstring is its meaning in the specification; `check` gives the types of its results
or refuses the operands; `run` is its meaning in NumPy. From these follow the parser, the printer,
the builder, the verifier and the reference machine, none of which names an instruction.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from vm.errors import InternalError, Origin, VmError, fail
from vm.isa.dtypes import DType
from vm.isa.layout_constraints import LayoutConstraint
from vm.isa.types import Immediate, RegisterType, ScalarType, Tile, Type, Value

INSTRUCTIONS: dict[str, type[Instruction]] = {}

_REQUIRED = object()


class Operand:
    """A field that takes a value of one of `spaces`: scalar, register, shared, global, mbarrier or
    semaphore.

    `optional` operands may be left out and are None then; a `repeated` one takes the rest of the
    positional arguments as a tuple. Constants of a `hexadecimal` one are printed so.
    """

    def __init__(self, *spaces: str, optional: bool = False, repeated: bool = False,
                 hexadecimal: bool = False):  # fmt: skip
        self.spaces = spaces
        self.optional = optional
        self.repeated = repeated
        self.hexadecimal = hexadecimal
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class Attribute:
    """A field whose value is known at instantiation.

    `kind` is one of integer, number, boolean, string, dtype, layout, shape (a sequence of
    integers), extents (one of integers and of expressions over what is known at launch) or table (a
    sequence of numbers). `choices` limits a string. A `hexadecimal` integer is printed so.
    """

    def __init__(self, kind: str, default: Any = _REQUIRED, choices: tuple[str, ...] = (),
                 hexadecimal: bool = False):  # fmt: skip
        self.kind = kind
        self.default = default
        self.choices = choices
        self.hexadecimal = hexadecimal
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED


Field = Operand | Attribute


@dataclass(frozen=True)
class Scope:
    """What surrounds an instruction: the group that runs it and the target it is meant for."""

    threads: int
    warp_width: int
    grid_rank: int
    group: str | None = None
    reference: bool = False
    copies: int = 1

    @property
    def warps(self) -> int:
        return self.threads // self.warp_width


def _in_order(fields: dict[str, Field]) -> dict[str, Field]:
    """Fields as positional arguments give them: required ones, a repeated one, optional ones."""

    def rank(item: Field) -> int:
        if isinstance(item, Operand):
            return 1 if item.repeated else 2 if item.optional else 0
        return 0 if item.required else 2

    return dict(sorted(fields.items(), key=lambda entry: rank(entry[1])))


class Instruction:
    """An instruction with its operands, in the instantiated form of a program."""

    opcode: ClassVar[str] = ""
    fields: ClassVar[dict[str, Field]] = {}
    operator: ClassVar[str | None] = None
    # Whether it may stand for nothing but its results: such a one vanishes when they are unused.
    pure: ClassVar[bool] = True
    # Whether `run` is a generator that yields while it must wait.
    suspends: ClassVar[bool] = False

    def __init_subclass__(cls, opcode: str | None = None, operator: str | None = None):
        super().__init_subclass__()
        own = {
            name: item for name, item in vars(cls).items() if isinstance(item, (Operand, Attribute))
        }
        cls.fields = _in_order({**cls.fields, **own})
        cls.suspends = inspect.isgeneratorfunction(cls.run)
        if opcode is not None:
            if opcode in INSTRUCTIONS:
                raise InternalError(f"two instructions are called {opcode}")
            cls.opcode = opcode
            cls.operator = operator
            INSTRUCTIONS[opcode] = cls

    def __init__(
        self,
        values: dict[str, Any],
        origin: Origin,
        scope: Scope,
        expected: Type | None = None,
        places: dict[str, Origin] | None = None,
    ):
        for name, value in values.items():
            setattr(self, name, value)
        self.origin = origin
        self.scope = scope
        self.expected = expected
        self.places = places or {}
        self.results: tuple[Value, ...] = ()

    # --- to be given by each instruction ---
    def check(self) -> Type | tuple[Type, ...] | None:
        """The types of the results; raises through `self.refuse` what the operands may not be."""
        raise NotImplementedError

    def run(self, machine: Any) -> Any:
        """The meaning: computes on the machine's values and returns those of the results."""
        raise NotImplementedError

    def constrain(self) -> LayoutConstraint | None:
        """What the instruction asks of the layouts of register tensors.

        None where it asks nothing: it has none, or `check` requires and gives all their layouts.
        """
        return None

    # --- for everyone who walks a program ---
    @property
    def result(self) -> Value:
        """The only result."""
        (result,) = self.results
        return result

    def operands(self) -> Iterator[Any]:
        """Every operand that is present: values, immediates and tiles."""
        for name, item in self.fields.items():
            if isinstance(item, Operand):
                value = getattr(self, name)
                if item.repeated:
                    yield from value
                elif value is not None:
                    yield value

    def used_values(self) -> Iterator[Value]:
        """Every value that is read, the offsets of tiles included."""
        for operand in self.operands():
            if isinstance(operand, Tile):
                yield operand.base
                yield from (o for o in operand.offsets if isinstance(o, Value))
            elif isinstance(operand, Value):
                yield operand

    def blocks(self) -> Iterator[list[Instruction]]:
        """The blocks of statements inside this one; only control has any."""
        return iter(())

    # --- for `check` ---
    def refuse(
        self,
        code: str,
        message: str,
        field: str | None = None,
        label: str = "",
        others: Iterable[tuple[Origin | None, str]] = (),
        notes: tuple[str, ...] = (),
        fix: str | None = None,
    ) -> VmError:
        """The error to raise: placed at the argument `field`, or at the whole instruction."""
        origin = self.places.get(field, self.origin) if field else self.origin
        return fail(code, message, origin, label, others=tuple(others), notes=notes, fix=fix)

    def place(self, field: str) -> Origin:
        return self.places.get(field, self.origin)

    def dtype_of(self, operand: Any) -> DType | None:
        """The dtype of an operand, None for an immediate that has none yet."""
        if isinstance(operand, Immediate):
            return operand.dtype
        return operand.dtype if isinstance(operand, Tile) else operand.type.dtype

    def give_dtype(self, field: str, dtype: DType) -> None:
        """Types an untyped immediate operand; refuses a number that the dtype cannot hold."""
        operand = getattr(self, field)
        if isinstance(operand, Immediate) and operand.dtype is None:
            setattr(self, field, typed_immediate(operand, dtype, self.place(field)))


def typed_immediate(immediate: Immediate, dtype: DType, place: Origin) -> Immediate:
    """The immediate as a constant of `dtype`; raises E0205 where the dtype cannot hold it."""
    value = immediate.value
    if dtype.kind == "bool":
        fits = isinstance(value, bool)
    elif dtype.is_integer:
        fits = (
            not isinstance(value, bool)
            and (isinstance(value, int) or float(value).is_integer())
            and dtype.min <= value <= dtype.max
        )
        value = int(value) if fits else value
    else:
        fits = not isinstance(value, bool)
        value = float(value) if fits else value
    if not fits:
        shown = str(value).lower() if isinstance(value, bool) else value
        raise fail(
            "E0205",
            f"{shown} is not a value of {dtype.name}",
            place,
            f"needs {_range_of(dtype)}",
            fix=f"write a constant that {dtype.name} holds, or cast the other operand",
        )
    return Immediate(value, dtype, immediate.origin)


def _range_of(dtype: DType) -> str:
    if dtype.kind == "bool":
        return "true or false"
    if dtype.is_integer:
        return f"a whole number from {dtype.min} to {dtype.max}"
    return "a number"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is closest to `name`, if one is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def instead(name: str, known: Iterable[str], otherwise: str) -> str:
    """What to write instead of an unknown name: the known one that is close, or `otherwise`."""
    close = nearest(name, known)
    return f"did you mean `{close}`?" if close else otherwise


def describe(operand: Any) -> str:
    """An operand's type for a message."""
    if isinstance(operand, Immediate):
        return operand.dtype.name if operand.dtype else f"the constant {operand.value}"
    if isinstance(operand, Tile):
        return f"a tile {list(operand.shape)} of {operand.base.type}"
    return str(operand.type)


def space_of(operand: Any) -> str:
    """The space of an operand: scalar, register, or one of those that are memory."""
    return "scalar" if isinstance(operand, Immediate) else operand.type.space


def shape_of(operand: Any) -> tuple[int, ...]:
    """The shape of an operand: () for scalars."""
    if isinstance(operand, Immediate) or isinstance(operand.type, ScalarType):
        return ()
    if isinstance(operand, Tile):
        return operand.shape
    return operand.type.shape


def layout_of(operand: Any) -> Any:
    """The register layout of an operand, None where it has none or none is chosen yet."""
    type_ = getattr(operand, "type", None)
    return type_.layout if isinstance(type_, RegisterType) else None
