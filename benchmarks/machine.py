"""The machine that a benchmark runs on, asked without touching the GPU in this process."""

from __future__ import annotations

import subprocess
import sys
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


def command_of(module: str) -> str:
    """The command line of this process, for the record."""
    return " ".join([f"python -m {module}", *sys.argv[1:]])
