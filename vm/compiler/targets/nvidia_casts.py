"""Casts of packed integers on NVIDIA GPUs: with the order of slots and constant zero points folded
in. Each rule replaces an exact computation by another of the same exact values."""

from __future__ import annotations

from typing import Any

from vm.compiler.casts import plan
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection, slots_of
from vm.compiler.targets.nvidia_rules import NVIDIA
from vm.isa.elementwise import Subtract
from vm.isa.lanes import Pick
from vm.isa.nvidia_packed import Dequantize
from vm.isa.registers import Cast, Relayout
from vm.isa.types import Immediate, RegisterType, Value

rule = NVIDIA.rule

LARGEST_OFFSET = 1023
# The capability from which f8e4m3 becomes f16 by an instruction: `vm_cast` has it.
CONVERTS_F8 = 89


def _emit(s: Selection, name: str | None, **fields: Any) -> Value:
    """The cast, where some rule of `casts` writes its steps."""
    source, offset = fields["x"].type, fields.get("offset", 0)
    slots = fields["slots"]
    if plan(source.dtype, fields["dtype"], slots, source.layout.slots, offset) is None:
        raise Refused(f"{source.dtype.name} to {fields['dtype'].name} has no short way here")
    return s.emit(Dequantize, None, name, **fields)


@rule(Cast)
def cast_words_of_integers(s: Selection, i: Cast) -> Value:
    """Several elements of a word at once; a permutation of x before the cast is part of it."""
    x, result = s.operand(i.x), i.result.type
    if not isinstance(result, RegisterType) or i.result.mutable:
        raise Refused("the result is a scalar or a variable")
    pair = (x.type.dtype.name, i.dtype.name)
    if pair == ("f8e4m3", "f16") and s.target.capability >= CONVERTS_F8:
        raise Refused("the target has an instruction for it")
    if i.rounding != "nearest_even":
        raise Refused("rounded otherwise than to nearest")
    made = s.facts.definitions.get(x)
    slots = tuple(range(x.type.layout.slots))
    if isinstance(made, Pick):
        x, slots = made.x, made.slots
    return _emit(s, i.result.name, x=x, dtype=i.dtype, slots=slots,
                  layout=result.layout)  # fmt: skip


def _dequantized(s: Selection, operand: Any) -> Dequantize:
    made = s.facts.definitions.get(operand) if isinstance(operand, Value) else None
    if not isinstance(made, Dequantize):
        raise Refused("the operand is not a cast of packed integers")
    return made


@rule(Subtract)
def subtract_in_the_cast(s: Selection, i: Subtract) -> Value:
    """A whole number taken from cast integers is part of the cast: both are exact."""
    if i.result.mutable or not isinstance(i.y, Immediate):
        raise Refused("what is subtracted is no constant")
    cast = _dequantized(s, s.operand(i.x))
    offset = cast.offset + i.y.value
    if not float(offset).is_integer() or abs(offset) > LARGEST_OFFSET:
        raise Refused(f"{offset} is not a small whole number")
    return _emit(s, i.result.name, x=cast.x, dtype=cast.dtype, slots=cast.slots,
                  layout=cast.layout, offset=int(offset))  # fmt: skip


@rule(Relayout, rank=0)
def permute_in_the_cast(s: Selection, i: Relayout) -> Value:
    """Slots that change places within a thread are cast in their new places."""
    if i.result.mutable:
        raise Refused("the result is a variable")
    x = s.operand(i.x)
    cast = _dequantized(s, x)
    order = slots_of(x.type.layout, i.layout.table())
    if order is None:
        raise Refused("threads exchange elements")
    return _emit(s, i.result.name, x=cast.x, dtype=cast.dtype,
                  slots=tuple(cast.slots[slot] for slot in order), layout=i.layout,
                  offset=cast.offset)  # fmt: skip
