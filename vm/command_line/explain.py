"""What an error code means: its cause, an example that has it, and the fix. Without a code, all of
them."""

from __future__ import annotations

import argparse

from vm.isa.error_codes import CODES, FAMILIES, explanation


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", nargs="?", metavar="CODE", help="such as E0312")


def run(arguments: argparse.Namespace) -> int:
    if arguments.code is not None:
        print(explanation(arguments.code).render())
        return 0
    for family, meaning in FAMILIES.items():
        print(f"{family}: {meaning}")
        for code in sorted(code for code in CODES if code.startswith(family)):
            print(f"  {code}  {CODES[code].title}")
    return 0
