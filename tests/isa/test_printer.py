"""The laws of the text: what is printed reads back equal, and formatting settles at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.isa import generators
from vm.errors import Source
from vm.isa import syntax
from vm.isa.parse import parse_expression, parse_text
from vm.isa.printer import format_expression, format_text

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("programs/**/*.vm"), *ROOT.glob("spec/**/*.vm")])


def read(text: str) -> syntax.Text:
    return parse_text(Source("<test>", text))


@settings(deadline=None, max_examples=400)
@given(generators.expressions())
def test_every_expression_reads_back(expression):
    text = format_expression(expression)
    assert parse_expression(Source("<test>", text)) == expression


@settings(deadline=None, max_examples=100)
@given(generators.texts)
def test_every_file_reads_back_and_formatting_settles(text):
    once = format_text(text)
    again = read(once)
    assert again == text
    assert format_text(again) == once


def test_whole_numbers_stay_in_their_base():
    """What authors write as bits stays readable as bits."""
    text = "f(0x64006400, 0b1_01, -0XA, 1_000, 0x1.8p3)"
    printed = format_expression(parse_expression(Source("<test>", text)))
    assert printed == "f(0x64006400, 0b101, -0xa, 1000, 12.0)"
    assert format_expression(parse_expression(Source("<test>", printed))) == printed


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_every_program_of_the_repository_reads_back(file):
    tree = read(file.read_text())
    once = format_text(tree)
    again = read(once)
    assert again == tree
    assert format_text(again) == once
