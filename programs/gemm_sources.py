"""Where the workers of a block have their weights from.

Stages in shared memory, which the copy engine or threads fill ahead, or registers, which take the
next piece when one is used up. The *pieces* of a stage are its tiles, by their numbers, "scale" and
"zero".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from programs.gemm_tiling import Tiling, bytes_of_rows, times
from vm.isa.builder import Builder

Place = Callable[[Any], tuple[Any, Any]]
"""For a stage of a worker: the tile of rows, and which stage along K of it."""


class Source:
    """What a worker calls, for one stage g after the other."""

    def __init__(self, b: Builder, t: Tiling, packed: Any):
        self.b, self.t, self.packed = b, t, packed

    def begin(self, w: Any, share: Any, place: Place) -> None:
        """Starts copies or loads for worker `w`, who has `share` stages."""
        self.w, self.share, self.place = w, share, place

    def slot(self, g: Any) -> Any:
        """Where stage g is, if there are several places."""

    def wait(self, g: Any, slot: Any) -> None:
        """Until stage g is there."""

    def piece(self, key: Any, slot: Any, at: Any, count: Any, layout: Any) -> Any:
        """`count` bytes from byte `at` of a stage on, in the order of a layout."""
        raise NotImplementedError

    def used_up(self, key: Any, g: Any) -> None:
        """A piece of stage g has been multiplied."""

    def release(self, g: Any, slot: Any) -> None:
        """All of stage g has been multiplied."""


class Ring(Source):
    """A ring of stages for each worker, filled by `fill`."""

    def __init__(self, b: Builder, t: Tiling, packed: Any):
        super().__init__(b, t, packed)
        ring = b.shared_alloc(b.u8, [t.WARPS, t.STAGES, t.STAGE])
        self.ring = ring

    def fill(self, slot: Any, n: Any, step: Any) -> None:
        """Starts the copies of a stage."""
        raise NotImplementedError

    def slot(self, g: Any) -> Any:
        slot = g % self.t.STAGES
        return slot  # by that name in the text

    def piece(self, key: Any, slot: Any, at: Any, count: Any, layout: Any) -> Any:
        held = self.b.load(self.ring[self.w, slot, at:+count], layout=layout)
        return held


class BulkRing(Ring):
    """A stage is one copy of the copy engine, and an mbarrier says when it is there."""

    def __init__(self, b: Builder, t: Tiling, packed: Any):
        super().__init__(b, t, packed)
        full = b.mbarrier_alloc([t.WARPS, t.STAGES])
        self.full = full

    def fill(self, slot: Any, n: Any, step: Any) -> None:
        full = self.full[self.w, slot]
        self.b.mbarrier_expect(full, self.t.STAGE)
        self.b.copy_bulk(self.ring[self.w, slot], self.packed[n, step], full)

    def begin(self, w: Any, share: Any, place: Place) -> None:
        super().begin(w, share, place)
        for s in self.b.range(self.t.STAGES, unroll="full"):
            with self.b.if_(s < share):
                self.fill(s, *place(s))

    def wait(self, g: Any, slot: Any) -> None:
        self.b.mbarrier_wait(self.full[self.w, slot], g // self.t.STAGES % 2)

    def release(self, g: Any, slot: Any) -> None:
        self.b.synchronize()  # all lanes have read the stage
        with self.b.if_(g + self.t.STAGES < self.share):
            self.fill(slot, *self.place(g + self.t.STAGES))


class ThreadRing(Ring):
    """Each thread copies its part of a stage, and waits for those of all."""

    def fill(self, slot: Any, n: Any, step: Any) -> None:
        b, t, w = self.b, self.t, self.w
        # Apart, so that threads share the weights evenly, 16 bytes at a time.
        b.copy_async(self.ring[w, slot, 0 : +t.scales_at], self.packed[n, step, 0 : +t.scales_at])
        if t.form.group:
            beside = t.STAGE - t.scales_at
            b.copy_async(self.ring[w, slot, t.scales_at : +beside],
                         self.packed[n, step, t.scales_at : +beside])  # fmt: skip

    def begin(self, w: Any, share: Any, place: Place) -> None:
        super().begin(w, share, place)
        for s in self.b.range(self.t.STAGES - 1, unroll="full"):
            with self.b.if_(s < share):
                self.fill(s, *place(s))
            self.b.commit_async()

    def wait(self, g: Any, slot: Any) -> None:
        self.b.wait_async(self.t.STAGES - 2)
        self.b.synchronize()
        ahead = g + self.t.STAGES - 1
        with self.b.if_(ahead < self.share):
            self.fill(ahead % self.t.STAGES, *self.place(ahead))
        self.b.commit_async()


class Registers(Source):
    """Each lane holds its part of one stage, and asks for that of the next piece by piece, as soon
    as those of the present one are multiplied."""

    def begin(self, w: Any, share: Any, place: Place) -> None:
        super().begin(w, share, place)
        b, t = self.b, self.t
        self.pieces = {tile: (times(tile, t.TILE), t.TILE, t.bytes) for tile in range(t.parts)}
        if t.form.group:
            self.pieces["scale"] = t.scales_at, t.scale_bytes, bytes_of_rows(b, t.scale_bytes // 8)
        if t.form.group and t.form.zero_point:
            self.pieces["zero"] = t.zeros_at, t.ROWS, bytes_of_rows(b, t.ROWS // 8)
        self.registers = {
            key: b.var(b.register(b.u8, layout=layout)[count], b.fill(0))
            for key, (_, count, layout) in self.pieces.items()
        }
        for key in self.pieces:
            self.ask_for(key, 0)

    def ask_for(self, key: Any, g: Any) -> None:
        """Loads a piece of stage g."""
        at, count, layout = self.pieces[key]
        with self.b.if_(self.share > g):
            n, step = self.place(g)
            self.registers[key].assign(self.b.load(self.packed[n, step, at:+count], layout=layout))

    def piece(self, key: Any, slot: Any, at: Any, count: Any, layout: Any) -> Any:
        return self.registers[key]

    def used_up(self, key: Any, g: Any) -> None:
        self.ask_for(key, g + 1)
