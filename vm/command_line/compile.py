"""Shows what a program becomes: its instantiated form after any pass, the C++ that is emitted, and
what the toolchain makes of that."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm.command_line.settings import parse_settings
from vm.errors import fail
from vm.isa.kernel import Kernel
from vm.isa.program import Module, Program, load
from vm.runtime.files import write_file


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--program", metavar="NAME", help="which one; needed where there are many")
    parser.add_argument("--target", metavar="NAME", default="sm_80", help="such as sm_90a, gfx942")
    parser.add_argument("--emit", choices=tuple(FORMS), default="vm", help="the form to show")
    parser.add_argument("--after", metavar="PASS", help="with --emit vm: after which pass")
    parser.add_argument(
        "--assume", choices=("aligned", "none"), default="aligned",
        help="what is known of arrays: that they begin and have rows at multiples of 16 bytes",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a constant or size"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="else standard output")


def run(arguments: argparse.Namespace) -> int:
    program = chosen_program(load(arguments.file), arguments.program)
    from vm.compiler import pipeline

    width = pipeline.target(arguments.target).warp_width
    kernel = program.instantiate(warp_width=width, **parse_settings(arguments.set))
    made = FORMS[arguments.emit](kernel, arguments)
    if arguments.output and isinstance(made, bytes):
        Path(arguments.output).write_bytes(made)
    elif arguments.output:
        write_file(arguments.output, made)
    elif isinstance(made, bytes):
        sys.stdout.buffer.write(made)
    else:
        sys.stdout.write(made)
    return 0


def _vm(kernel: Kernel, arguments: argparse.Namespace) -> str:
    if arguments.after is None:
        return str(kernel)
    from vm.compiler import pipeline

    if arguments.after not in pipeline.STAGES:
        raise fail(
            "E0810", f"there is no pass {arguments.after}", None,
            fix=f"one of: {', '.join(pipeline.STAGES)}",
        )  # fmt: skip
    found = pipeline.stages(kernel, pipeline.target(arguments.target), arguments.assume)
    return str(found[arguments.after])


def _source(kernel: Kernel, arguments: argparse.Namespace) -> str:
    from vm.compiler import pipeline

    target = pipeline.target(arguments.target)
    return pipeline.compile_source(kernel, target, arguments.assume).source


def _compiled(kernel: Kernel, arguments: argparse.Namespace) -> Any:
    from vm.runtime.compiled import cubin_of

    return cubin_of(kernel, arguments.target, arguments.assume)


def _ptx(kernel: Kernel, arguments: argparse.Namespace) -> str:
    from vm.compiler import pipeline
    from vm.runtime.emulator import PRELUDE
    from vm.runtime.nvrtc import compile_cubin

    made = pipeline.compile_source(kernel, pipeline.target(arguments.target), arguments.assume)
    compiled = compile_cubin(
        made.source, arguments.target, made.manifest.kernel, (f"-I{PRELUDE}",)
    )
    return compiled.ptx


def _cubin(kernel: Kernel, arguments: argparse.Namespace) -> bytes:
    return _compiled(kernel, arguments).payload


def _sass(kernel: Kernel, arguments: argparse.Namespace) -> str:
    from vm.runtime.sass import disassemble

    return disassemble(_compiled(kernel, arguments).payload)


def _isa(kernel: Kernel, arguments: argparse.Namespace) -> str:
    from vm.compiler import pipeline
    from vm.runtime.emulator import PRELUDE
    from vm.runtime.hip import compile_code_object

    made = pipeline.compile_source(kernel, pipeline.target(arguments.target), arguments.assume)
    compiled = compile_code_object(
        made.source, arguments.target, made.manifest.kernel, (f"-I{PRELUDE}",)
    )
    return compiled.isa


def _code_object(kernel: Kernel, arguments: argparse.Namespace) -> bytes:
    from vm.runtime.compiled import code_object_of

    return code_object_of(kernel, arguments.target, arguments.assume).payload


FORMS: dict[str, Callable[[Kernel, argparse.Namespace], str | bytes]] = {
    "vm": _vm, "source": _source, "ptx": _ptx, "cubin": _cubin, "sass": _sass, "isa": _isa,
    "hsaco": _code_object,
}  # fmt: skip


def chosen_program(module: Module, name: str | None) -> Program:
    """The program of that name, or the only one; raises `VmError` E0809."""
    if name is not None:
        return module[name]
    programs = [each for each in module if each.definition.kind == "program"]
    if len(programs) != 1:
        names = ", ".join(each.name for each in programs)
        raise fail(
            "E0809", f"this file has {len(programs)} programs", None,
            fix=f"choose one with --program: {names}" if programs else "give another file",
        )  # fmt: skip
    return programs[0]
