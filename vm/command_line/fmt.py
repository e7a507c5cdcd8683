"""Rewrites .vm files in the one way they are written; comments stay. A file with mistakes in it is
left as it is. With --layouts, what inference chooses is written out too."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from vm.errors import InternalError, Source, read_source
from vm.isa.parse import STRINGS_AND_COMMENTS, parse_text
from vm.isa.printer import format_text
from vm.runtime.files import write_file


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .vm file; - is standard input")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if something would change"
    )
    parser.add_argument(
        "--layouts", action="store_true",
        help="write the layouts that are inferred, for the constants of the file",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    changed = 0
    for name in arguments.files:
        source = Source("<stdin>", sys.stdin.read()) if name == "-" else read_source(name)
        text = formatted(source, arguments.layouts)
        if arguments.check:
            if text != source.text:
                print(f"{source.name} would be rewritten")
                changed += 1
        elif name == "-":
            sys.stdout.write(text)
        elif text != source.text:
            write_file(name, text)
            print(f"{name} rewritten")
    return 1 if changed else 0


def formatted(source: Source, layouts: bool = False) -> str:
    """The text as it is to be written: the same tree, with inferred `layouts` if asked for, every
    comment. Raises `VmError` E01xx, with layouts whatever is wrong with a program."""
    tree = parse_text(source)
    if layouts:
        from vm.compiler.written_layouts import with_layouts

        tree = with_layouts(tree)
    text = format_text(tree)
    again = Source(source.name, text)
    if parse_text(again) != tree or _comments(again) != _comments(source):
        raise InternalError(f"formatting {source.name} would change what it says")
    return text


def _comments(source: Source) -> Counter[str]:
    """Every comment: what formatting may move and must not lose."""
    found = STRINGS_AND_COMMENTS.findall(source.text)
    return Counter(text.rstrip() for text in found if text.startswith("#"))
