"""What an error code means: its cause, an example that has it, and the fix. Without a code, all of
them. For a .vm file: why its tensors have their layouts, or how a target does its instructions."""

from __future__ import annotations

import argparse

from vm.command_line.compile import chosen_program
from vm.command_line.settings import parse_settings
from vm.errors import fail
from vm.isa.error_codes import CODES, FAMILIES, explanation
from vm.isa.kernel import Kernel
from vm.isa.program import Module, Program, load


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="CODE|FILE", help="such as E0312, or a .vm file")
    parser.add_argument(
        "--layouts", action="store_true",
        help="which layout each tensor of the file has, why, and what that costs",
    )  # fmt: skip
    parser.add_argument(
        "--selection", action="store_true",
        help="how the target does each instruction, and why it does not do it better",
    )  # fmt: skip
    parser.add_argument("--program", metavar="NAME", help="only this one of the file")
    parser.add_argument("--target", metavar="NAME", default="sm_80", help="such as sm_90a")
    parser.add_argument(
        "--assume", choices=("aligned", "none"), default="aligned",
        help="what is known of arrays: that they begin and have rows at multiples of 16 bytes",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a constant or size"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.layouts or arguments.selection:
        _explain_file(arguments)
    elif arguments.what is not None:
        print(explanation(arguments.what).render())
    else:
        for family, meaning in FAMILIES.items():
            print(f"{family}: {meaning}")
            for code in sorted(code for code in CODES if code.startswith(family)):
                print(f"  {code}  {CODES[code].title}")
    return 0


def _explain_file(arguments: argparse.Namespace) -> None:
    from vm.compiler import pipeline

    if arguments.what is None:
        raise fail("E0801", "no file is given", None, fix="vm explain FILE --selection")
    target = pipeline.target(arguments.target)
    for program in _programs(load(arguments.what), arguments.program):
        kernel = program.instantiate(
            warp_width=target.warp_width, **parse_settings(arguments.set)
        )
        if arguments.layouts:
            print(f"program {program.name}: layouts\n{layouts_of(kernel)}\n")
        if arguments.selection:
            text = selection_of(kernel, target.name, arguments.assume)
            print(f"program {program.name} for {target.name}\n{text}\n")


def _programs(module: Module, name: str | None) -> list[Program]:
    if name is not None:
        return [chosen_program(module, name)]
    return [each for each in module if each.definition.kind == "program"]


def layouts_of(kernel: Kernel) -> str:
    """Each register tensor with its layout and the reason for it."""
    from vm.compiler.layout_explanation import explain_layouts

    return "\n".join(map(str, explain_layouts(kernel)))


def selection_of(kernel: Kernel, target_name: str, variant: str) -> str:
    """Each instruction that a rule was asked for: which one did it, and why better ones did not.

    What every target does as it is written, such as adding tensors, is left out.
    """
    from vm.compiler import pipeline

    target = pipeline.target(target_name)
    lines: dict[str, None] = {}  # once, where a loop is written out
    for choice in pipeline.lower(kernel, target, variant).choices:
        lines[f"{choice.origin.line}:{choice.origin.column} {choice.opcode}: {choice.rule}"] = None
        for rule, reason in choice.refused:
            lines[f"{choice.origin.line}:{choice.origin.column}     not {rule}: {reason}"] = None
    return "\n".join(lines)
