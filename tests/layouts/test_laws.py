"""The command that counts the laws."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.layouts.laws import is_exhaustive, is_law, words

FILES = sorted(Path(__file__).parent.glob("test_*.py"))
MODULES = [import_module(f"tests.layouts.{each.stem}") for each in FILES if "laws" not in each.stem]


def functions(keep):
    return [
        (module.__name__.split(".")[-1], name)
        for module in MODULES
        for name, value in vars(module).items()
        if name.startswith("test_") and keep(value)
    ]


def test_there_are_forty_laws_with_names_of_their_own():
    names = [words(*each) for each in functions(is_law)]
    assert len(names) == len(set(names)) >= 40
    assert "register: product is associative" in names


def test_exhaustive_tests_are_found_by_the_world_they_walk_through():
    found = {name for _, name in functions(is_exhaustive)}
    assert {"test_every_small_layout_is_its_definition",
            "test_division_finds_every_quotient_and_no_other"} <= found  # fmt: skip
    assert "test_product_is_its_definition" not in found
