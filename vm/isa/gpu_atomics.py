"""Atomic accesses of all families of GPUs, one element of each thread at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.instruction import Attribute, Operand
from vm.isa.lanes import Predicated, require_layout, require_per_thread
from vm.isa.registers import exact_codes
from vm.isa.types import Type

OPERATIONS = ("add", "max", "min", "exchange", "and", "or", "xor")


class _Atomic(Predicated):
    """What atomic accesses share. `scope` says among whom one is a single step."""

    slot = Attribute("integer", 0)
    op = Attribute("string", "add", OPERATIONS)
    plus = Attribute("integer", 0)

    def check_atomic(self, address: str, kinds: tuple[str, ...]) -> None:
        require_per_thread(self, address, kinds)
        self.check_predicate()
        if not 0 <= self.slot < require_layout(self, "x").slots:
            raise self.refuse("E0305", f"slot {self.slot}", "slot", "outside",
                              fix="name a slot that is there")  # fmt: skip

    def combine(self, machine: Any, base: Any, address: Any) -> np.ndarray:
        """Performs the access; returns the codes that were there."""
        type_ = self.x.type
        codes = exact_codes(machine.value(self.x), type_.dtype).reshape(-1)
        mine = codes[type_.layout.flat()[:, self.slot]]
        offsets = machine.value(address).astype(np.int64) + self.plus
        return machine.atomic_bytes(base, offsets, mine, type_.dtype, self.op, self.active(machine),
                                    self)  # fmt: skip

    def replaced(self, machine: Any, codes: np.ndarray) -> np.ndarray:
        """`old` with the slot replaced in every thread."""
        type_ = self.old.type
        result = exact_codes(machine.value(self.old), type_.dtype).reshape(-1).copy()
        result[type_.layout.flat()[:, self.slot]] = codes
        return type_.dtype.decode(result).reshape(type_.shape)


class AtomicGlobal(_Atomic):
    """An atomic access of global memory with a result."""

    old = Operand("register")
    base = Operand("global")
    offset = Operand("register")
    x = Operand("register")

    def check(self) -> Type:
        self.check_atomic("offset", ("i64",))
        return self.old.type

    def run(self, machine: Any) -> np.ndarray:
        return self.replaced(machine, self.combine(machine, self.base.base, self.offset))


class ReduceGlobal(_Atomic):
    """An atomic access of global memory without one."""

    base = Operand("global")
    offset = Operand("register")
    x = Operand("register")

    def check(self) -> None:
        self.check_atomic("offset", ("i64",))

    def run(self, machine: Any) -> None:
        self.combine(machine, self.base.base, self.offset)


class AtomicShared(_Atomic):
    """An atomic access of shared memory with a result."""

    old = Operand("register")
    address = Operand("register")
    x = Operand("register")

    def check(self) -> Type:
        self.check_atomic("address", ("i32",))
        return self.old.type

    def run(self, machine: Any) -> np.ndarray:
        return self.replaced(machine, self.combine(machine, None, self.address))


class ReduceShared(_Atomic):
    """An atomic access of shared memory without one."""

    address = Operand("register")
    x = Operand("register")

    def check(self) -> None:
        self.check_atomic("address", ("i32",))

    def run(self, machine: Any) -> None:
        self.combine(machine, None, self.address)
