"""What README.md shows is what happens."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from vm.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
_SPECIFICATION = importlib.util.spec_from_file_location("readme", ROOT / "docs" / "readme.py")
readme = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(readme)

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = readme.blocks(TEXT)


@pytest.mark.parametrize(("command", "output"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_a_command_prints_what_is_written_behind_it(command, output):
    """After a change on purpose: python docs/readme.py."""
    assert readme.without_times(readme.output_of(command)) == readme.without_times(output)


def test_ten_wrong_programs_are_shown_and_each_is_wrong_in_its_own_way():
    shown = [output for command, output in BLOCKS if "docs/wrong_programs/" in command]
    codes = [code for output in shown for code in re.findall(r"error\[(E\d+)\]", output)]
    assert len(shown) == 10
    assert len(codes) == len(set(codes)) == 10
    files = {path.name for path in (ROOT / "docs" / "wrong_programs").glob("*.vm")}
    assert files == {command.split("/")[-1] for command, _ in BLOCKS if "wrong" in command}


def test_programs_in_the_text_are_those_in_the_file():
    program = (ROOT / "programs" / "matmul_w4a16.vm").read_text(encoding="utf-8")
    parts = re.findall(r"```vm\n(.*?)```", TEXT, re.DOTALL)
    assert parts
    assert all(part in program for part in parts)


def test_every_command_is_listed():
    assert all(f"`vm {name}" in TEXT for name in COMMANDS)
