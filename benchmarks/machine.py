"""The machine that a benchmark runs on, asked without touching the GPU in this process."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name, the target to compile for, and the driver's version."""

    name: str
    target: str
    driver: str


def first_gpu() -> Gpu:
    """Asked in a process of its own, whose context ends with it."""
    code = ("from vm.runtime import cuda; d = cuda.device(0); "
            "print(d.name, d.target, d.call('cuDriverGetVersion'), sep='|')")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           check=True, cwd=ROOT)  # fmt: skip
    return Gpu(*found.stdout.strip().split("|"))


def command_of(program: str, arguments: Sequence[str]) -> str:
    """A command line for the record: of a file outside the repository only its name is kept."""
    named = [Path(each).name if Path(each).is_absolute() else each for each in arguments]
    return f"python {program} {shlex.join(named)}"


def without_root(text: str) -> str:
    """A text with the paths of files of the repository as they stand in it."""
    return text.replace(f"{ROOT}/", "")
