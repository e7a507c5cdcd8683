"""Finds the mistakes in a file without running it: every program with the constants of its module,
every case with its sizes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vm.errors import Diagnostic, VmError
from vm.isa.program import load
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
        print(f"{arguments.file}: nothing wrong")
    return 1 if found else 0


def diagnose(path: str | Path) -> list[Diagnostic]:
    """What is wrong with a file: of each program and each case the first mistake, and each
    place once."""
    try:
        module = load(path)
    except VmError as error:
        return list(error.diagnostics)
    found: dict[tuple[str, object], Diagnostic] = {}

    def note(error: VmError | None) -> None:
        for each in error.diagnostics if error is not None else ():
            found.setdefault((each.code, each.origin), each)

    for program in module:
        if program.definition.kind == "program":
            try:
                program.instantiate()
            except VmError as error:
                note(error)
    for case in module.cases.values():
        note(check_case(module, case))
    return list(found.values())
