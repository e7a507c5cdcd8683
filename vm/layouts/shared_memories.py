"""The shared memories of targets: their banks, and the order in which they serve a warp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vm.layouts.errors import LayoutError

Phases = tuple[tuple[int, ...], ...]


def _in_order(warp_width: int, lanes: int) -> Phases:
    return tuple(tuple(range(p, p + lanes)) for p in range(0, warp_width, lanes))


def _cdna3_wide_reads() -> Phases:
    firsts = ((0, 20), (4, 16), (8, 28), (12, 24))
    return tuple(
        tuple(half + first + lane for first in pair for lane in range(4))
        for half in (0, 32)
        for pair in firsts
    )


@dataclass(frozen=True, eq=False)
class Banks:
    """The shared memory of a target; each is one object, equal to itself alone.

    banks, word_bytes: bank of a byte address = address // word_bytes % banks. warp_width: lanes.
    reads, writes: for accesses of 16, 8 and 4 bytes per lane, the lanes of each phase; narrower
    accesses go as 4 bytes. sector_bytes: granularity of global memory. instructions: the names of
    a load and of a store of 16, 8, 4, 2 and 1 bytes per lane. matrices: whether ldmatrix is there.
    """

    name: str
    banks: int
    word_bytes: int
    warp_width: int
    reads: Mapping[int, Phases]
    writes: Mapping[int, Phases]
    sector_bytes: int
    instructions: Mapping[int, tuple[str, str]]
    matrices: bool

    def instruction(self, access_bytes: int, write: bool) -> str:
        """The name of the access of so many bytes per lane."""
        return self.instructions[access_bytes][write]


def _banks(
    name: str,
    banks: int,
    warp_width: int,
    sector_bytes: int,
    instructions: Mapping[int, tuple[str, str]],
    wide_reads: Phases | None = None,
    matrices: bool = False,
) -> Banks:
    phases = {width: _in_order(warp_width, banks * 4 // width) for width in (4, 8, 16)}
    reads = {**phases, 16: wide_reads or phases[16]}
    return Banks(
        name, banks, 4, warp_width, MappingProxyType(reads), MappingProxyType(phases),
        sector_bytes, MappingProxyType(dict(instructions)), matrices,
    )  # fmt: skip


_PTX = {
    width: (f"ld.shared.{kind}", f"st.shared.{kind}")
    for width, kind in ((16, "v4.b32"), (8, "v2.b32"), (4, "b32"), (2, "b16"), (1, "b8"))
}
_DS = {
    16: ("ds_read_b128", "ds_write_b128"),
    8: ("ds_read_b64", "ds_write_b64"),
    4: ("ds_read_b32", "ds_write_b32"),
    2: ("ds_read_u16", "ds_write_b16"),
    1: ("ds_read_u8", "ds_write_b8"),
}


# NVIDIA: quarter, half and whole warps for 16, 8 and 4 bytes. CDNA3: the phases of ds_read_b128
# are not in lane order (Composable Kernel, "Understanding AMD GPU LDS and bank conflicts").
# CDNA4 has 64 banks by the same page; that its phases are in lane order is our assumption.
TARGETS: Mapping[str, Banks] = MappingProxyType(
    {
        row.name: row
        for row in (
            _banks("nvidia", 32, 32, 32, _PTX, matrices=True),
            _banks("amd_cdna3", 32, 64, 64, _DS, _cdna3_wide_reads()),
            _banks("amd_cdna4", 64, 64, 64, _DS),
        )
    }
)


def banks_of(target: str | Banks) -> Banks:
    """The banks of a target by name; LayoutError for an unknown one."""
    if isinstance(target, Banks):
        return target
    if target not in TARGETS:
        raise LayoutError(f"no banks are known for {target!r}, only for {', '.join(TARGETS)}")
    return TARGETS[target]
