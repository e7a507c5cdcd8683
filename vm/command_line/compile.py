"""Shows what a program becomes. `vm` is its instantiated form: constants given, every operand
named, every value typed."""

from __future__ import annotations

import argparse
import sys

from vm.command_line.settings import parse_settings
from vm.errors import fail
from vm.isa.program import Module, Program, load
from vm.runtime.files import write_file

FORMS = ("vm",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--program", metavar="NAME", help="which one; needed where there are many")
    parser.add_argument("--emit", choices=FORMS, default="vm", help="the form to show")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a constant or size"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="else standard output")


def run(arguments: argparse.Namespace) -> int:
    program = chosen_program(load(arguments.file), arguments.program)
    text = str(program.instantiate(**parse_settings(arguments.set)))
    if arguments.output:
        write_file(arguments.output, text)
    else:
        sys.stdout.write(text)
    return 0


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
