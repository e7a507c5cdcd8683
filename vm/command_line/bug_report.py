"""One file with everything that a report of a mistake of ours needs."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("vm", "numpy", "lark")
LARGEST_PROGRAM = 1_000_000


def write_bug_report(error: BaseException, arguments: Sequence[str]) -> Path:
    """Writes the command line, the versions, the traceback and the `.vm` files named on the command
    line to a new file; gives its path."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    parts = [
        "A mistake in vm: this file says how to see it again.",
        f"command: {' '.join(arguments)}",
        f"python {platform.python_version()} on {platform.platform()}; {packages}",
        "".join(traceback.format_exception(error)),
    ]
    for argument in arguments[1:]:
        if argument.endswith(".vm"):
            parts.append(f"==== {argument} ====\n{_beginning(argument)}")
    descriptor, path = tempfile.mkstemp(prefix="vm-bug-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts))
    return Path(path)


def _beginning(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST_PROGRAM)
    except OSError as error:
        return f"(cannot be read: {error})"
