"""The matrix of rules and tests: `python -m tests.spec.rules` prints it.

A rule is defined where it stands in bold at the beginning of a paragraph of spec/, and tested by
the `test` items of spec/conformance and of the chapters' examples that cite it. What no module of
the suite can show (the host's side, single instructions of one GPU, the suite itself) is tested by
Python tests, which cite the rule in a comment, or assert the code of a rule `Error/E0820`.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

from tests.spec.conftest import suite
from vm.errors import Source
from vm.isa.document import SPECIFICATION
from vm.isa.parse import parse_text
from vm.isa.program import Module

TESTS = Path(__file__).parents[1]
NOT_OF_A_CODE = ("test_rules.py", "test_error_codes.py")

_DEFINED = re.compile(r"^\*\*([A-Z][a-z]+/[A-Za-z0-9_.-]+?)\.\*\*", re.M)
_CITED = re.compile(r"\b[A-Z][a-z]+/[A-Za-z0-9_.-]*[A-Za-z0-9_]")
_CODE = re.compile(r'"(E0[0-9]{3})"')
_EXAMPLE = re.compile(r"^```vm\n(.*?)^```$", re.M | re.S)


def defined() -> Counter[str]:
    """Every rule of the specification, and how often it is defined (once)."""
    pages = sorted(SPECIFICATION.glob("*.md"))
    return Counter(name for page in pages for name in _DEFINED.findall(page.read_text("utf-8")))


def modules() -> list[Module]:
    """The suite and the examples of the chapters."""
    found = [instances.module for _, instances in suite()]
    for page in sorted(SPECIFICATION.glob("[0-9]*.md")):
        texts = _EXAMPLE.findall(page.read_text("utf-8"))
        found += [Module(parse_text(Source(page.name, text))) for text in texts]
    return found


@lru_cache(maxsize=1)
def cited() -> Counter[str]:
    """How many tests cite each rule. A test that asserts a code tests the rule of that code."""
    found: Counter[str] = Counter()
    for module in modules():
        for test in module.tests.values():
            origin = test.origin
            lines = source_lines(origin.source)[origin.line - 1 : origin.end_line]
            codes = set(re.findall(r'"(E0[0-9]{3})"', "\n".join(lines)))
            found.update({*test.rules, *(f"Error/{code}" for code in codes)})
    return found


@lru_cache(maxsize=64)
def source_lines(source: Source) -> list[str]:
    return source.text.split("\n")


@lru_cache(maxsize=1)
def cited_by_files() -> dict[str, list[str]]:
    """The Python tests that cite each rule. The tests of the matrix and of all examples of codes
    count for no single code."""
    rules = defined()
    found: dict[str, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        names = set(_CITED.findall(text))
        if file.name not in NOT_OF_A_CODE:
            names |= {f"Error/{code}" for code in _CODE.findall(text)}
        for rule in names & set(rules):
            found.setdefault(rule, []).append(str(file.relative_to(TESTS.parent)))
    return found


def untested() -> list[str]:
    """The rules that no test cites, in alphabetical order."""
    tested, elsewhere = cited(), cited_by_files()
    return sorted(rule for rule in defined() if not tested[rule] and rule not in elsewhere)


def main() -> None:
    tested, rules, elsewhere = cited(), defined(), cited_by_files()
    width = max(map(len, rules))
    for rule in sorted(rules):
        files = " ".join(elsewhere.get(rule, ())) if not tested[rule] else ""
        print(f"{rule:<{width}}  {tested[rule] or files or 'NONE'}")
    missing = untested()
    outside = sum(not tested[rule] for rule in rules) - len(missing)
    print(f"{len(rules)} rules: {len(rules) - len(missing) - outside} tested by the suite, "
          f"{outside} by Python tests, {len(missing)} by none")  # fmt: skip


if __name__ == "__main__":
    main()
