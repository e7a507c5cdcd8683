"""Pictures say what the layout says, and nothing in them overlaps."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from vm.layouts import (
    FRAGMENTS,
    dot_layout,
    local,
    packed,
    register_layout,
    replicated,
    shared,
    spatial,
    svg,
    text_table,
)

LAYOUTS = [
    local(2, 1).spatial(8, 4).local(1, 2),
    FRAGMENTS["mma_m16n8k16"].a,
    FRAGMENTS["mfma_32x32x8"].c,
    dot_layout(32, 32, 16, 16, 4).b,
    register_layout(shape=[8, 4], modes=[2, 4, 4], spatial=[1, 0], local=[2]),
    local(2, 2, 2).spatial(1, 4, 4),
    spatial(8).local(3),
    replicated(4).local(),
    local(1, 200).spatial(100, 1),
    packed(FRAGMENTS["mma_m16n8k16"].b, 4),
    spatial(8, 4).local(1, 2).reduce(1),
    shared(16, 16).swizzle(2, 2, 2),
    shared(4, 4).pad(3),
]
SVG = "{http://www.w3.org/2000/svg}"

# A character of DejaVu Sans Mono is 1233/2048 of the font size wide, capitals reach 0.73 of it up.
ADVANCE, UP, DOWN = 1233 / 2048, 0.73, 0.24


def boxes(node, x=0.0, y=0.0):
    """(kind, text, left, top, right, bottom) of every text and cell, in picture coordinates."""
    shift = re.match(r"translate\((.*),(.*)\)", node.get("transform", ""))
    if shift:
        x, y = x + float(shift[1]), y + float(shift[2])
    if node.tag == SVG + "text":
        size = float(node.get("font-size"))
        width = len(node.text) * size * ADVANCE
        left = (
            x
            + float(node.get("x"))
            - {"start": 0, "middle": 0.5, "end": 1}[node.get("text-anchor")] * width
        )
        base = y + float(node.get("y"))
        yield "text", node.text, left, base - UP * size, left + width, base + DOWN * size
    elif node.tag == SVG + "rect" and node.get("x"):
        left, top = x + float(node.get("x")), y + float(node.get("y"))
        yield (
            "cell",
            "",
            left,
            top,
            left + float(node.get("width")),
            top + float(node.get("height")),
        )
    for child in node:
        yield from boxes(child, x, y)


def pictures():
    for layout in LAYOUTS:
        yield str(layout), svg(layout)
    yield "banks", svg(shared(64, 64).swizzle(3, 3, 3), banks=True)
    yield "banks of bytes", svg(shared(16, 64), banks=True, bits=8)
    yield "banks of doubles", svg(shared(8, 8), banks=True, bits=64)


PICTURES = list(pictures())
NAMES = [name[:40] for name, _ in PICTURES]


@pytest.mark.parametrize(("name", "picture"), PICTURES, ids=NAMES)
def test_nothing_overlaps(name, picture):
    root = ElementTree.fromstring(picture)
    width, height = float(root.get("width")), float(root.get("height"))
    found = list(boxes(root))
    texts = sorted((box for box in found if box[0] == "text"), key=lambda b: (b[3], b[2]))
    assert len(texts) > 2
    for _, text, left, top, right, bottom in found:
        assert left >= 0 and right <= width and top >= 0 and bottom <= height, text
    for n, (_, text, left, top, right, bottom) in enumerate(texts):
        for _, other, left_2, top_2, right_2, _ in texts[n + 1 :]:
            if top_2 >= bottom:
                break
            assert right <= left_2 or right_2 <= left, (text, other, top, top_2)


@pytest.mark.parametrize(("name", "picture"), PICTURES, ids=NAMES)
def test_text_stays_in_its_cell(name, picture):
    found = list(boxes(ElementTree.fromstring(picture)))
    checked = 0
    for (kind, _, *cell), *texts in zip(found, found[1:], found[2:], strict=False):
        for place, (_, label, left, top, right, bottom) in enumerate(texts):
            if kind == "cell" and (place == 0 or label.startswith(":")):
                assert cell[0] <= left and right <= cell[2], label
                assert cell[1] <= top and bottom <= cell[3], label
                checked += 1
    assert checked > 0


def test_a_cell_names_thread_and_slot():
    layout = FRAGMENTS["mma_m16n8k16"].a
    texts = [box[1] for box in boxes(ElementTree.fromstring(svg(layout))) if box[0] == "text"]
    tile = texts[texts.index("=") + 1 :]
    labels = [t for t in tile if t.startswith(("T", ":"))]
    want = []
    for row in range(16):
        for column in range(16):
            ((thread, slot),) = layout.inverse((row, column))
            want += [f"T{thread}", f":{slot}"]
    assert labels == want


def test_a_product_is_drawn_as_its_factors():
    texts = [b[1] for b in boxes(ElementTree.fromstring(svg(LAYOUTS[0]))) if b[0] == "text"]
    for factor in ("local(2, 1)", "spatial(8, 4)", "local(1, 2)"):
        assert factor in texts
    assert texts.count("⊗") == 2 and texts.count("=") == 1


def test_threads_have_colours_of_their_own():
    cells = re.findall(r'fill="(#[0-9a-f]{6})" stroke', svg(spatial(8, 8)))
    assert len(set(cells)) == 64


def test_a_bank_box_is_a_word():
    picture = svg(shared(8, 64).swizzle(3, 3, 3), banks=True, bits=16)
    found = list(boxes(ElementTree.fromstring(picture)))
    assert sum(kind == "cell" for kind, *_ in found) == 8 * 32
    labels = [found[n + 1][1] for n, box in enumerate(found) if box[0] == "cell"]
    for row in range(8):
        assert labels[32 * row] == str(4 * row)


def test_table_of_a_fragment():
    lines = text_table(FRAGMENTS["mma_m16n8k16"].b).splitlines()
    assert lines[0] == "local(2, 1).column_spatial(4, 8).local(2, 1)"
    assert lines[1] == "16 x 8, 32 threads x 4 slots"
    assert lines[4].split() == [
        "0",
        "|",
        "0:0",
        "4:0",
        "8:0",
        "12:0",
        "16:0",
        "20:0",
        "24:0",
        "28:0",
    ]
    assert lines[-1].split()[2:4] == ["3:3", "7:3"]


def test_table_of_a_memory_layout_and_of_copies():
    assert text_table(shared(2, 2).pad(1)).splitlines()[1:] == [
        "2 x 2, 4 elements in 5 (1 unused)",
        "  | 0 1",
        "--+----",
        "0 | 0 1",
        "1 | 3 4",
    ]
    assert "each element in 4 threads" in text_table(replicated(4).local(2))


def test_copies_name_all_their_threads_or_say_that_there_are_more():
    side_by_side = text_table(spatial(2).replicated(4)).splitlines()
    assert side_by_side[-1].split() == ["0", "|", "0-3:0", "4-7:0"]
    apart = text_table(replicated(4).spatial(2)).splitlines()
    assert apart[-1].split() == ["0", "|", "0+:0", "1+:0"]
    assert ">T4-7<" in svg(spatial(2).replicated(4))


def test_a_long_vector_is_broken_into_rows():
    lines = text_table(spatial(16).local(3)).splitlines()
    assert [line.split()[0] for line in lines[4:]] == ["0", "16", "32"]
    assert lines[-1].split()[2:] == [f"{i // 3}:{i % 3}" for i in range(32, 48)]
    assert len(text_table(spatial(33)).splitlines()[-1].split()) == 3


def test_large_tiles_are_cut_and_say_so():
    layout = local(1, 200).spatial(100, 1)
    note = "(the first 64 of 100 rows and 64 of 200 columns)"
    assert note in text_table(layout) and note in svg(layout)


def test_many_tiles_are_cut_and_say_so():
    layout = shared(17, 2, 2)
    for shown in (text_table(layout), svg(layout), svg(layout, banks=True)):
        assert "(the first 16 of 17 such tiles)" in shown
        assert "[15, :, :]" in shown and "[16, :, :]" not in shown
    assert "such tiles" not in text_table(shared(16, 2, 2))


def test_leading_axes_are_pages():
    assert "[1, :, :]" in text_table(local(2, 2, 2)) and "[1, :, :]" in svg(local(2, 2, 2))
