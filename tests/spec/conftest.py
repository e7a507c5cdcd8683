"""Collects each `test` item of the conformance suite as one case."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from vm.isa.parse import unquote
from vm.isa.program import load
from vm.runtime.conformance_directives import Instances

SUITE = Path(__file__).parents[2] / "spec" / "conformance"
FILES = sorted(SUITE.glob("**/*.vm"))

_QUOTATION = re.compile(r'"""(?:(?!""")[\s\S])*"""')
_PROGRAM = re.compile(r"^program ", re.M)
_TEST = re.compile(r'^test ("(?:[^"\\\n]|\\.)*")', re.M)


@cache
def instances_of(file: Path) -> Instances:
    """A file of the suite, read once in a process."""
    return Instances(load(file))


def suite() -> list[tuple[Path, Instances]]:
    """All files of the suite."""
    return [(file, instances_of(file)) for file in FILES]


# Every process collects all files, but runs the tests of a few: what is in a file is found without
# parsing it.
def names_in(file: Path) -> list[str]:
    """The tests of a file."""
    return [unquote(name) for name in _TEST.findall(_unquoted(file))]


def has_programs(file: Path) -> bool:
    """Whether a file has programs."""
    return _PROGRAM.search(_unquoted(file)) is not None


def _unquoted(file: Path) -> str:
    return _QUOTATION.sub("", file.read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "conformance_test" in metafunc.fixturenames:
        cases = [(file, name) for file in FILES for name in names_in(file)]
        metafunc.parametrize(
            "conformance_test", cases, ids=[f"{file.stem}: {name}" for file, name in cases]
        )
