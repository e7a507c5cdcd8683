"""Calling `vm` in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vm.__main__ import run


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status, standard output and standard error."""

    status: int
    output: str
    errors: str


class Command:
    """`vm(...)` as a function; messages are collected and not shown."""

    def __init__(self, capture: pytest.CaptureFixture[str]):
        self._capture = capture

    def __call__(self, *arguments: object) -> Outcome:
        self._capture.readouterr()
        try:
            status = run([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse, for --help and misuse
            status = leaving.code
        captured = self._capture.readouterr()
        return Outcome(status, captured.out, captured.err)
