"""Products of packed integers and small floats whose fields go to the matrix unit as they lie, and
what gives the powers of two back.

Why it is exact. With `nv.fields` every number of a row of the operand is the integer, or the float,
times 2**-k, 0 <= k <= 24, the same k for the whole row; for floats k is 15 less their bias, and
2**-k takes their smallest number to 2**(-14 - mantissa bits), no less than 2**-24. f16 holds it,
subnormal numbers are multiplied like all others, and the product with an f16 is a multiple of
2**-48 that f32 holds. Every sum of them is the
sum of the definition times 2**-k, and so is its rounding, whatever the order of the sums and the
precision that is relative to the sum: f32 has numbers down to 2**-149, so that nothing underflows,
and smaller numbers do not overflow. Infinities and NaN of the other operand come out alike. Then
2**k times the sum is exact, for it is a number that the definition has too.

An addend c is not brought to the scale of the row, where it could underflow: it is added by an fma,
which is one order of the sum in which the definition leaves all orders free. But an addend that is
itself such a sum, of the same powers, is taken on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.compiler import casts, casts_fields
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection, slots_of
from vm.compiler.targets.gpu_matrix import dot_layout_of, fragment_name, words_of_slots
from vm.compiler.targets.nvidia_rules import NVIDIA
from vm.isa import control
from vm.isa.dtypes import DType
from vm.isa.elementwise import Add, FusedMultiplyAdd, Multiply
from vm.isa.lanes import SlotConstants
from vm.isa.matrix import Dot
from vm.isa.nvidia_packed import F16, FIELD_UNITS, Dequantize, Fields, fits_a_half, slots_held
from vm.isa.registers import Cast, Fill
from vm.isa.types import Immediate, Value
from vm.layouts import RegisterLayout

rule = NVIDIA.rule


@rule(Dot, rank=0)
def multiply_fields(s: Selection, i: Dot) -> Value:
    """Integers and floats of few bits are multiplied where they lie in words: one `and` for two of
    them. Their powers of two, the same for a row, are taken off the sums."""
    operands = {"a": s.operand(i.a), "b": s.operand(i.b)}
    c = s.operand(i.c) if i.c is not None else None
    result = s.result_type(i.result)
    if result.dtype.name != "f32":
        raise Refused("sums of subnormal numbers need f32")
    side = next((name for name, x in operands.items() if _is_cast(s, x)), None)
    if side is None:
        raise Refused("no operand is a cast of unsigned integers or small floats to f16")
    cast = s.facts.definitions[operands[side]]
    found = dot_layout_of(operands["a"], operands["b"], result, i)
    kinds = (operands["a"].type.dtype, operands["b"].type.dtype, result.dtype)
    fragment = fragment_name(s, found.fragment, kinds)
    axis = 0 if side == "a" else 1  # of the rows, in the operand and in c
    classes = _classes(cast.layout, result.layout, axis)
    kind = cast.source or cast.x.type.dtype
    lying = (_integers if kind.is_integer else _floats)(cast, kind, classes)
    now = casts.plan(kind, cast.dtype, cast.slots, slots_held(cast), bits=cast.bits)
    if now is not None and lying.cost + result.layout.slots >= now.cost:
        raise Refused(f"{lying.cost} instructions, and {result.layout.slots} for powers of two, "
                      f"are not fewer than {now.cost}")  # fmt: skip

    numbers = s.emit(Fields, x=cast.x, source=cast.source, bits=cast.bits, **lying.fields)
    powers = lying.powers
    known = s.facts.scaled.get(c) if isinstance(c, Value) else None
    variable = s.declare(result, i.result.name)
    if known is not None and known[1] == powers:
        s.emit(control.Copy, into=variable, x=known[0])
        c = None
    else:
        s.emit(Fill, into=variable, value=Immediate(0), dtype=result.dtype, shape=result.shape,
               layout=result.layout)  # fmt: skip
    fields = {name: numbers if name == side else x for name, x in operands.items()}
    for x, y, z in found.steps():
        at = {"a": words_of_slots(x, 16), "b": words_of_slots(y, 16)}
        at[side] = tuple(lying.words[word] for word in at[side])
        s.emit(s.machine.matrix_multiply, into=variable, c=variable, **fields, fragment=fragment,
               at_a=at["a"], at_b=at["b"], at_c=words_of_slots(z, 32))  # fmt: skip
    constants = s.emit(SlotConstants, values=powers, dtype=result.dtype, layout=result.layout)
    if c is not None:
        into = _target(s, i)
        return s.emit(FusedMultiplyAdd, into, i.result.name, x=variable, y=constants, z=c)
    scaled = s.emit(Multiply, x=variable, y=constants)
    s.facts.scaled[scaled] = variable, powers
    return scaled


def _is_cast(s: Selection, x: Value) -> bool:
    """Whether a value is a cast of fields to f16 and nothing else."""
    made = s.facts.definitions.get(x)
    return (
        isinstance(made, Dequantize)
        and fits_a_half(made.source or made.x.type.dtype)
        and made.dtype.name == "f16"
        and made.offset == 0
    )


@dataclass(frozen=True)
class Lying:
    """What `nv.fields` is told, how many steps it takes, which word of its result is each word of
    the operand, and the power of two for each slot of the sums."""

    fields: dict[str, Any]
    cost: int
    words: tuple[int, ...]
    powers: tuple[float, ...]


Classes = tuple[tuple[int, ...], tuple[int, ...]]


def _integers(cast: Dequantize, kind: DType, classes: Classes) -> Lying:
    """Integers whose rows lie at one place each."""
    held = slots_held(cast)
    arranged = None
    if not cast.bits:
        arranged = casts_fields.arrange(kind, cast.slots, classes[0], held)
    if arranged is None:
        raise Refused("the fields of a row do not lie at one place")
    steps = casts_fields.plan(kind, arranged.slots, arranged.places, held)
    places = {one: arranged.places[arranged.pairs[k]] for k, one in enumerate(classes[0])}
    powers = tuple(2.0 ** (FIELD_UNITS - places[one]) for one in classes[1])
    fields = {"slots": arranged.slots, "at": arranged.places}
    return Lying(fields, steps.cost, arranged.pairs, powers)


def _floats(cast: Dequantize, kind: DType, classes: Classes) -> Lying:
    """Floats with sign, exponent and mantissa where f16 has them."""
    steps = casts.plan(kind, F16, cast.slots, slots_held(cast), bits=cast.bits, scaled=False)
    if steps is None:
        raise Refused(f"the bits of {kind.name} do not move to those of f16")
    powers = (2.0 ** (F16.bias - kind.bias),) * len(classes[1])
    return Lying({"slots": cast.slots}, steps.cost, tuple(range(len(classes[0]))), powers)


def _classes(operand: RegisterLayout, sums: RegisterLayout, axis: int) -> Classes:
    """Which class of rows each word of the operand and each slot of the sums belongs to. Rows are
    of one class where some word, or some slot, has one in one thread and the other in another."""
    words = operand.table()[..., axis].T[::2]  # [words, threads]
    slots = sums.table()[..., axis].T
    names = np.arange(operand.shape[axis])
    while True:
        before = names.copy()
        for rows in (*words, *slots):
            names[rows] = names[rows].min()
        if (names == before).all():
            break
    return tuple(map(int, names[words[:, 0]])), tuple(map(int, names[slots[:, 0]]))


def _scaled(s: Selection, x: Value, y: Value) -> tuple[Value, Value]:
    """(sum, y times powers of two) for a scaled sum x and a factor y that is the same for rows.

    (t 2**k) y and t (2**k y) are the same number before it is rounded, for 2**k y is exact: k is 0
    or more, and y was cast from numbers that stay finite."""
    known = s.facts.scaled.get(x)
    if known is None:
        raise Refused("the first factor is no sum of fields")
    made = s.facts.definitions.get(y) if isinstance(y, Value) else None
    kind = made.x.type.dtype if isinstance(made, Cast) else None
    if kind is None or not kind.is_float or float(kind.max) > 2.0 ** (127 - FIELD_UNITS):
        raise Refused("the other factor may not stay finite")
    layout, shape = x.type.layout, y.type.shape
    slots = slots_of(y.type.layout, np.where(np.array(shape) == 1, 0, layout.table()))
    if slots is None or y.type.layout.slots >= layout.slots:
        raise Refused("the other factor is not the same for rows")
    powers: dict[int, float] = {}
    for slot, power in zip(slots, known[1], strict=True):
        if powers.setdefault(slot, power) != power:
            raise Refused("sums of different powers share a factor")
    values = tuple(powers.get(slot, 1.0) for slot in range(y.type.layout.slots))
    constants = s.emit(SlotConstants, values=values, dtype=y.type.dtype, layout=y.type.layout)
    return known[0], s.spread_slots(s.emit(Multiply, x=y, y=constants), x.type)


@rule(FusedMultiplyAdd, rank=0)
def scale_sums_of_fields_and_add(s: Selection, i: FusedMultiplyAdd) -> Value:
    """The powers of two of sums of fields go to what these are multiplied by."""
    sums, factor = _scaled(s, s.operand(i.x), s.operand(i.y))
    z = s.operand(i.z)
    if not isinstance(z, Value) or z.type.layout != sums.type.layout:
        raise Refused("the addend is not held as the sums are")
    return s.emit(FusedMultiplyAdd, _target(s, i), i.result.name, x=sums, y=factor, z=z)


@rule(Add, rank=0)
def add_to_sums_of_fields(s: Selection, i: Add) -> Value:
    """A power of two times a sum, and more added: one fma, as the first of both is exact."""
    x, y = s.operand(i.x), s.operand(i.y)
    x, y = (x, y) if x in s.facts.scaled else (y, x)
    if x not in s.facts.scaled or not isinstance(y, Value) or y.type.layout != x.type.layout:
        raise Refused("no sum of fields and what is held as it is are added")
    sums, powers = s.facts.scaled[x]
    constants = s.emit(SlotConstants, values=powers, dtype=x.type.dtype, layout=x.type.layout)
    return s.emit(FusedMultiplyAdd, _target(s, i), i.result.name, x=sums, y=constants, z=y)


@rule(Multiply, rank=0)
def scale_sums_of_fields(s: Selection, i: Multiply) -> Value:
    """The powers of two of sums of fields go to what these are multiplied by."""
    sums, factor = _scaled(s, s.operand(i.x), s.operand(i.y))
    return s.emit(Multiply, _target(s, i), i.result.name, x=sums, y=factor)


def _target(s: Selection, i: Dot | FusedMultiplyAdd | Add | Multiply) -> Value | None:
    """The variable that an instruction assigns to, None where it binds a value."""
    return s.values[i.result] if i.result.mutable else None
