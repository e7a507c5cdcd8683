"""The view from inside a group: threads, and the bits that each of them holds.

A value that each thread has its own of is a register tensor with layout spatial(T). A *file* is a
register tensor with layout spatial(T).local(N): N slots in each of T threads. Any register tensor
has its bits in words: per thread its slots packed from bit 0 of word 0 up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from vm.isa.dtypes import DType, dtype
from vm.isa.instruction import Attribute, Instruction, Operand, describe
from vm.isa.packing import pack_rows, unpack_rows
from vm.isa.registers import exact_codes, given_layout
from vm.isa.types import CONSTANT_DTYPES, Immediate, RegisterType, ScalarType, Type
from vm.layouts import RegisterLayout, local, spatial

WORD = dtype("u32")


def per_thread(threads: int, kind: str = "i32") -> RegisterType:
    """The type of a value that each of `threads` threads has its own of."""
    return RegisterType(dtype(kind), (threads,), spatial(threads))


def file_layout(threads: int, slots: int) -> RegisterLayout:
    """The layout of a file: element t * slots + i is slot i of thread t."""
    return spatial(threads) * local(slots)


def like(layout: RegisterLayout, slots: int) -> RegisterLayout:
    """The layout of a file in the threads of `layout`: threads that hold copies there hold copies
    here. Where it has no copies that is `file_layout`."""
    sizes = [size for size, m in zip(layout.spatial_sizes, layout.spatial_modes, strict=True)
             if m >= 0]  # fmt: skip
    numbers = iter(range(len(sizes)))
    spatial_modes = tuple(m if m < 0 else next(numbers) for m in layout.spatial_modes)
    modes = (*sizes, slots)
    return RegisterLayout((prod(modes),), modes, spatial_modes, (len(sizes),))


def words_of(type_: RegisterType) -> int:
    """How many 32-bit words hold a tensor in each thread."""
    return -(-type_.layout.slots * type_.dtype.bits // 32)


def holds_copies(held: RegisterLayout, wanted: RegisterLayout) -> bool:
    """Whether threads that hold copies in `wanted` hold copies in `held`. Where they need not, they
    may hold the same by what they computed, which views do not know."""
    if wanted.replication == 1:
        return True
    groups = like(wanted, 1).flat()[:, 0].tolist()
    pairs = set(zip(groups, like(held, 1).flat()[:, 0].tolist(), strict=True))
    return len(pairs) == len(set(groups))


def to_words(values: np.ndarray, type_: RegisterType) -> np.ndarray:
    """The words of a register tensor: uint32[threads, words], unused bits 0."""
    codes = exact_codes(values, type_.dtype).reshape(-1)[type_.layout.flat()]
    packed = pack_rows(codes, type_.dtype)
    rows = np.zeros((len(packed), 4 * words_of(type_)), np.uint8)
    rows[:, : packed.shape[1]] = packed
    return rows.view(np.uint32)


def from_words(words: np.ndarray, type_: RegisterType) -> np.ndarray:
    """The register tensor of some words: what `to_words` came from."""
    layout = type_.layout
    rows = np.ascontiguousarray(words).view(np.uint8)
    codes = unpack_rows(rows[:, : -(-layout.slots * type_.dtype.bits // 8)], type_.dtype,
                        layout.slots)  # fmt: skip
    result = np.zeros(layout.size, codes.dtype)
    result[layout.flat().reshape(-1)] = codes.reshape(-1)
    return type_.dtype.decode(result).reshape(type_.shape)


def values_in_words(values: np.ndarray, type_: RegisterType, words: Sequence[int]) -> np.ndarray:
    """The elements, of 8, 16 or 32 bits, that these words of each thread hold: [threads, elements],
    0 where a word goes on behind the last slot."""
    slots = _slots_of_words(type_, words)
    inside = slots < type_.layout.slots
    held = np.zeros((type_.layout.threads, len(slots)), values.dtype)
    held[:, inside] = values.reshape(-1)[type_.layout.flat()[:, slots[inside]]]
    return held


def with_words(
    values: np.ndarray, type_: RegisterType, words: Sequence[int], held: np.ndarray
) -> np.ndarray:
    """The register tensor with other elements in these words: those of `values_in_words`."""
    slots = _slots_of_words(type_, words)
    inside = slots < type_.layout.slots
    result = values.reshape(-1).copy()
    result[type_.layout.flat()[:, slots[inside]]] = held[:, inside]
    return result.reshape(type_.shape)


def _slots_of_words(type_: RegisterType, words: Sequence[int]) -> np.ndarray:
    count = 32 // type_.dtype.bits
    return (np.asarray(words)[:, None] * count + np.arange(count)).reshape(-1)


def undefined(kind: DType, shape: tuple[int, ...]) -> np.ndarray:
    """What stands where nothing is defined: all bits 1, which is NaN in floats that have one."""
    return kind.decode(np.full(shape, (1 << kind.bits) - 1, kind.storage))


class ThreadIndex(Instruction, opcode="thread_index"):
    """The index of each thread within its group, from 0: i32, one in each thread."""

    def check(self) -> Type:
        return per_thread(self.scope.threads)

    def run(self, machine: Any) -> np.ndarray:
        return np.arange(self.scope.threads, dtype=np.int32)


class Undefined(Instruction, opcode="undefined"):
    """A tensor whose contents are not defined yet: a target for loads that fill it in parts."""

    dtype = Attribute("dtype")
    shape = Attribute("shape")
    layout = Attribute("layout")

    def check(self) -> Type:
        return RegisterType(self.dtype, self.shape, given_layout(self, self.shape))

    def run(self, machine: Any) -> np.ndarray:
        return undefined(self.dtype, self.shape)


class Pick(Instruction, opcode="pick"):
    """Slot k of the result is slot `slots[k]` of x, in every thread: broadcasts and permutations
    that move nothing between threads. `layout` says what the slots of the result stand for."""

    x = Operand("register")
    slots = Attribute("shape")
    layout = Attribute("layout")

    def check(self) -> Type:
        source = require_layout(self, "x")
        require_register_layout(self)
        if len(self.slots) != self.layout.slots or source.threads != self.layout.threads:
            raise self.refuse(
                "E0304", f"{len(self.slots)} slots of {source.threads} threads for {self.layout}",
                "layout", "this layout", fix="give as many slots as the layout has",
            )  # fmt: skip
        if any(not 0 <= slot < source.slots for slot in self.slots):
            raise self.refuse(
                "E0305", f"x has slots 0 to {source.slots - 1}", "slots", "outside",
                fix="name slots that are there",
            )  # fmt: skip
        return RegisterType(self.x.type.dtype, self.layout.shape, self.layout)

    def run(self, machine: Any) -> np.ndarray:
        held = machine.value(self.x).reshape(-1)[self.x.type.layout.flat()]
        result = np.zeros(self.layout.size, held.dtype)
        result[self.layout.flat().reshape(-1)] = held[:, list(self.slots)].reshape(-1)
        return result.reshape(self.layout.shape)


class Pad(Instruction, opcode="pad"):
    """The slots of x, and behind them others in which nothing is defined yet. `layout` says what
    the slots of the result stand for."""

    x = Operand("register")
    layout = Attribute("layout")

    def check(self) -> Type:
        source = require_layout(self, "x")
        require_register_layout(self)
        if self.layout.slots < source.slots or source.threads != self.layout.threads:
            raise self.refuse(
                "E0304", f"{source.slots} slots of {source.threads} threads for {self.layout}",
                "layout", "this layout", fix="give as many slots as x has, or more",
            )  # fmt: skip
        return RegisterType(self.x.type.dtype, self.layout.shape, self.layout)

    def run(self, machine: Any) -> np.ndarray:
        source = self.x.type.layout
        result = undefined(self.x.type.dtype, (self.layout.size,))
        mine = self.layout.flat()[:, : source.slots]
        result[mine.reshape(-1)] = machine.value(self.x).reshape(-1)[source.flat()].reshape(-1)
        return result.reshape(self.layout.shape)


class Interleave(Instruction, opcode="interleave"):
    """The slots of several tensors, which the same threads hold alike, by turns: slot n k + i of
    the result is slot k of operand i of n. `layout` says what the slots of the result stand for."""

    parts = Operand("register", repeated=True)
    layout = Attribute("layout")

    def check(self) -> Type:
        require_register_layout(self)
        if not self.parts:
            raise self.refuse("E0209", "nothing is put together", None, "no operands",
                              fix="name one or more tensors")  # fmt: skip
        first = self.parts[0].type
        if first.layout is None or any(part.type != first for part in self.parts):
            raise self.refuse(
                "E0304", "tensors of different types or layouts are put together", "parts",
                ", ".join(describe(part) for part in self.parts), fix="give all the same layout",
            )  # fmt: skip
        slots = len(self.parts) * first.layout.slots
        if self.layout.slots != slots or self.layout.threads != first.layout.threads:
            raise self.refuse(
                "E0304", f"{slots} slots of {first.layout.threads} threads for {self.layout}",
                "layout", "this layout", fix="give as many slots as the operands have together",
            )  # fmt: skip
        return RegisterType(first.dtype, self.layout.shape, self.layout)

    def run(self, machine: Any) -> np.ndarray:
        flat = self.parts[0].type.layout.flat()
        held = np.stack([machine.value(x).reshape(-1)[flat] for x in self.parts], axis=-1)
        result = np.zeros(self.layout.size, held.dtype)
        result[self.layout.flat().reshape(-1)] = held.reshape(-1)
        return result.reshape(self.layout.shape)


def require_layout(instruction: Instruction, field: str) -> RegisterLayout:
    """The layout of an operand of a machine instruction, which must be known."""
    type_ = getattr(instruction, field).type
    if type_.layout is None:
        raise instruction.refuse(
            "E0304", "a machine instruction needs to know who holds its operand", field,
            f"this is {describe(getattr(instruction, field))}", fix="give it a layout",
        )  # fmt: skip
    return type_.layout


def require_register_layout(instruction: Instruction) -> None:
    """Refuses a `layout` that is no register layout."""
    if not isinstance(instruction.layout, RegisterLayout):
        raise instruction.refuse(
            "E0304", "this is not a register layout", "layout", f"this is {instruction.layout}",
            fix="compose one from local(...) and spatial(...)",
        )  # fmt: skip


def require_per_thread(instruction: Instruction, field: str, kinds: tuple[str, ...]) -> None:
    """Refuses an operand that is not one value of one of `kinds` in each thread."""
    type_ = getattr(instruction, field).type
    fits = (
        isinstance(type_, RegisterType)
        and type_.dtype.name in kinds
        and type_.layout == spatial(instruction.scope.threads)
    )
    if not fits:
        raise instruction.refuse(
            "E0304", f"`{field}` of `{instruction.opcode}` is one {' or '.join(kinds)} per thread",
            field, f"this is {describe(getattr(instruction, field))}",
            fix=f"give it the layout spatial({instruction.scope.threads})",
        )  # fmt: skip


class Predicated(Instruction):
    """What instructions share that a thread takes part in only where its predicate holds."""

    pure = False
    predicate = Operand("register", optional=True)

    def check_predicate(self) -> None:
        if self.predicate is not None:
            require_per_thread(self, "predicate", ("bool",))

    def active(self, machine: Any) -> np.ndarray:
        """Which threads take part."""
        if self.predicate is None:
            return np.ones(self.scope.threads, np.bool_)
        return np.asarray(machine.value(self.predicate))


class Spread(Instruction, opcode="spread"):
    """A scalar as a value that each thread has its own copy of."""

    x = Operand("scalar")

    def check(self) -> Type:
        if isinstance(self.x, Immediate) and self.x.dtype is None:
            self.give_dtype("x", CONSTANT_DTYPES[type(self.x.value)])
        return per_thread(self.scope.threads, self.dtype_of(self.x).name)

    def run(self, machine: Any) -> np.ndarray:
        return np.full(self.scope.threads, machine.value(self.x), self.x.type.dtype.array)


class Uniform(Instruction, opcode="uniform"):
    """The value that every thread holds alike, as a scalar; a fault where they differ."""

    x = Operand("register")

    def check(self) -> Type:
        require_per_thread(self, "x", (self.x.type.dtype.name,))
        return ScalarType(self.x.type.dtype)

    def run(self, machine: Any) -> Any:
        value = machine.value(self.x)
        codes = exact_codes(value, self.x.type.dtype)
        if (codes != codes[0]).any():
            raise machine.trap("E0510", "threads hold different values", self, "x")
        return value[0].item()


class SlotConstants(Instruction, opcode="slot_constants"):
    """Slot k of every thread is `values[k]`."""

    values = Attribute("table")
    dtype = Attribute("dtype")
    layout = Attribute("layout")

    def check(self) -> Type:
        require_register_layout(self)
        if len(self.values) != self.layout.slots:
            raise self.refuse("E0304", f"{len(self.values)} values for {self.layout.slots} slots",
                              "values", "here", fix="one value for each slot")  # fmt: skip
        return RegisterType(self.dtype, self.layout.shape, self.layout)

    def run(self, machine: Any) -> np.ndarray:
        result = np.zeros(self.layout.size, self.dtype.array)
        held = np.broadcast_to(
            np.asarray(self.values, self.dtype.array), (self.layout.threads, self.layout.slots)
        )
        result[self.layout.flat().reshape(-1)] = held.reshape(-1)
        return result.reshape(self.layout.shape)
