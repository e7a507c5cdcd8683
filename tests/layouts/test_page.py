"""docs/layouts.md says what is so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))

import layouts_page  # noqa: E402
import shared_accesses  # noqa: E402

PICTURES = layouts_page.pictures()


def test_the_page_is_up_to_date():
    """After a change on purpose: python docs/layouts_page.py."""
    assert layouts_page.PAGE.read_text(encoding="utf-8") == layouts_page.page()


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_up_to_date_and_shown(name):
    file = layouts_page.PICTURES / f"{name}.svg"
    assert file.read_text(encoding="utf-8") == PICTURES[name]
    assert f"(pictures/{name}.svg)" in layouts_page.TEXT


def test_no_other_pictures_lie_there():
    assert {file.stem for file in layouts_page.PICTURES.iterdir()} == set(PICTURES)


def test_conflicts_are_counted():
    """The tile of the transpose, given a layout without swizzle, is read with conflicts."""
    free = shared_accesses.shared_accesses("transpose", {"M": 64, "N": 64}, "sm_80")
    assert all(cost.transactions == cost.ideal for cost in free.values())
    (read,) = [place for place in free if place.instruction == "nv.load_shared, 4 bytes"]
    assert (free[read].accesses, free[read].transactions) == (128, 128)
    assert read.tensor.startswith("tile: shared(64, 64).swizzle")


def test_a_conflict_without_a_reason_is_no_row():
    place = shared_accesses.Place("transpose", 1, "tile", "nv.load_shared, 4 bytes", "tile")
    rows = layouts_page.with_reasons([("sm_80", place, shared_accesses.Cost(1, 2, 1))])
    with pytest.raises(KeyError):
        next(rows)
