"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line.command import Command

PROGRAMS = Path(__file__).parents[2] / "programs"


@pytest.fixture
def vm(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def programs() -> Path:
    return PROGRAMS
