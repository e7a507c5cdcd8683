"""Pictures of layouts: a table for the terminal and an SVG for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from itertools import product as cartesian
from math import prod

from vm.layouts.common import HasBits, bit_width
from vm.layouts.memory import MemoryLayout
from vm.layouts.register import RegisterLayout
from vm.layouts.shared_memories import Banks, banks_of

Layout = RegisterLayout | MemoryLayout

# What is drawn at most; a larger tile is cut and says so.
MOST_ROWS, MOST_COLUMNS, MOST_PAGES = 64, 64, 16
# A longer vector is shown in rows of so many elements.
ROW = 16


def summary(layout: Layout) -> str:
    """One line of facts."""
    shape = " x ".join(map(str, layout.shape)) or "scalar"
    if isinstance(layout, MemoryLayout):
        gaps = layout.size - layout.elements - layout.start
        return f"{shape}, {layout.elements} elements in {layout.size}" + (
            f" ({gaps} unused)" if gaps > 0 else ""
        )
    threads, slots = _count(layout.threads, "thread"), _count(layout.slots, "slot")
    text = f"{shape}, {threads} x {slots}"
    if layout.replication > 1:
        apart = "+" in _holders(layout, (0,) * layout.rank)[0]
        note = " (n+: thread n and others)" if apart else ""
        text += f", each element in {layout.replication} threads{note}"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class _Page:
    """A grid of indices of a tile, the number before each row, and a caption."""

    caption: str
    grid: list[list[tuple[int, ...]]]
    labels: list[int]


def _pages(shape: Sequence[int]) -> Iterator[_Page]:
    """The tile, one page per index of the leading axes (not more than `MOST_PAGES`); a long
    vector is broken into rows."""
    if len(shape) == 1 and shape[0] > ROW:
        firsts = range(0, shape[0], ROW)
        grid = [[(i,) for i in range(first, min(first + ROW, shape[0]))] for first in firsts]
        yield _Page("", grid, list(firsts))
        return
    rows = shape[-2] if len(shape) > 1 else 1
    columns = shape[-1] if shape else 1
    for lead in islice(cartesian(*map(range, shape[:-2])), MOST_PAGES):
        grid = [
            [((*lead, r, c)[-len(shape) :] if shape else ()) for c in range(columns)]
            for r in range(rows)
        ]
        caption = f"[{', '.join(map(str, lead))}, :, :]" if lead else ""
        yield _Page(caption, grid, list(range(rows)))


def text_table(layout: Layout) -> str:
    """A table with `thread:slot` (or the offset) of each element, under a line of facts. Tiles
    of more than 64 rows or columns are cut, and of more than two axes 16 tiles are shown."""
    lines = [str(layout), summary(layout)]
    for page in _pages(layout.shape):
        if page.caption:
            lines += ["", page.caption]
        shown = [
            [_cell_text(layout, index) for index in row[:MOST_COLUMNS]]
            for row in page.grid[:MOST_ROWS]
        ]
        width = max(len(text) for row in shown for text in row)
        width = max(width, len(str(len(shown[0]) - 1)))
        label = len(str(page.labels[len(shown) - 1]))
        head = " ".join(str(c).rjust(width) for c in range(len(shown[0])))
        lines += [f"{'':{label}} | {head}", f"{'':-<{label}}-+-{'':-<{len(head)}}"]
        for r, row in zip(page.labels, shown, strict=False):
            lines.append(f"{r:>{label}} | " + " ".join(text.rjust(width) for text in row))
        lines += _cut_note(page.grid)
    lines += _left_out(layout.shape)
    return "\n".join(lines)


def _left_out(shape: Sequence[int]) -> list[str]:
    pages = prod(shape[:-2])
    return [] if pages <= MOST_PAGES else [f"(the first {MOST_PAGES} of {pages} such tiles)"]


def _cut_note(grid: Sequence[Sequence[object]]) -> list[str]:
    rows, columns = len(grid), len(grid[0])
    if rows <= MOST_ROWS and columns <= MOST_COLUMNS:
        return []
    return [
        f"(the first {min(rows, MOST_ROWS)} of {rows} rows and {min(columns, MOST_COLUMNS)} of "
        f"{columns} columns)"
    ]


def _cell_text(layout: Layout, index: tuple[int, ...]) -> str:
    if isinstance(layout, MemoryLayout):
        return str(layout(index))
    threads, slot = _holders(layout, index)
    return f"{threads}:{slot}"


def _holders(layout: RegisterLayout, index: tuple[int, ...]) -> tuple[str, int]:
    """Who holds an element, and in which slot: 3, 4-7 for threads in a row, 2+ for others."""
    places = layout.inverse(index)
    first, last, slot = places[0][0], places[-1][0], places[0][1]
    if len(places) == 1:
        return str(first), slot
    return (f"{first}-{last}" if last - first == len(places) - 1 else f"{first}+"), slot


# -- SVG ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """A box of a grid: colour, large and small text, and how many columns it spans."""

    colour: str
    text: str
    small: str = ""
    span: int = 1


@dataclass(frozen=True)
class _Picture:
    """Some SVG and its size in pixels."""

    body: str
    width: float
    height: float


# Advance of one character of the monospace font, in units of the font size: no common one is wider.
_ADVANCE = 0.62


def _text(
    x: float,
    y: float,
    content: str,
    size: float,
    anchor: str = "middle",
    weight: str = "normal",
    fill: str = "#222",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="{fill}">{escape(content)}</text>'
    )


def _colour(number: int, count: int, ring: int = 32) -> str:
    """Hue by the place within a ring (a warp, the banks), lightness by the number of the ring."""
    inside = min(ring, max(1, count))
    rings = -(-count // ring)
    hue = 360 * (number % ring) / inside
    lightness = 86 - 24 * (number // ring) / max(1, rings - 1) if rings > 1 else 78
    return f"hsl({hue:.0f},70%,{lightness:.0f}%)"


def _hsl_to_hex(colour: str) -> str:
    """Not every renderer of SVG knows hsl()."""
    hue, saturation, lightness = (float(part.rstrip("%")) for part in colour[4:-1].split(","))
    chroma = saturation / 100 * min(lightness / 100, 1 - lightness / 100)

    def channel(n: float) -> int:
        k = (n + hue / 30) % 12
        return round(255 * (lightness / 100 - chroma * max(-1, min(k - 3, 9 - k, 1))))

    return "#" + "".join(f"{channel(n):02x}" for n in (0, 8, 4))


def _grid(
    rows: Sequence[Sequence[_Cell]], labels: Sequence[int], cell: tuple[float, float], size: float
) -> _Picture:
    """Cells with row numbers on the left and column numbers on top."""
    width, height = cell
    left = _ADVANCE * (size - 2) * len(str(labels[len(rows) - 1])) + 8
    top = size + 4
    parts = []
    columns = max((sum(c.span for c in row) for row in rows), default=0)
    first = rows[0] if rows else []
    column = 0
    for c in first:
        middle = left + (column + c.span / 2) * width
        parts.append(_text(middle, top - 5, str(column), size - 2, fill="#777"))
        column += c.span
    for r, row in enumerate(rows):
        y = top + r * height
        base = y + height / 2 + size / 3
        parts.append(_text(left - 5, base, str(labels[r]), size - 2, "end", fill="#777"))
        column = 0
        for c in row:
            x = left + column * width
            parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="{c.span * width:g}" height="{height:g}" '
                f'fill="{_hsl_to_hex(c.colour)}" stroke="#fff"/>'
            )
            middle = x + c.span * width / 2
            if c.small:
                parts.append(_text(middle, y + height * 0.46, c.text, size, weight="bold"))
                parts.append(_text(middle, y + height * 0.86, c.small, size - 2, fill="#444"))
            else:
                parts.append(_text(middle, base, c.text, size))
            column += c.span
    return _Picture("".join(parts), left + columns * width + 2, top + len(rows) * height + 2)


def _fit(texts: Sequence[str], size: float) -> float:
    return max((len(text) for text in texts), default=1) * _ADVANCE * size + 6


def _stack(pictures: Sequence[_Picture], gap: float = 14) -> _Picture:
    body, y = [], 0.0
    for picture in pictures:
        body.append(f'<g transform="translate(0,{y:g})">{picture.body}</g>')
        y += picture.height + gap
    return _Picture("".join(body), max((p.width for p in pictures), default=0), y - gap)


def _row(pictures: Sequence[_Picture], gap: float = 12) -> _Picture:
    body, x = [], 0.0
    height = max((p.height for p in pictures), default=0)
    for picture in pictures:
        y = (height - picture.height) / 2
        body.append(f'<g transform="translate({x:g},{y:g})">{picture.body}</g>')
        x += picture.width + gap
    return _Picture("".join(body), x - gap, height)


def _line(content: str, size: float, weight: str = "normal", fill: str = "#222") -> _Picture:
    return _Picture(
        _text(0, size, content, size, "start", weight, fill), _fit([content], size), size * 1.3
    )


def _page_pictures(
    shape: Sequence[int], cell: Callable[[tuple[int, ...]], _Cell], size: float
) -> list[_Picture]:
    pictures = []
    for page in _pages(shape):
        rows = [[cell(index) for index in row[:MOST_COLUMNS]] for row in page.grid[:MOST_ROWS]]
        if page.caption:
            pictures.append(_line(page.caption, 12, fill="#777"))
        width = _fit([c.text for row in rows for c in row], size)
        width = max(width, _fit([c.small for row in rows for c in row], size - 2))
        width = max(width, _fit([str(len(rows[0]) - 1)], size - 2))
        small = any(c.small for row in rows for c in row)
        height = 2.5 * size if small else 1.8 * size
        pictures.append(_grid(rows, page.labels, (width, height), size))
        pictures += [_line(note, 11, fill="#777") for note in _cut_note(page.grid)]
    pictures += [_line(note, 11, fill="#777") for note in _left_out(shape)]
    return pictures


def _register_pictures(layout: RegisterLayout, size: float) -> list[_Picture]:
    def cell(index: tuple[int, ...]) -> _Cell:
        threads, slot = _holders(layout, index)
        thread = layout.inverse(index)[0][0]
        return _Cell(_colour(thread, layout.threads), f"T{threads}", f":{slot}")

    return _page_pictures(layout.shape, cell, size)


def _factor_strip(layout: RegisterLayout) -> list[_Picture]:
    factors = layout.factors()
    if len(factors) < 2:
        return []
    parts: list[_Picture] = []
    for factor in factors:
        if parts:
            parts.append(_line("⊗", 20))

        def cell(index: tuple[int, ...], factor: RegisterLayout = factor) -> _Cell:
            thread, slot = factor.inverse(index)[0]
            if factor.threads == 1:
                return _Cell("hsl(0,0%,90%)", f"{slot}")
            return _Cell(_colour(thread, factor.threads), f"T{thread}")

        pictures = [_line(str(factor), 12)]
        if factor.rank:
            pictures += _page_pictures(factor.shape, cell, 11)
        parts.append(_stack(pictures, 6))
    return [_row(parts), _line("=", 20)]


def svg(
    layout: Layout, *, banks: bool = False, bits: int | HasBits = 16, target: str | Banks = "nvidia"
) -> str:
    """A picture of a layout as SVG text.

    Of a register layout: its factors, then the tile with each element's thread (also its
    colour) and slot. Of a memory layout: offsets; with `banks`, one box per word of a bank for
    elements of `bits` bits, labelled and coloured by the bank. Tiles of more than 64 rows or
    columns are cut."""
    pictures = [_line(str(layout), 16, "bold"), _line(summary(layout), 12, fill="#555")]
    if isinstance(layout, RegisterLayout):
        note = "Tn :s - thread n (its colour) holds the element in slot s"
        pictures.append(_line(note, 12, fill="#555"))
        pictures += _factor_strip(layout)
        pictures += _register_pictures(layout, 12)
    elif banks:
        pictures += _bank_pictures(layout, bit_width(bits), banks_of(target))
    else:

        def cell(index: tuple[int, ...]) -> _Cell:
            offset = layout(index)
            return _Cell(_colour(offset * 32 // layout.size, 32), str(offset))

        note = "each element's offset in memory, in elements; colours go along with it"
        pictures.append(_line(note, 12, fill="#555"))
        pictures += _page_pictures(layout.shape, cell, 11)
    whole = _stack(pictures)
    width, height = whole.width + 32, whole.height + 32
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
        '<rect width="100%" height="100%" fill="#fff"/>'
        f'<g transform="translate(16,16)">{whole.body}</g></svg>\n'
    )


def _bank_pictures(layout: MemoryLayout, bits: int, machine: Banks) -> list[_Picture]:
    """Neighbouring elements of one word are one box."""
    note = (
        f"each word's bank (and colour): {machine.name} has {machine.banks} of "
        f"{machine.word_bytes} bytes, elements are {bits} bits"
    )
    pictures = [_line(note, 12, fill="#555")]
    for page in _pages(layout.shape):
        rows: list[list[_Cell]] = []
        for indices in page.grid[:MOST_ROWS]:
            row: list[_Cell] = []
            previous = None
            for index in indices[:MOST_COLUMNS]:
                word = layout(index) * bits // 8 // machine.word_bytes
                if word == previous:
                    row[-1] = _Cell(row[-1].colour, row[-1].text, span=row[-1].span + 1)
                else:
                    bank = word % machine.banks
                    row.append(_Cell(_colour(bank, machine.banks, machine.banks), str(bank)))
                previous = word
            rows.append(row)
        if page.caption:
            pictures.append(_line(page.caption, 12, fill="#777"))
        narrowest = min(c.span for row in rows for c in row)
        width = max(_fit(["00"], 11), _fit([str(len(page.grid[0]))], 9)) / narrowest
        pictures.append(_grid(rows, page.labels, (width, 20), 11))
        pictures += [_line(text, 11, fill="#777") for text in _cut_note(page.grid)]
    pictures += [_line(text, 11, fill="#777") for text in _left_out(layout.shape)]
    return pictures
