"""The generated pages are what the classes say, with rules for every instruction and code."""

from __future__ import annotations

from vm.isa.document import PAGES, SPECIFICATION, stale_pages
from vm.isa.error_codes import CODES
from vm.isa.instruction import INSTRUCTIONS


def test_generated_pages_are_fresh():
    assert stale_pages() == [], "run python -m vm.isa.document"


def test_every_instruction_and_code_has_its_rules():
    text = "".join((SPECIFICATION / name).read_text(encoding="utf-8") for name in PAGES)
    for opcode in INSTRUCTIONS:
        assert f"**Exec/{opcode}.**" in text
    for code in CODES:
        assert f"**Error/{code}.**" in text
