"""What `vm layout --banks` and `--sectors` say: the cost of moving a tile, as a table."""

from __future__ import annotations

from math import gcd
from typing import Any

from vm.errors import fail
from vm.isa.dtypes import DType
from vm.layouts import (
    Access,
    BankReport,
    RegisterLayout,
    default_layout,
    sectors_per_request,
    strided,
    typical_accesses,
    vector_width,
)
from vm.layouts.memory import MemoryLayout
from vm.layouts.shared_memories import Banks

TYPICAL_BYTES = 16
# What the rows of a tensor are usually aligned to, and more than a sector of any target.
ROW_BYTES = 128

HEAD = ("access", "instruction", "count", "transactions", "ideal", "conflicts")
NUMBERS = ("count", "transactions", "ideal")


def bank_lines(
    layout: Any, other: Any, element: DType, machine: Banks, width: int | None, write: bool
) -> list[str]:
    """The transactions of a given access, or of typical ones; raises `VmError` E0304, E0803 and
    `LayoutError`."""
    lines = [
        f"shared memory of {machine.name}: {machine.banks} banks of {machine.word_bytes} bytes; "
        f"elements of {element.bits} bits"
    ]
    if other is not None:
        register, memory = _pair(layout, other, "--banks")
        accesses = {"store" if write else "load": Access(register, width, write=write)}
    elif isinstance(layout, MemoryLayout):
        memory, width = layout, width or TYPICAL_BYTES
        accesses = typical_accesses(memory, element, width, machine, write=write)
        if not accesses:
            raise fail(
                "E0803", f"{memory} has no runs of {width} bytes of {element.name}", None,
                fix="give --bytes, or the registers: --banks EXPR",
            )  # fmt: skip
    else:
        raise fail(
            "E0803", "--banks of registers needs to know where the tile lies", None,
            fix='write the layout of memory, too, such as --banks "shared(64, 64)"',
        )  # fmt: skip
    rows = [HEAD]
    for name, access in accesses.items():
        rows.append((name, *_cells(access.simulate(memory, element, machine))))
    return [*lines, *_table(rows)]


def _cells(report: BankReport) -> tuple[str, ...]:
    total, ideal, worst = sum(report.transactions), sum(report.ideal), report.worst
    return (
        report.instruction,
        str(len(report.transactions)),
        str(total),
        str(ideal),
        "free of conflicts" if total == ideal else
        f"{total / ideal:.2f} times; worst: {report.transactions[worst]} instead of "
        f"{report.ideal[worst]}",
    )  # fmt: skip


def sector_lines(
    layout: Any, other: Any, element: DType, machine: Banks, width: int | None, write: bool
) -> list[str]:
    """The vector width and the sectors per request of moving registers from or to global memory;
    errors as `bank_lines`."""
    if other is not None:
        register, memory = _pair(layout, other, "--sectors")
        where = f"{other}"
    elif isinstance(layout, RegisterLayout):
        register, memory = layout, _rows_apart(layout.shape, element.bits)
        where = "memory: rows of a larger tensor"
    else:
        memory = layout
        vector = max(1, (width or TYPICAL_BYTES) * 8 // element.bits)
        register = default_layout(memory.shape, machine.warp_width, vector)
        where = f"registers: {register}"
    vector = vector_width(memory, register, element)
    touched, fewest = sectors_per_request(memory, register, element, width, machine)
    moved = width or max(1, vector * element.bits // 8)
    kind = "store" if write else "load"
    return [
        f"global memory of {machine.name}: sectors of {machine.sector_bytes} bytes; elements of "
        f"{element.bits} bits",
        where,
        f"vector width: {vector} elements, {vector * element.bits / 8:g} bytes",
        f"each {kind} of a warp, {moved} bytes a lane: {touched:g} sectors, {fewest:g} would do",
    ]


def _rows_apart(shape: tuple[int, ...], bits: int) -> MemoryLayout:
    """Row-major, with rows that begin on sectors of their own."""
    unit = ROW_BYTES * 8 // gcd(ROW_BYTES * 8, bits)
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.insert(0, (-(-strides[0] * extent // unit) + 1) * unit)
    return strided(shape, strides[: len(shape)])


def _pair(first: Any, second: Any, option: str) -> tuple[RegisterLayout, MemoryLayout]:
    register, memory = (first, second) if isinstance(first, RegisterLayout) else (second, first)
    if not isinstance(register, RegisterLayout) or not isinstance(memory, MemoryLayout):
        raise fail(
            "E0803", f"{option} needs a layout of registers and one of memory", None,
            fix=f'such as vm layout "shared(64, 64)" {option} "spatial(32, 1).local(2, 64)"',
        )  # fmt: skip
    if register.shape != memory.shape:
        raise fail(
            "E0304", f"a register layout of {list(register.shape)} for a tile of "
            f"{list(memory.shape)}", None, fix="give layouts of one shape",
        )  # fmt: skip
    return register, memory


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns under each other, numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if head in NUMBERS else cell.ljust(width)
            for cell, width, head in zip(row, widths, HEAD, strict=True)
        ).rstrip()
        for row in rows
    ]
