"""Every rule is defined once; tests cite rules that exist; rules without a test may only shrink."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from tests.spec.rules import cited, defined, untested

KNOWN = Path(__file__).with_name("untested_rules.txt")


def patterns() -> list[str]:
    """The lines of the list: names, or patterns with *, with a reason behind #."""
    lines = KNOWN.read_text(encoding="utf-8").split("\n")
    return [name for line in lines if (name := line.split("#")[0].strip())]


def test_rules_are_defined_once():
    assert [rule for rule, count in defined().items() if count > 1] == []


def test_cited_rules_exist():
    assert sorted(rule for rule in set(cited()) - set(defined())) == []


def test_rules_without_a_test_are_the_known_ones():
    missing, known = untested(), patterns()
    unknown = [rule for rule in missing if not any(fnmatchcase(rule, p) for p in known)]
    assert unknown == [], "write a test that cites these"


def test_the_list_of_untested_rules_only_shrinks():
    missing = untested()
    needless = [p for p in patterns() if not any(fnmatchcase(rule, p) for rule in missing)]
    assert needless == [], "tested now: take them out of the list"
