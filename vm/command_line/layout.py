"""Shows what a layout expression stands for: who holds which element, or where it lies.

  vm layout "spatial(8, 4).local(1, 2)"
  vm layout mma_m16n8k16.b --svg b.svg
  vm layout bytes --file programs/matmul_w4a16.vm
  vm layout "shared(64, 64).swizzle(3, 3, 3)" --banks --bytes 16
  vm layout "shared(64, 64).swizzle(3, 3, 3)" --banks "local(2, 1).spatial(32, 8).local(1, 8)"
  vm layout "default_layout([64, 64], 128, 8)" --sectors

Functions: local, spatial, column_local, column_spatial, replicated (also as methods), shared,
strided, packed, default_layout, dot_layout, and every fragment by its name. `f * g` is the product,
`f / g` undoes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from vm.command_line.layout_costs import bank_lines, sector_lines
from vm.errors import Source, fail
from vm.isa.dtypes import DType
from vm.isa.parse import parse_expression
from vm.isa.program import load
from vm.isa.static import Environment, NotStatic, evaluate, layout_fault
from vm.layouts import LayoutError, RegisterLayout
from vm.layouts.draw import summary, svg, text_table
from vm.layouts.memory import MemoryLayout
from vm.layouts.shared_memories import TARGETS, Banks
from vm.runtime.files import write_file

TYPICAL = ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("expression", metavar="EXPR")
    parser.add_argument("--svg", metavar="FILE", help="draw it, too; with --banks by its banks")
    parser.add_argument(
        "--banks", metavar="EXPR", nargs="?", const=TYPICAL,
        help="instead of a table, the transactions of shared memory that an access takes: EXPR are "
        "the registers that are loaded; without it, typical accesses of --bytes",
    )  # fmt: skip
    parser.add_argument(
        "--sectors", metavar="EXPR", nargs="?", const=TYPICAL,
        help="instead of a table, how wide the accesses of registers to global memory are and how "
        "many sectors they touch: EXPR is where the tile lies; without it, rows far apart",
    )  # fmt: skip
    parser.add_argument(
        "--bytes", type=int, choices=(1, 2, 4, 8, 16),
        help="of an access, for --banks and --sectors (16, or the widest possible)",
    )  # fmt: skip
    parser.add_argument("--dtype", default="f16", help="of the elements (f16)")
    parser.add_argument("--write", action="store_true", help="a store, not a load")
    parser.add_argument(
        "--target", default="nvidia",
        help="a target such as sm_80 or gfx942, or what its memory is called: "
        f"{', '.join(TARGETS)} (nvidia)",
    )  # fmt: skip
    parser.add_argument("--file", metavar="FILE", help="a .vm file whose names EXPR may use")
    parser.add_argument("--threads", type=int, default=128, help="of the block (128)")
    parser.add_argument("--warp-width", type=int, help="of the target (its own)")


def run(arguments: argparse.Namespace) -> int:
    machine = shared_memory_of(arguments.target)
    warp = arguments.warp_width or machine.warp_width
    environment = Environment(
        {}, load(arguments.file).constants if arguments.file else {},
        {
            "threads": arguments.threads,
            "warps": max(1, arguments.threads // warp),
            "warp_width": warp,
        },
    )  # fmt: skip
    value = evaluated(arguments.expression, environment)
    element = evaluated(arguments.dtype, environment)
    if not isinstance(element, DType):
        raise fail("E0803", f"--dtype {element} is no dtype", None, fix="write f16 or u4")
    parts = list(layouts_in(value))
    costs = arguments.banks is not None or arguments.sectors is not None
    if not parts:
        print(value)
    for name, layout in parts:
        if name:
            print(f"--- {name} ---")
        print(f"{layout}\n{summary(layout)}" if costs else text_table(layout))
    if costs and len(parts) != 1:
        raise one_layout(arguments.expression, parts)
    for option, lines in (("banks", bank_lines), ("sectors", sector_lines)):
        text = getattr(arguments, option)
        if text is None:
            continue
        other = evaluated(text, environment) if text != TYPICAL else None
        try:
            found = lines(parts[0][1], other, element, machine, arguments.bytes, arguments.write)
        except LayoutError as error:
            raise layout_fault(error, None) from None
        print("\n".join(found))
    if arguments.svg:
        if len(parts) != 1:
            raise one_layout(arguments.expression, parts)
        banks = arguments.banks is not None
        write_file(arguments.svg, svg(parts[0][1], banks=banks, bits=element, target=machine))
        print(f"drawn in {arguments.svg}")
    return 0


def one_layout(expression: str, parts: list[tuple[str, Any]]) -> Exception:
    """What to raise where one layout was wanted and there are others, or none."""
    names = ", ".join(f"{expression}.{name}" for name, _ in parts)
    return fail(
        "E0803", f"one layout is wanted, {len(parts)} are there", None,
        fix=f"choose one: {names}" if parts else "see vm layout --help",
    )  # fmt: skip


def shared_memory_of(name: str) -> Banks:
    """The shared memory of a target; raises E0902 for a target that is not there."""
    if name in TARGETS:
        return TARGETS[name]
    from vm.compiler.pipeline import target

    return TARGETS[target(name).banks]


def evaluated(text: str, environment: Environment) -> Any:
    """The value of an expression on the command line."""
    expression = parse_expression(Source("<command line>", text))
    try:
        return evaluate(expression, environment)
    except NotStatic as error:
        raise fail(
            "E0203", f"`{error.name}` is an instruction, not a layout", error.origin, "here",
            fix="see vm layout --help",
        ) from None  # fmt: skip


def layouts_in(value: Any) -> Iterator[tuple[str, RegisterLayout | MemoryLayout]]:
    """The layouts of a value: itself, or those of a fragment or dot layout by their names."""
    if isinstance(value, (RegisterLayout, MemoryLayout)):
        yield "", value
        return
    if hasattr(value, "operands"):
        yield from value.operands.items()
    elif is_dataclass(value) and not isinstance(value, DType):
        for item in fields(value):
            part = getattr(value, item.name)
            if isinstance(part, (RegisterLayout, MemoryLayout)):
                yield item.name, part
