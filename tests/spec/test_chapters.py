"""Examples of the chapters run; the grammar in the text format chapter is the parser's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.errors import Source
from vm.isa.document import SPECIFICATION
from vm.isa.parse import parse_text
from vm.isa.program import Module
from vm.runtime.conformance import FAIL, run_test
from vm.runtime.conformance_directives import FRAME, Instances

CHAPTERS = sorted(SPECIFICATION.glob("[0-9]*.md"))


def blocks(chapter: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", chapter.read_text("utf-8"), re.M | re.S)


EXAMPLES = [
    pytest.param(chapter.name, text, id=f"{chapter.stem} {number}")
    for chapter in CHAPTERS
    for number, text in enumerate(blocks(chapter, "vm"), 1)
]


@pytest.mark.parametrize(("chapter", "text"), EXAMPLES)
def test_example_is_valid_and_passes(chapter, text):
    module = Module(parse_text(Source(chapter, text)))
    for program in module:
        program.instantiate()
    assert module.tests
    instances = Instances(module)
    for test in module.tests.values():
        failed = [r.reason for r in run_test(instances, test, "reference") if r.status == FAIL]
        assert not failed, "\n".join(failed)


def test_there_are_ten_chapters_and_most_have_examples():
    assert [chapter.name[:2] for chapter in CHAPTERS] == [f"{n:02}" for n in range(10)]
    assert len({example.values[0] for example in EXAMPLES}) >= 7


def test_the_grammar_in_the_text_is_the_parsers():
    grammar = Path(SPECIFICATION.parent, "vm", "isa", "grammar.lark").read_text("utf-8")
    chapter = SPECIFICATION / "08-text-format.md"
    assert blocks(chapter, "lark") == [grammar]
    assert blocks(chapter, "vm-frame") == [FRAME]


def test_links_between_pages_lead_somewhere():
    for page in SPECIFICATION.glob("*.md"):
        for target in re.findall(r"\]\(([\w-]+\.md)", page.read_text("utf-8")):
            assert (SPECIFICATION / target).exists(), f"{page.name} links to {target}"
