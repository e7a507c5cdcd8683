"""What the machine instructions of all families of GPUs share; each family has its own subclasses.

They work on the words that each thread holds (see lanes.py). A load takes the register tensor it
fills in part and gives the tensor with that part replaced. Addresses are per thread: global ones
are offsets in bytes from the beginning of a tensor, shared ones offsets in bytes from the beginning
of the block's shared memory; `plus` is added to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import dtype
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import (
    Predicated,
    from_words,
    require_layout,
    require_per_thread,
    to_words,
    values_in_words,
    with_words,
    words_of,
)
from vm.isa.registers import exact_codes
from vm.isa.types import Type
from vm.layouts import FRAGMENTS

ACCESS_BYTES = (1, 2, 4, 8, 16)
CACHES = ("default", "streaming", "no_allocate", "constant", "constant_stream")


class Access(Predicated):
    """What accesses of memory share: where in the words, how many bytes, and who takes part."""

    at = Attribute("integer", 0)
    bytes = Attribute("integer", 4)
    plus = Attribute("integer", 0)

    def check_access(self, register: str | None, address: str, kinds: tuple[str, ...]) -> None:
        require_per_thread(self, address, kinds)
        self.check_predicate()
        if self.bytes not in ACCESS_BYTES or self.at % min(self.bytes, 4):
            raise self.refuse(
                "E0209", f"an access of {self.bytes} bytes at byte {self.at}", "bytes", "here",
                fix="1, 2, 4, 8 or 16 bytes, at a multiple of that (of 4 at most)",
            )  # fmt: skip
        if register is not None:
            require_layout(self, register)
            held = 4 * words_of(getattr(self, register).type)
            if self.at < 0 or self.at + self.bytes > held:
                raise self.refuse(
                    "E0305", f"bytes {self.at} to {self.at + self.bytes - 1} of {held} in each "
                    "thread", "at", "outside", fix="stay inside the tensor's words",
                )  # fmt: skip

    def held_bytes(self, machine: Any, register: Any) -> np.ndarray:
        """The bytes that this access moves out of the words: uint8[threads, bytes]."""
        rows = to_words(machine.value(register), register.type).view(np.uint8)
        return rows[:, self.at : self.at + self.bytes]

    def with_bytes(self, machine: Any, register: Any, data: np.ndarray) -> np.ndarray:
        """The tensor with the bytes of this access replaced."""
        rows = to_words(machine.value(register), register.type).view(np.uint8).copy()
        rows[:, self.at : self.at + self.bytes] = data
        return from_words(rows, register.type)


class LoadGlobal(Access):
    """A load of 1 to 16 bytes per thread from global memory."""

    x = Operand("register")
    base = Operand("global")
    offset = Operand("register")
    cache = Attribute("string", "default", CACHES)

    def check(self) -> Type:
        self.check_access("x", "offset", ("i64",))
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        offset = machine.value(self.offset) + self.plus
        data = machine.load_bytes(self.base.base, offset, self.bytes, self.active(machine), self)
        return self.with_bytes(machine, self.x, data)


class StoreGlobal(Access):
    """A store of 1 to 16 bytes per thread to global memory."""

    base = Operand("global")
    offset = Operand("register")
    x = Operand("register")
    cache = Attribute("string", "default", CACHES[:3])

    def check(self) -> None:
        self.check_access("x", "offset", ("i64",))

    def run(self, machine: Any) -> None:
        offset = machine.value(self.offset) + self.plus
        data = self.held_bytes(machine, self.x)
        machine.store_bytes(self.base.base, offset, data, self.active(machine), self)


class LoadShared(Access):
    """A load of 1 to 16 bytes per thread from shared memory."""

    x = Operand("register")
    address = Operand("register")

    def check(self) -> Type:
        self.check_access("x", "address", ("i32",))
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        address = machine.value(self.address).astype(np.int64) + self.plus
        data = machine.load_bytes(None, address, self.bytes, self.active(machine), self)
        return self.with_bytes(machine, self.x, data)


class StoreShared(Access):
    """A store of 1 to 16 bytes per thread to shared memory."""

    address = Operand("register")
    x = Operand("register")

    def check(self) -> None:
        self.check_access("x", "address", ("i32",))

    def run(self, machine: Any) -> None:
        address = machine.value(self.address).astype(np.int64) + self.plus
        data = self.held_bytes(machine, self.x)
        machine.store_bytes(None, address, data, self.active(machine), self)


class MatrixMultiply(Instruction):
    """A matrix product of each warp: c + a * b."""

    c = Operand("register")
    a = Operand("register")
    b = Operand("register")
    fragment = Attribute("string", choices=tuple(FRAGMENTS))
    at_c = Attribute("shape")
    at_a = Attribute("shape")
    at_b = Attribute("shape")

    def check(self) -> Type:
        fragment = FRAGMENTS[self.fragment]
        for name in "abc":
            type_ = getattr(self, name).type
            require_layout(self, name)
            wanted = -(-fragment.operands[name].slots * type_.dtype.bits // 32)
            words = getattr(self, f"at_{name}")
            if len(words) != wanted or any(not 0 <= w < words_of(type_) for w in words):
                raise self.refuse(
                    "E0305", f"{self.fragment} takes {wanted} words of {name}", f"at_{name}",
                    f"{list(words)}", fix=f"name {wanted} of its {words_of(type_)} words",
                )  # fmt: skip
        return self.c.type

    def run(self, machine: Any) -> np.ndarray:
        fragment = FRAGMENTS[self.fragment]
        operands = {name: self._fragments(machine, name) for name in "abc"}
        kind = self.c.type.dtype
        wide = np.int64 if kind.is_integer else np.float64
        total = operands["a"].astype(wide) @ operands["b"].astype(wide) + operands["c"]
        if kind.is_integer:
            result = total.astype(np.int32)
        else:
            result = convert(total.astype(np.float64), dtype("f64"), kind, overflow="ieee")
        held = result.reshape(len(result), -1)[:, fragment.operands["c"].flat()]
        held = held.reshape(self.scope.threads, -1)
        return with_words(machine.value(self.c), self.c.type, self.at_c, held)

    def _fragments(self, machine: Any, name: str) -> np.ndarray:
        """The operand of each warp as a matrix: [warps, rows, columns]."""
        operand = getattr(self, name)
        layout = FRAGMENTS[self.fragment].operands[name]
        held = values_in_words(machine.value(operand), operand.type, getattr(self, f"at_{name}"))
        held = held.reshape(-1, layout.threads * layout.slots)
        matrix = np.zeros((len(held), layout.size), held.dtype)
        matrix[:, layout.flat().reshape(-1)] = held
        return matrix.reshape(-1, *layout.shape)


class ShuffleXor(Instruction):
    """An exchange between the lanes of a warp."""

    x = Operand("register")
    mask = Attribute("integer")

    def check(self) -> Type:
        require_layout(self, "x")
        if not 0 < self.mask < self.scope.warp_width:
            raise self.refuse("E0209", f"lane ^ {self.mask} leaves the warp", "mask", "here",
                              fix=f"a mask from 1 to {self.scope.warp_width - 1}")  # fmt: skip
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        layout = self.x.type.layout
        held = machine.value(self.x).reshape(-1)[layout.flat()]
        lanes = np.arange(layout.threads) ^ self.mask
        result = np.zeros(layout.size, held.dtype)
        result[layout.flat().reshape(-1)] = held[lanes].reshape(-1)
        return result.reshape(self.x.type.shape)


class Vote(Instruction):
    """What the lanes of a warp have in common."""

    x = Operand("register")
    op = Attribute("string", "any", ("any", "all"))

    def check(self) -> Type:
        require_layout(self, "x")
        if self.x.type.dtype.kind != "bool":
            raise self.refuse("E0205", "lanes vote on truth values", "x", f"this is {self.x.type}",
                              fix="compare them: x > 0")  # fmt: skip
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        layout, width = self.x.type.layout, self.scope.warp_width
        held = machine.value(self.x).reshape(-1)[layout.flat()].reshape(-1, width, layout.slots)
        found = held.any(axis=1) if self.op == "any" else held.all(axis=1)
        result = np.zeros(layout.size, np.bool_)
        result[layout.flat().reshape(-1)] = np.repeat(found, width, axis=0).reshape(-1)
        return result.reshape(self.x.type.shape)


class _BitAccess(Predicated):
    """What accesses of one element that fills no bytes share."""

    slot = Attribute("integer", 0)

    def check_bits(self) -> None:
        require_per_thread(self, "bit", ("i64",))
        self.check_predicate()
        if not 0 <= self.slot < require_layout(self, "x").slots:
            raise self.refuse("E0305", f"slot {self.slot}", "slot", "outside",
                              fix="name a slot that is there")  # fmt: skip

    def loaded(self, machine: Any, codes: np.ndarray) -> np.ndarray:
        """The tensor with the slot replaced in every thread."""
        type_ = self.x.type
        result = exact_codes(machine.value(self.x), type_.dtype).reshape(-1).copy()
        result[type_.layout.flat()[:, self.slot]] = codes
        return type_.dtype.decode(result).reshape(type_.shape)

    def stored(self, machine: Any) -> np.ndarray:
        """The code that each thread holds in the slot."""
        type_ = self.x.type
        codes = exact_codes(machine.value(self.x), type_.dtype).reshape(-1)
        return codes[type_.layout.flat()[:, self.slot]]


class LoadGlobalBits(_BitAccess):
    """A load of one element per thread from any bit of global memory."""

    x = Operand("register")
    base = Operand("global")
    bit = Operand("register")

    def check(self) -> Type:
        self.check_bits()
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        codes = machine.load_bits(self.base.base, machine.value(self.bit), self.x.type.dtype,
                                  self.active(machine), self)  # fmt: skip
        return self.loaded(machine, codes)


class StoreGlobalBits(_BitAccess):
    """A store of one element per thread to any bit of global memory."""

    base = Operand("global")
    bit = Operand("register")
    x = Operand("register")

    def check(self) -> None:
        self.check_bits()

    def run(self, machine: Any) -> None:
        machine.store_bits(self.base.base, machine.value(self.bit), self.stored(machine),
                           self.x.type.dtype, self.active(machine), self)  # fmt: skip


class LoadSharedBits(_BitAccess):
    """A load of one element per thread from any bit of shared memory."""

    x = Operand("register")
    bit = Operand("register")

    def check(self) -> Type:
        self.check_bits()
        return self.x.type

    def run(self, machine: Any) -> np.ndarray:
        codes = machine.load_bits(None, machine.value(self.bit), self.x.type.dtype,
                                  self.active(machine), self)  # fmt: skip
        return self.loaded(machine, codes)


class StoreSharedBits(_BitAccess):
    """A store of one element per thread to any bit of shared memory."""

    bit = Operand("register")
    x = Operand("register")

    def check(self) -> None:
        self.check_bits()

    def run(self, machine: Any) -> None:
        machine.store_bits(None, machine.value(self.bit), self.stored(machine),
                           self.x.type.dtype, self.active(machine), self)  # fmt: skip
