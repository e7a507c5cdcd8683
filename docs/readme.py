"""Runs the commands that stand in README.md and writes what they print behind them.

    python docs/readme.py

A block that begins with ```console and `$ vm ...` is a command and its output; one that begins with
```vm and `# FILE` shows a part of that file. Times differ from run to run and are not compared.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from pathlib import Path

from vm.__main__ import run

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

_BLOCK = re.compile(r"```console\n\$ vm ([^\n]*)\n(.*?)```\n", re.DOTALL)
_TIME = re.compile(r"\d+\.\d\d s")


def output_of(command: str) -> str:
    """What `vm COMMAND` prints, standard output and errors together, run in the repository."""
    captured, before = io.StringIO(), Path.cwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
            run(shlex.split(command))
    finally:
        os.chdir(before)
    return captured.getvalue().strip("\n") + "\n"


def blocks(text: str) -> list[tuple[str, str]]:
    """The commands in a text and what is written there as their output."""
    return [(found[1], found[2]) for found in _BLOCK.finditer(text)]


def without_times(output: str) -> str:
    return _TIME.sub("0.00 s", output)


def updated(text: str) -> str:
    """The text with the output of every command as it is now, where more than times differ."""

    def replaced(found: re.Match[str]) -> str:
        output = output_of(found[1])
        if without_times(output) == without_times(found[2]):
            return found[0]
        return f"```console\n$ vm {found[1]}\n{output}```\n"

    return _BLOCK.sub(replaced, text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
