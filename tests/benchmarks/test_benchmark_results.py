"""The committed result files, and the tables in Markdown that come from them."""

import re
from pathlib import Path

import pytest

from benchmarks.insert import RESULTS, refreshed, select, table
from benchmarks.problem import Point, WeightType, norm_bound
from benchmarks.report import Result

FILES = [
    path for path in sorted(RESULTS.glob("*.json"))
    if '"read_variants"' in path.read_text() and not path.stem.endswith("-cases")
]  # fmt: skip
ROOT = RESULTS.parents[1]
PAGES = [*sorted(RESULTS.parent.glob("*.md")), ROOT / "README.md", ROOT / "spec/07-numerics.md"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_result_is_complete_and_consistent(path):
    result = Result.read(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result.date)
    assert result.rows
    assert result.read_bytes_per_second == max(result.read_variants.values())
    assert result.f16_flops_per_second == max(result.f16_variants.values())
    for row in result.rows:
        point = Point(row.shape, WeightType.parse(row.weight), row.m)
        assert (row.n, row.k, row.bytes, row.flops) == (point.n, point.k, point.bytes, point.flops)
        ceilings = (result.read_bytes_per_second, result.f16_flops_per_second)
        assert row.floor_us == pytest.approx(point.floor_us(*ceilings), rel=1e-12)
        assert row.floor_us <= row.us_low <= row.us <= row.us_high
        assert 0 < row.relative_error <= norm_bound(result.activation)
        assert row.calls % row.copies == 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_in_markdown_are_those_of_the_files(path):
    assert refreshed(path.read_text()) == path.read_text()


def test_a_stale_table_is_replaced_and_the_rest_is_kept():
    page = Path(RESULTS.parent / "notes.md").read_text()
    stale = re.sub(r"\| 8192x8192 \| u4 .*\n", "", page)
    assert stale != page
    assert refreshed(stale) == page


def test_rows_are_selected_by_every_word():
    rows = Result.read(RESULTS / "h100-widths.json").rows
    chosen = select(rows, ["weight=u1,u2", "m=8", "peer=humming"])
    assert [(row.weight, row.m, row.peer) for row in chosen] == [
        ("u1", 8, "humming"),
        ("u2", 8, "humming"),
    ]


@pytest.mark.parametrize("description", ["nothing h100-w4.json", "times h100-w4.json size=3"])
def test_what_is_no_table_is_refused(description):
    with pytest.raises(ValueError):
        table(description)
