"""The conformance files that are tables are what the exact arithmetic says."""

from __future__ import annotations

import pytest

from tests.spec.tables import FILES, SUITE


@pytest.mark.parametrize("name", FILES)
def test_table_is_fresh(name):
    text = (SUITE / name).read_text(encoding="utf-8")
    assert text == FILES[name](), "run python -m tests.spec.tables"
