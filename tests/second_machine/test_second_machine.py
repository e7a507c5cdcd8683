"""The second machine, written from spec/ alone, passes the export of the suite."""

from __future__ import annotations

import re
from pathlib import Path

from tests.second_machine import machine, run
from vm.runtime.conformance_export import export

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def test_passes_whatever_it_can_run(tmp_path):
    # Tests rule Text/export.
    export(ROOT / "spec" / "conformance", tmp_path)
    counts, failures = run.run(tmp_path)
    assert failures == []
    assert counts["pass"] > 3_000


def test_a_wrong_rule_is_found(tmp_path, monkeypatch):
    export(ROOT / "spec" / "conformance" / "numbers.vm", tmp_path)
    assert run.run(tmp_path)[1] == []
    monkeypatch.setattr(machine, "philox_word", lambda seed, stream, word: 0)
    _, failures = run.run(tmp_path)
    assert failures and all("random" in failure for failure in failures)


def test_it_is_small():
    """The interpreter; run.py reads the export and compares."""
    files = ("machine.py", "numbers.py")
    assert sum(len((HERE / file).read_text("utf-8").split("\n")) - 1 for file in files) <= 700


def test_it_is_a_machine_of_its_own():
    for file in ("machine.py", "numbers.py", "run.py"):
        text = (HERE / file).read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) vm\b", text, re.M)
