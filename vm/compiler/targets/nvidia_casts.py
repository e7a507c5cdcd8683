"""Casts of packed integers on NVIDIA GPUs: with the order of slots and constant zero points folded
in. Each rule replaces an exact computation by another of the same exact values."""

from __future__ import annotations

from math import lcm
from typing import Any

from vm.compiler.casts import plan
from vm.compiler.casts_bits import repeated_part
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection, slots_of
from vm.compiler.targets.nvidia_rules import NVIDIA
from vm.isa.elementwise import Subtract
from vm.isa.lanes import Pick
from vm.isa.nvidia_packed import F16, Dequantize
from vm.isa.registers import Cast, Relayout, View
from vm.isa.types import Immediate, RegisterType, Value

rule = NVIDIA.rule

LARGEST_OFFSET = 1023
# The capability from which f8e4m3 becomes f16 by an instruction: `vm_cast` has it.
CONVERTS_F8 = 89


def _emit(s: Selection, name: str | None, **fields: Any) -> Value:
    """The cast, where some rule of `casts` writes its steps."""
    source, bits = fields.get("source"), fields.get("bits", ())
    held, slots, target = fields["x"].type.layout.slots, fields["slots"], fields["dtype"]
    if source is None:
        source = fields["x"].type.dtype
    else:
        held //= source.bits
    if plan(source, target, slots, held, fields.get("offset", 0), bits) is None:
        raise Refused(f"{source.name} to {target.name} has no short way here")
    return s.emit(Dequantize, None, name, **fields)


def _is_permutation(pick: Pick) -> bool:
    """Whether slots change places and nothing else."""
    return sorted(pick.slots) == list(range(pick.x.type.layout.slots))


def _in_place(s: Selection, x: Value) -> dict[str, Any]:
    """Where the bits of x are before slots and bits change places within a thread: fields `x`,
    `slots`, and for numbers that are held as bits `source` and `bits`, of a cast."""
    slots = tuple(range(x.type.layout.slots))
    made = s.facts.definitions.get(x)
    if isinstance(made, Pick):
        x, slots = made.x, made.slots
        made = s.facts.definitions.get(x)
    if not isinstance(made, View) or made.x.type.dtype.name != "u1":
        return {"x": x, "slots": slots}
    moved = s.facts.definitions.get(made.x)
    if not isinstance(moved, Pick) or not _is_permutation(moved):
        return {"x": x, "slots": slots}
    kind, held, order = x.type.dtype, moved.x, moved.slots
    firsts = order[:: kind.bits]
    if order == tuple(first + bit for first in firsts for bit in range(kind.bits)) and not any(
        first % kind.bits for first in firsts
    ):
        # Elements change places as a whole.
        slots = tuple(firsts[slot] // kind.bits for slot in slots)
        return {"x": held, "slots": slots, "source": kind}
    part = repeated_part(order, lcm(kind.bits, 32))
    return {"x": held, "slots": slots, "source": kind, "bits": part}


@rule(Cast)
def cast_words_of_integers(s: Selection, i: Cast) -> Value:
    """Several elements of a word at once; a permutation of elements, or of their bits, before the
    cast is part of it."""
    x, result = s.operand(i.x), i.result.type
    if not isinstance(result, RegisterType) or i.result.mutable:
        raise Refused("the result is a scalar or a variable")
    pair = (x.type.dtype.name, i.dtype.name)
    if pair == ("f8e4m3", "f16") and s.target.capability >= CONVERTS_F8:
        raise Refused("the target has an instruction for it")
    if pair == ("f8e4m3", "bf16") and s.target.capability >= CONVERTS_F8:
        raise Refused("the target has an instruction that makes f16 of it")
    if i.rounding != "nearest_even":
        raise Refused("rounded otherwise than to nearest")
    return _emit(s, i.result.name, **_in_place(s, x), dtype=i.dtype, layout=result.layout)


@rule(Cast)
def cast_by_way_of_f16(s: Selection, i: Cast) -> Value:
    """f8e5m2, with its infinities, and f8e4m3 where an instruction takes it to f16: f16 has all of
    their numbers, and bf16 as well, so that neither cast rounds."""
    x, result = s.operand(i.x), i.result.type
    if not isinstance(result, RegisterType) or i.result.mutable:
        raise Refused("the result is a scalar or a variable")
    name = x.type.dtype.name
    converts = name == "f8e4m3" and s.target.capability >= CONVERTS_F8
    if i.dtype.name != "bf16" or not (converts or name == "f8e5m2"):
        raise Refused(f"{name} to {i.dtype.name} has another way")
    if name == "f8e5m2":
        half = _emit(s, None, **_in_place(s, x), dtype=F16, layout=result.layout)
    else:
        half = s.emit(Cast, x=s.spread_slots(x, result), dtype=F16)
    # Infinities stay what they are: from f8e5m2 they are numbers of the target.
    return s.emit(Cast, None, i.result.name, x=half, dtype=i.dtype, overflow="ieee")


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
                 layout=cast.layout, offset=int(offset), source=cast.source,
                 bits=cast.bits)  # fmt: skip


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
                 offset=cast.offset, source=cast.source, bits=cast.bits)  # fmt: skip
