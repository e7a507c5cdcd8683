"""The second machine, written from spec/ alone, passes the export of the suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.second_machine import machine, run
from vm.runtime.conformance_export import export

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export(ROOT / "spec" / "conformance", folder)
    return folder


def test_passes_whatever_it_can_run(exported):
    counts, failures = run.run(exported)
    assert failures == []
    assert counts["pass"] > 3_500


def test_a_wrong_rule_is_found(exported, monkeypatch):
    monkeypatch.setitem(machine.RULES, "shr", lambda kind, x, y, place: x >> min(y, 5))
    _, failures = run.run(exported)
    assert failures and all("shr" in failure for failure in failures)


def test_it_is_a_machine_of_its_own():
    for file in ("machine.py", "numbers.py", "run.py"):
        text = (HERE / file).read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) vm\b", text, re.M)
