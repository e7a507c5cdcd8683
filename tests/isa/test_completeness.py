"""Every instruction is whole: meaning, checks, a test program; and no other file names it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.isa.instruction_cases import PROGRAMS
from vm.isa.control import walk
from vm.isa.instruction import INSTRUCTIONS, Attribute, Instruction, Operand
from vm.isa.program import parse

ISA = Path(__file__).parents[2] / "vm" / "isa"
# These handle instructions by their descriptions alone.
GENERIC = (
    "grammar.lark", "parse.py", "printer.py", "kernel.py", "instantiate.py", "bind_arguments.py",
    "instruction.py", "verify.py", *sorted(path.name for path in ISA.glob("builder*.py")),
)  # fmt: skip
# Words of the language: control and `and`, `or`, `not` are written with them, and `where` is the
# word before the facts of a program as well as an instruction.
LANGUAGE = {"if", "for", "while", "group", "var", "return", "and", "or", "not", "where"}


@pytest.fixture(params=sorted(INSTRUCTIONS))
def kind(request) -> type[Instruction]:
    return INSTRUCTIONS[request.param]


def test_it_says_what_it_means(kind):
    assert kind.__doc__
    assert kind.__doc__ != Instruction.__doc__
    assert kind.__doc__.strip().endswith(".")


def test_it_checks_and_runs(kind):
    assert kind.check is not Instruction.check
    assert kind.run is not Instruction.run


def test_its_fields_can_be_called(kind):
    names = list(kind.fields)
    repeated = [n for n, f in kind.fields.items() if isinstance(f, Operand) and f.repeated]
    assert len(repeated) <= 1
    assert all(name.isidentifier() for name in names)
    for item in kind.fields.values():
        if isinstance(item, Attribute) and item.choices:
            assert item.required or item.default in item.choices


def test_it_has_a_program_that_uses_it(kind):
    module = parse(PROGRAMS[kind.opcode])
    (program,) = module
    kernel = program.instantiate()
    assert any(isinstance(instruction, kind) for instruction in walk(kernel.body))
    # The kernel is a program too, and means the same.
    assert parse(f"vm 1\n{kernel}")[kernel.name].instantiate() == kernel
    assert parse(f"vm 1\n{kernel.text}")[kernel.name].instantiate().text == kernel.text


def test_there_is_no_program_for_what_does_not_exist():
    assert set(PROGRAMS) == set(INSTRUCTIONS)


@pytest.mark.parametrize("file", GENERIC)
def test_the_machinery_names_no_instruction(file):
    text = (ISA / file).read_text()
    opcodes = set(INSTRUCTIONS) - LANGUAGE
    if file.endswith(".lark"):
        named = set(re.findall(r'"([^"\n]*)"', text))
    else:
        named = {
            node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    assert not named & opcodes
