"""Which schedules of `programs.gemm` fit a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from programs.gemm import Schedule, group_of, stage_bytes
from programs.quantized_matmul import Form


@dataclass(frozen=True)
class Device:
    """What a schedule needs to know of a GPU.

    `shared_bytes` is what all blocks on a multiprocessor share, of which each block loses
    `reserved_bytes`.
    """

    multiprocessors: int
    shared_bytes: int
    reserved_bytes: int = 1024
    has_bulk_copies: bool = True


H100 = Device(132, 228 * 1024)

OCCUPANCIES = ((8, 2), (8, 3), (8, 4), (12, 2), (12, 3), (16, 1), (16, 2))
"""Warps of a block and blocks on a multiprocessor: 16 to 32 warps hide what they wait for."""
LEAST_STAGE = 2048
"""Bytes that one bulk copy brings at least; smaller ones cost 5 to 10 %."""


def fitting(form: Form, m: int, n: int, k: int, device: Device) -> Iterator[Schedule]:
    """The schedules whose stages fit the shared memory of a device, and that leave no warp without
    a share of K."""
    columns = 8 if m <= 8 else 16
    tiles = -(-k // group_of(form))
    for rows in (16, 32, 64):
        if rows > max(16, n):
            continue
        for warps, resident in OCCUPANCIES:
            if tiles < warps:
                continue
            one = Schedule(rows, columns, warps, resident=resident)
            span = max(1, LEAST_STAGE // stage_bytes(form, one))
            span = min(span, max(1, tiles // warps))
            room = device.shared_bytes // resident - device.reserved_bytes
            room -= warps * rows * columns * 4
            one = replace(one, span=span)
            most = min(room // (warps * (stage_bytes(form, one) + 8)), -(-tiles // (span * warps)))
            least = 1 if device.has_bulk_copies else 2
            for stages in sorted({most, -(-most // 2)}, reverse=True):
                for depth in ((64, 128) if columns == 8 else (32, 64)) if stages >= least else ():
                    yield Schedule(rows, columns, warps, stages, span, depth, resident,
                                   device.has_bulk_copies)  # fmt: skip
