"""The matrix of rules and tests: `python -m tests.spec.rules` prints it.

A rule is defined where it stands in bold at the beginning of a paragraph of spec/, and tested by
the `test` items of spec/conformance and of the chapters' examples that cite it.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from tests.spec.conftest import suite
from vm.errors import Source
from vm.isa.document import SPECIFICATION
from vm.isa.parse import parse_text
from vm.isa.program import Module

_DEFINED = re.compile(r"^\*\*([A-Z][a-z]+/[A-Za-z0-9_.-]+?)\.\*\*", re.M)
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


def untested() -> list[str]:
    """The rules that no test cites, in alphabetical order."""
    tested = cited()
    return sorted(rule for rule in defined() if not tested[rule])


def main() -> None:
    tested, rules = cited(), defined()
    width = max(map(len, rules))
    for rule in sorted(rules):
        print(f"{rule:<{width}}  {tested[rule] or '-'}")
    missing = untested()
    print(f"{len(rules)} rules, {len(rules) - len(missing)} with tests, {len(missing)} without")


if __name__ == "__main__":
    main()
