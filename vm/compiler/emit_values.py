"""How values are computed in C++: arithmetic, casts, and who holds what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vm.compiler.emit import Emitter, emits, into_register, is_plain, literal, register_type
from vm.isa import control, elementwise, lanes, randomness, registers, tables
from vm.isa import synchronization as sync
from vm.isa.dtypes import DType
from vm.isa.randomness import U64
from vm.isa.types import Immediate, ScalarType
from vm.runtime.scalars import NUMBERS

_INFIX = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&&", "or": "||",
    "bit_and": "&", "bit_or": "|", "bit_xor": "^",
}  # fmt: skip
_WRAPPING = {"add": "+", "sub": "-", "mul": "*"}
_PREFIX = {"not": "!", "bit_not": "~"}
# Where the prelude's name is not the opcode.
_CALLS = {
    "bit_and": "and", "bit_or": "or", "bit_xor": "xor", "bit_not": "not",
}  # fmt: skip


@emits(elementwise.Elementwise)
def _arithmetic(e: Emitter, i: elementwise.Elementwise) -> Iterator[str]:
    operands = [getattr(i, name) for name in i.fields]
    plain = all(isinstance(o, Immediate) or is_plain(o.type) for o in operands)
    floats = any(o.type is not None and o.type.dtype.is_float for o in operands)
    if is_plain(i.result.type) and plain and not floats:
        yield e.assign(i, _plain_arithmetic(e, i, operands))
        return
    name = _CALLS.get(i.opcode, i.opcode)
    if i.opcode == "div" and not i.kind.is_float:
        name = "floordiv"
    arguments = ", ".join(e.register(operand) for operand in operands)
    yield from into_register(e, i, f"vm_{name}", arguments)


def _plain_arithmetic(e: Emitter, i: elementwise.Elementwise, operands: list[Any]) -> str:
    texts = [e.plain(operand) for operand in operands]
    opcode, kind = i.opcode, i.kind
    if opcode in _INFIX:
        return f"{texts[0]} {_INFIX[opcode]} {texts[1]}"
    if opcode in _PREFIX:
        return f"{_PREFIX[opcode]}{texts[0]}"
    if opcode == "where":
        return f"{texts[0]} ? {texts[1]} : {texts[2]}"
    if opcode in _WRAPPING and kind.kind == "unsigned":
        return f"{texts[0]} {_WRAPPING[opcode]} {texts[1]}"
    divisor = operands[1].value if len(operands) > 1 and isinstance(operands[1], Immediate) else 0
    if opcode in ("div", "mod") and divisor > 0 and divisor & (divisor - 1) == 0:
        # Shifts and masks floor, for negative numbers too.
        shift = divisor.bit_length() - 1
        return f"{texts[0]} >> {shift}" if opcode == "div" else f"{texts[0]} & {divisor - 1}"
    if opcode in ("div", "mod") and divisor > 0 and kind.kind == "unsigned":
        return f"{texts[0]} {'/' if opcode == 'div' else '%'} {texts[1]}"
    return f"vm_index_{opcode}<{NUMBERS[kind.name]}>({', '.join(texts)})"


@emits(registers.Cast)
def _cast(e: Emitter, i: registers.Cast) -> Iterator[str]:
    source = i.x.type
    if is_plain(i.result.type) and (isinstance(i.x, Immediate) or is_plain(source)):
        kinds = {source.dtype.name, i.dtype.name}
        if i.dtype.name == "bool":
            yield e.assign(i, f"{e.plain(i.x)} != 0")
        elif i.overflow == "saturate" and not kinds <= {"bool", *_widening(source.dtype, i.dtype)}:
            yield e.assign(
                i, f"vm_index_cast<{NUMBERS[i.dtype.name]}, {NUMBERS[source.dtype.name]}>"
                f"({e.plain(i.x)})",
            )  # fmt: skip
        else:
            yield e.assign(i, f"({NUMBERS[i.dtype.name]}){e.plain(i.x)}")
        return
    way = {"toward_zero": "_toward_zero", "stochastic": "_stochastic"}.get(i.rounding, "")
    mode = "" if i.overflow == "saturate" else f"<vm_overflow_{i.overflow}>"
    random = "" if i.random is None else f", {e.register(i.random)}"
    yield from into_register(e, i, f"vm_cast{way}{mode}", f"{e.register(i.x)}{random}")


@emits(randomness.Philox)
def _philox(e: Emitter, i: randomness.Philox) -> Iterator[str]:
    stream = Immediate(0, U64) if i.stream is None else i.stream
    arguments = ", ".join(e.register(operand) for operand in (i.seed, i.counter, stream))
    yield from into_register(e, i, "vm_philox", arguments)


@emits(tables.Lookup)
def _lookup(e: Emitter, i: tables.Lookup) -> Iterator[str]:
    yield from into_register(e, i, "vm_lookup", f"{e.register(i.codes)}, {e.register(i.table)}")


def _widening(source: DType, target: DType) -> set[str]:
    """Both names where every value of the source is one of the target."""
    fits = target.min <= source.min and source.max <= target.max
    return {source.name, target.name} if fits else set()


@emits(lanes.ThreadIndex)
def _thread_index(e: Emitter, i: lanes.ThreadIndex) -> Iterator[str]:
    group = e.groups.get(i.scope.group)
    thread = "VM_THREAD"
    if group is not None:
        thread = group.thread() if i.scope.copies == 1 else f"{group.thread()} % {group.threads}"
    yield e.assign(i, thread)


@emits(sync.GroupIndex)
def _group_index(e: Emitter, i: sync.GroupIndex) -> Iterator[str]:
    yield e.assign(i, e.groups[i.scope.group].index(i.scope.copies))


@emits(control.Copy, lanes.Spread, lanes.Uniform)
def _copy(e: Emitter, i: Any) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(i, e.plain(i.x))
        return
    declaration, target = e.target(i)
    yield from declaration
    source = e.register(i.x)
    slots = 1 if isinstance(i.result.type, ScalarType) else i.result.type.layout.slots
    yield f"{target} = {source};" if slots > 1 or not isinstance(i.x, Immediate) else (
        f"vm_fill({target}, {source});"
    )


@emits(lanes.Undefined)
def _undefined(e: Emitter, i: lanes.Undefined) -> Iterator[str]:
    declaration, _ = e.target(i)
    yield from declaration


@emits(registers.Fill)
def _fill(e: Emitter, i: registers.Fill) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(i, e.plain(i.value))
        return
    declaration, target = e.target(i)
    yield from declaration
    yield f"vm_fill({target}, {e.register(i.value)});"


@emits(registers.View)
def _view(e: Emitter, i: registers.View) -> Iterator[str]:
    if is_plain(i.result.type):
        temporary = f"{e.name(i.result)}_register"
        yield f"{register_type(i.result.type)} {temporary};"
        yield f"vm_view({temporary}, {e.register(i.x)});"
        yield e.assign(i, f"vm_get<0>({temporary})")
        return
    declaration, target = e.target(i)
    yield from declaration
    yield f"vm_view({target}, {e.register(i.x)});"


@emits(lanes.Pick)
def _pick(e: Emitter, i: lanes.Pick) -> Iterator[str]:
    if is_plain(i.result.type):
        yield e.assign(
            i, e.plain(i.x) if is_plain(i.x.type) else f"vm_get<{i.slots[0]}>({e.name(i.x)})"
        )
        return
    declaration, target = e.target(i)
    yield from declaration
    identity = i.slots == tuple(range(i.x.type.layout.slots))
    if identity:
        yield f"{target} = {e.register(i.x)};"
    elif len(set(i.slots)) == 1 and i.x.type.layout.slots == 1:
        yield f"vm_fill({target}, {e.register(i.x)});"
    else:
        yield f"vm_pick<{', '.join(map(str, i.slots))}>({target}, {e.register(i.x)});"


@emits(lanes.Pad)
def _pad(e: Emitter, i: lanes.Pad) -> Iterator[str]:
    yield from into_register(e, i, "vm_pad", e.register(i.x))


@emits(lanes.Interleave)
def _interleave(e: Emitter, i: lanes.Interleave) -> Iterator[str]:
    yield from into_register(e, i, "vm_interleave", ", ".join(map(e.register, i.parts)))


@emits(lanes.SlotConstants)
def _slot_constants(e: Emitter, i: lanes.SlotConstants) -> Iterator[str]:
    codes = i.dtype.encode(np.asarray(i.values, i.dtype.array))
    if is_plain(i.result.type):
        yield e.assign(i, literal(Immediate(i.values[0], i.dtype)))
        return
    declaration, target = e.target(i)
    yield from declaration
    for slot, code in enumerate(codes):
        yield f"vm_set_code({target}, {slot}, 0x{int(code):x});"
