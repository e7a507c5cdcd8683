"""Finds the mistakes in a file without running it: every constant and layout, every program with
the constants of its module, every case with its sizes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vm.errors import Diagnostic, VmError, fail
from vm.isa import control, syntax
from vm.isa.kernel import Kernel
from vm.isa.program import Module, load
from vm.isa.static import Environment, NotStatic
from vm.runtime.cases import check_case


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument(
        "--json", action="store_true", help="the mistakes as JSON on standard output, for editors"
    )


def run(arguments: argparse.Namespace) -> int:
    found = diagnose(arguments.file)
    if arguments.json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    elif found:
        print("\n\n".join(each.render() for each in found), file=sys.stderr)
    else:
        print(f"{arguments.file}: no mistakes found")
    return 1 if found else 0


def diagnose(path: str | Path) -> list[Diagnostic]:
    """What is wrong with a file: of each constant, program and case the first mistake, and each
    place once."""
    try:
        module = load(path)
    except VmError as error:
        return list(error.diagnostics)
    found: dict[tuple[str, object], Diagnostic] = {}

    def note(error: VmError | None) -> None:
        for each in error.diagnostics if error is not None else ():
            found.setdefault((each.code, each.origin), each)

    widths: set[int] = set()
    for program in module:
        if program.definition.kind == "program":
            try:
                widths |= _warps(program.instantiate())
            except VmError as error:
                note(error)
    faulty: set[str] = set()
    for name, constant in module.constants.items():
        used = {n.text for n in syntax.walk(constant.value) if isinstance(n, syntax.Name)}
        fault = None if used & faulty else _constant_fault(module, constant, widths)
        note(fault)
        if fault is not None or used & faulty:  # what uses it has the same fault
            faulty.add(name)
    for case in module.cases.values():
        note(check_case(module, case))
    return list(found.values())


def _warps(kernel: Kernel) -> set[int]:
    """How many warps the block and its groups have: layouts may differ by it."""
    groups = (each for each in control.walk(kernel.body) if isinstance(each, control.Group))
    return {max(1, kernel.threads // kernel.warp_width), *(group.warps for group in groups)}


def _constant_fault(module: Module, constant: syntax.Constant, widths: set[int]) -> VmError | None:
    """What is wrong with a constant, or with a layout for every number of warps that runs here."""
    if constant.kind == "layout" and not widths:
        return None  # no program says how many warps it is for
    fault = None
    for warps in sorted(widths or {1}):
        environment = Environment({}, module.constants).with_context(
            threads=32 * warps, warps=warps, warp_width=32
        )
        try:
            environment.lookup(constant.name, constant.origin)
            return None
        except VmError as error:
            fault = fault or error
        except NotStatic as error:
            return fail(
                "E0203", f"`{error.name}` cannot stand in a constant", error.origin,
                "an instruction", fix="write its value, or compute it in the program",
            )  # fmt: skip
    return fault
