"""The run from command line to file, table and picture, with times that are made up."""

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace

import pytest

from benchmarks import gemm
from benchmarks.ceilings import compile_source
from benchmarks.dry import DryLaboratory, dry_peers
from benchmarks.peers import PEERS
from benchmarks.plots import draw_all, styles
from benchmarks.problem import Point, WeightType, parse_points
from benchmarks.report import (
    Device,
    Result,
    geometric_mean,
    make_row,
    mean_table,
    spread_table,
    time_table,
)

U4 = WeightType.parse("u4")
DEVICE = Device("made up", "0", "0", 132, 1, 1)


def empty_result():
    return Result("2026-11-21", "command", DEVICE, {}, {}, seed=1)


def row(shape="8192x8192", m=1, peer="humming", us=20.0, floor_us=10.0):
    point = Point(shape, U4, m)
    timing = DryLaboratory().times([(point, PEERS["humming"])], 4)[0]
    made = make_row(point, peer, timing, floor_us, relative_error=2e-4, state="")
    return replace(
        made, us=us, us_low=0.99 * us, us_high=1.01 * us, us_first_half=us, us_second_half=1.02 * us
    )


@pytest.fixture
def dry_file(tmp_path, capsys):
    path = tmp_path / "dry.json"
    points = ["--points", "8192x8192,ll8_dn:u4:1,8,256", "--points", "8192x8192:u1,f6e3m2:1"]
    status = gemm.main(["--dry-run", "--date", "2026-11-21", "--out", str(path), *points])
    assert status == 0
    return path, capsys.readouterr().out


def test_a_dry_run_writes_every_supported_point(dry_file):
    path, printed = dry_file
    result = Result.read(path)
    points = parse_points("8192x8192,ll8_dn:u4:1,8,256") + parse_points("8192x8192:u1,f6e3m2:1")
    expected = {
        (point.shape, point.weight.name, point.m, peer.name)
        for point in points
        for peer in PEERS.values()
        if peer.supports(point)
    }
    assert {(each.shape, each.weight, each.m, each.peer) for each in result.rows} == expected
    assert len(result.rows) == len(expected)
    assert result.command.startswith("python benchmarks/gemm.py --dry-run")
    assert time_table(result.rows) in printed


def test_no_light_row_follows_a_heavy_one(dry_file):
    sizes = [each.m for each in Result.read(dry_file[0]).rows]
    heavy = [m > 64 for m in sizes]
    assert heavy == sorted(heavy)
    assert any(heavy)


def test_showing_a_file_prints_what_the_run_printed(dry_file, capsys):
    path, printed = dry_file
    assert gemm.main(["--show", str(path)]) == 0
    assert capsys.readouterr().out == printed


def test_measuring_without_a_date_or_a_file_is_refused(capsys):
    with pytest.raises(SystemExit):
        gemm.main(["--dry-run", "--out", "x.json"])
    assert "--date" in capsys.readouterr().err


@pytest.mark.parametrize("points", ["8192x8192:nf3:1", "no_shape:u4:1", "8192x8192:u4"])
def test_points_that_do_not_exist_are_refused_without_a_traceback(points, tmp_path, capsys):
    out = str(tmp_path / "x.json")
    with pytest.raises(SystemExit):
        gemm.main(["--dry-run", "--date", "x", "--out", out, "--points", points])
    assert "error: --points: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class FaultyLaboratory(DryLaboratory):
    """One peer cannot prepare; another writes a wrong output, but only after it was timed."""

    def check(self, point, peer, problem):
        if peer.name == "triton":
            raise NotImplementedError("not this width")
        return super().check(point, peer, problem)

    def poisoned_replay(self, timed, problem):
        if timed[1].name == "humming_pdl":
            raise ValueError("copy 3: norm nan")
        return 1e-4


def test_one_faulty_peer_is_recorded_and_the_others_are_timed(tmp_path):
    peers = dry_peers([PEERS[name] for name in ("humming", "humming_pdl", "triton")])
    result = empty_result()
    points = [Point("8192x8192", U4, 1)]
    gemm.run(FaultyLaboratory(), result, peers, points, 4, tmp_path / "r.json")
    assert [each.peer for each in result.rows] == ["humming"]
    assert result.rows[0].relative_error == 1e-4
    assert {each.peer: each.reason for each in result.failures} == {
        "triton": "NotImplementedError: not this width",
        "humming_pdl": "ValueError: copy 3: norm nan",
    }


def test_a_peer_that_does_not_import_is_named_with_its_reason():
    def absent():
        raise ImportError("no module of that name")

    peer = replace(PEERS["humming"], version=absent)
    found, versions, missing = gemm.available([peer, *dry_peers([PEERS["triton"]])])
    assert [each.name for each in found] == ["triton"]
    assert versions == {"triton": "dry run"}
    assert missing == {"humming": "ImportError: no module of that name"}


def test_a_result_survives_writing_and_reading(tmp_path):
    result = empty_result()
    result.rows = [row(), row(m=8)]
    result.write(tmp_path / "r.json")
    assert asdict(Result.read(tmp_path / "r.json")) == asdict(result)


@pytest.mark.parametrize(
    "change", [{"schema": 0}, {"surprise": 1}, {"rows": [{"shape": "8192x8192"}]}]
)
def test_a_file_of_another_schema_is_refused(tmp_path, change):
    path = tmp_path / "r.json"
    empty_result().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError):
        Result.read(path)


def test_time_table_leaves_unmeasured_cells_empty():
    rows = [row(), row(peer="triton", us=25.0), row(m=8, us=30.0)]
    assert time_table(rows).splitlines() == [
        "| shape | weight | M | floor us | humming | triton |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 8192x8192 | u4 | 1 | 10.00 | 20.00 (2.00) | 25.00 (2.50) |",
        "| 8192x8192 | u4 | 8 | 10.00 | 30.00 (3.00) |  |",
    ]


def test_spread_table_shows_percentages():
    assert spread_table([row()]).splitlines()[-1] == "| humming | 2.0 | 2.0 | 2.0 | 2.0 | 2.0e-04 |"


def test_means_are_only_over_complete_sets_of_shapes():
    rows = [row(us=20.0), row("ll8_dn", us=80.0), row(peer="triton")]
    table = mean_table(rows, ("8192x8192", "ll8_dn"))
    assert table.splitlines()[-1] == "| u4 | 1 | 4.00 |  |"


def test_geometric_mean():
    assert geometric_mean([1.0, 2.0, 4.0]) == pytest.approx(math.prod([1, 2, 4]) ** (1 / 3))


def test_pictures_are_svg_and_the_same_each_time(dry_file):
    path, _ = dry_file
    first = {target.name: target.read_bytes() for target in draw_all(path)}
    assert set(first) == {"dry-ratio.svg", "dry-roofline.svg"}
    for data in first.values():
        assert ElementTree.fromstring(data).tag.endswith("svg")
    assert {target.name: target.read_bytes() for target in draw_all(path)} == first


def test_a_peer_looks_the_same_in_every_picture():
    alone, together = styles([row()]), styles([row(), row(peer="triton"), row(peer="newcomer")])
    assert alone["humming"] == together["humming"]
    looks = [(style.color, style.marker) for style in together.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(("architecture", "bulk"), [("sm_80", False), ("sm_90a", True)])
def test_read_kernels_compile(architecture, bulk):
    cubin = compile_source(architecture)
    assert b"read_plain_4" in cubin
    assert b"read_plain_8" in cubin
    assert (b"read_bulk" in cubin) == bulk
