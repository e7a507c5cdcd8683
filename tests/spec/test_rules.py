"""Every rule is defined once and tested, by the suite or else by a Python test that cites it."""

from __future__ import annotations

from tests.spec.rules import cited, defined, untested


def test_rules_are_defined_once():
    assert [rule for rule, count in defined().items() if count > 1] == []


def test_cited_rules_exist():
    assert sorted(rule for rule in set(cited()) - set(defined())) == []


def test_every_rule_has_a_test():
    assert untested() == [], "write a test that cites these"
