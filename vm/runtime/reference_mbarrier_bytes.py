"""Mbarriers and bulk copies by address, one in each thread: what machine instructions do."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.isa.instruction import Instruction
from vm.isa.mbarriers import BULK_BYTES
from vm.isa.types import Value
from vm.runtime.reference_bytes import BYTE, ByteAccesses
from vm.runtime.reference_mbarriers import Mbarrier

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor

MBARRIER_BYTES = 8


class MbarrierBytes:
    """What the machine instructions of an actor ask of mbarriers.

    Addresses are bytes of the block's shared memory, one in each thread; threads that are not
    `active` take no part.
    """

    def __init__(self, actor: Actor, by_bytes: ByteAccesses):
        self.actor = actor
        self.by_bytes = by_bytes

    def make(
        self, address: np.ndarray, warps: int, active: np.ndarray, instruction: Instruction
    ) -> None:
        """Every active thread makes an mbarrier in its phase 0."""
        self.by_bytes.reach(None, address, MBARRIER_BYTES, BYTE, active, instruction)
        for place in address[active].tolist():
            made = self.actor.mbarriers.new(f"the mbarrier at byte {place}", warps)
            self.actor.block.mbarriers.places[place] = made

    def _at(self, place: int, instruction: Instruction) -> Mbarrier:
        found = self.actor.block.mbarriers.places.get(place)
        if found is None:
            raise self.actor.trap(
                "E0507", f"no mbarrier has been made at byte {place} of shared memory",
                instruction, None, "used here", fix="nv.mbarrier_init first",
            )  # fmt: skip
        return found

    def arrive(
        self, address: np.ndarray, counts: np.ndarray, active: np.ndarray,
        instruction: Instruction,
    ) -> None:  # fmt: skip
        """Every active thread arrives and expects its number of bytes."""
        for place, count in zip(address[active].tolist(), counts[active].tolist(), strict=True):
            self.actor.mbarriers.arrived(self._at(place, instruction), 1, count, instruction)

    def wait(
        self, address: np.ndarray, parity: np.ndarray, instruction: Instruction
    ) -> Generator[Any, None, None]:
        """All threads wait, for one phase."""
        places = set(zip(address.tolist(), parity.tolist(), strict=True))
        if len(places) > 1:
            raise self.actor.trap(
                "E0510", "threads wait for different phases", instruction, "address"
            )
        ((place, one),) = places
        yield from self.actor.mbarriers.waited(self._at(place, instruction), one, instruction)

    def copy(
        self, address: np.ndarray, base: Value, offset: int, barrier: np.ndarray,
        count: int, active: np.ndarray, instruction: Instruction,
    ) -> None:  # fmt: skip
        """Every active thread starts a copy of `count` bytes."""
        offsets = np.full(len(active), offset)
        for thread in np.flatnonzero(active).tolist():
            only = np.arange(len(active)) == thread
            target = self.by_bytes.reach(
                None, address, count, BYTE, only, instruction, BULK_BYTES
            )
            source = self.by_bytes.reach(base, offsets, count, BYTE, only, instruction, BULK_BYTES)

            def perform(target: Any = target, source: Any = source) -> None:
                target.tensor.write_codes(target.region, source.tensor.codes(source.region))

            self.actor.mbarriers.started(
                self._at(int(barrier[thread]), instruction), target, source, count, perform,
                instruction,
            )  # fmt: skip
