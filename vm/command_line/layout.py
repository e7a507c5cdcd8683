"""Shows what a layout expression stands for: who holds which element, or where it lies.

  vm layout "spatial(8, 4).local(1, 2)"
  vm layout mma_m16n8k16.b --svg b.svg
  vm layout bytes --file programs/matmul_w4a16.vm
  vm layout "shared(64, 64).swizzle(3, 3, 3)" --banks "spatial(32, 1).local(1, 8)"

Functions: local, spatial, column_local, column_spatial, replicated (also as methods), shared,
strided, packed, default_layout, dot_layout, and every fragment by its name. `f * g` is the product,
`f / g` undoes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from vm.errors import Source, fail
from vm.isa.dtypes import DType
from vm.isa.parse import parse_expression
from vm.isa.program import load
from vm.isa.static import Environment, NotStatic, evaluate, layout_fault
from vm.layouts import LayoutError, RegisterLayout
from vm.layouts.banks import TARGETS, bank_conflicts
from vm.layouts.draw import svg, text_table
from vm.layouts.memory import MemoryLayout
from vm.runtime.files import write_file


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("expression", metavar="EXPR")
    parser.add_argument("--svg", metavar="FILE", help="draw it, too")
    parser.add_argument(
        "--banks", metavar="EXPR",
        help="count the bank conflicts of moving EXPR through this layout: one of the two is "
        "of registers, the other of shared memory",
    )  # fmt: skip
    parser.add_argument("--dtype", default="f16", help="of the elements, for --banks (f16)")
    parser.add_argument("--write", action="store_true", help="--banks of a store, not a load")
    parser.add_argument("--target", choices=tuple(TARGETS), default="nvidia", help="for --banks")
    parser.add_argument("--file", metavar="FILE", help="a .vm file whose names EXPR may use")
    parser.add_argument("--threads", type=int, default=128, help="of the block (128)")
    parser.add_argument("--warp-width", type=int, default=32, help="of the target (32)")


def run(arguments: argparse.Namespace) -> int:
    environment = Environment(
        {}, load(arguments.file).constants if arguments.file else {},
        {
            "threads": arguments.threads,
            "warps": max(1, arguments.threads // arguments.warp_width),
            "warp_width": arguments.warp_width,
        },
    )  # fmt: skip
    value = evaluated(arguments.expression, environment)
    parts = list(layouts_in(value))
    if not parts:
        print(value)
    for name, layout in parts:
        if name:
            print(f"--- {name} ---")
        print(text_table(layout))
    if arguments.svg:
        if len(parts) != 1:
            raise fail(
                "E0803", f"{len(parts)} layouts cannot be one picture", None,
                fix="choose one: " + ", ".join(f"{arguments.expression}.{n}" for n, _ in parts),
            )  # fmt: skip
        write_file(arguments.svg, svg(parts[0][1]))
        print(f"drawn in {arguments.svg}")
    if arguments.banks:
        other = evaluated(arguments.banks, environment)
        element = evaluated(arguments.dtype, environment)
        print(conflicts(value, other, element, arguments.target, arguments.write))
    return 0


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


def conflicts(first: Any, second: Any, element: Any, target: str, write: bool) -> str:
    """The report of a simulated access; raises `VmError` E0301, E0803."""
    register, memory = (first, second) if isinstance(first, RegisterLayout) else (second, first)
    if not isinstance(register, RegisterLayout) or not isinstance(memory, MemoryLayout):
        raise fail(
            "E0803", "--banks needs a layout of registers and one of shared memory", None,
            fix='such as vm layout "shared(64, 64)" --banks "spatial(32, 1).local(1, 8)"',
        )  # fmt: skip
    if not isinstance(element, DType):
        raise fail("E0803", f"--dtype {element} is no dtype", None, fix="write f16 or u4")
    if register.shape != memory.shape:
        raise fail(
            "E0304", f"a register layout of {list(register.shape)} for a tile of "
            f"{list(memory.shape)}", None, fix="give layouts of one shape",
        )  # fmt: skip
    try:
        return str(bank_conflicts(memory, register, element, target=target, write=write))
    except LayoutError as error:
        raise layout_fault(error, None) from None
