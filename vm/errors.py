"""Where things were written, and how a fault in them is shown.

Everything a person writes carries an `Origin`. A fault in it is a `Diagnostic`: a stable code, the
place, both sides of the conflict and a way out. `VmError` carries diagnostics and is the only
exception that reaches a user for a mistake of theirs; `InternalError` is a mistake of ours.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LONGEST_LINE = 200
"""Characters of a line that a diagnostic shows."""


@dataclass(frozen=True)
class Source:
    """A text and the name it is shown under."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its end; empty where there is none."""
        lines = self._lines
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")


@dataclass(frozen=True)
class Origin:
    """A range of characters in a file: lines and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    source: Source | None = field(default=None, compare=False, repr=False)

    def text_line(self) -> str:
        """The source line the range begins on."""
        if self.source is not None:
            return self.source.line(self.line)
        return linecache.getline(self.file, self.line).rstrip("\n")

    def to(self, other: Origin) -> Origin:
        """The range from this one's start to the other's end."""
        return Origin(
            self.file, self.line, self.column, other.end_line, other.end_column, self.source
        )

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Origin("<none>", 0, 0, 0, 0)


@dataclass(frozen=True)
class Label:
    """A place and what is to be said of it."""

    origin: Origin
    text: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One fault: `labels[0]` is the place itself, the others are what it disagrees with."""

    code: str
    message: str
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    fix: str | None = None

    @property
    def origin(self) -> Origin:
        return self.labels[0].origin if self.labels else NOWHERE

    def render(self) -> str:
        """The message with its source lines and carets, as a terminal shows it."""
        lines = [f"error[{self.code}]: {self.message}"]
        labels = [label for label in self.labels if label.origin.line > 0]
        width = max((len(str(label.origin.line)) for label in labels), default=1)
        gutter = " " * width + " |"
        previous_file = None
        for index, label in enumerate(labels):
            origin = label.origin
            arrow = "-->" if index == 0 else ":::"
            if index == 0 or origin.file != previous_file:
                lines += [f"{' ' * width}{arrow} {origin}", gutter]
            previous_file = origin.file
            text = origin.text_line().replace("\t", " ")
            end = origin.end_column if origin.end_line == origin.line else len(text) + 1
            shown, start, end = _around(text, origin.column, end)
            mark = ("^" if index == 0 else "-") * max(1, end - start)
            lines.append(f"{origin.line:>{width}} | {shown}")
            lines.append(f"{gutter} {' ' * (start - 1)}{mark} {label.text}".rstrip())
        lines += [f"{' ' * width} = {note}" for note in self.notes]
        if self.fix:
            lines.append(f"{' ' * width} = fix: {self.fix}")
        lines.append(f"{' ' * width} = explain: vm explain {self.code}")
        return "\n".join(lines)

    def as_json(self) -> dict:
        """The fields an editor needs."""
        return {
            "code": self.code,
            "message": self.message,
            "labels": [
                {
                    "file": label.origin.file,
                    "line": label.origin.line,
                    "column": label.origin.column,
                    "end_line": label.origin.end_line,
                    "end_column": label.origin.end_column,
                    "text": label.text,
                }
                for label in self.labels
            ],
            "notes": list(self.notes),
            "fix": self.fix,
        }


def _around(text: str, start: int, end: int) -> tuple[str, int, int]:
    """What to show of a line of which columns `start` to `end` matter, and where they are in it."""
    if len(text) <= LONGEST_LINE:
        return text, start, end
    first = max(0, min(start - 1 - LONGEST_LINE // 4, len(text) - LONGEST_LINE))
    last = first + LONGEST_LINE
    before, behind = "…" if first else "", "…" if last < len(text) else ""
    moved = first - len(before)
    return f"{before}{text[first:last]}{behind}", start - moved, min(end, last + 1) - moved


class VmError(Exception):
    """A user's mistake, or a fault of their program, fully described."""

    def __init__(self, *diagnostics: Diagnostic):
        self.diagnostics = diagnostics
        super().__init__("\n\n".join(diagnostic.render() for diagnostic in diagnostics))

    @property
    def code(self) -> str:
        return self.diagnostics[0].code

    @property
    def origin(self) -> Origin:
        return self.diagnostics[0].origin


class InternalError(Exception):
    """A mistake of ours, never of the program: to be reported with the program that shows it."""


def fail(
    code: str,
    message: str,
    origin: Origin | None,
    label: str = "",
    *,
    others: tuple[tuple[Origin | None, str], ...] = (),
    notes: tuple[str, ...] = (),
    fix: str | None = None,
) -> VmError:
    """A `VmError` of one diagnostic; `others` are the places it disagrees with."""
    labels = [Label(origin or NOWHERE, label)]
    labels += [Label(place, text) for place, text in others if place is not None]
    return VmError(Diagnostic(code, message, tuple(labels), notes, fix))


def read_source(path: str | Path) -> Source:
    """The file as a `Source`; raises `VmError` E0801 where it cannot be read as UTF-8 text, which
    may begin with a byte order mark."""
    try:
        return Source(str(path), Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: OSError | UnicodeDecodeError) -> VmError:
    """The E0801 of a file that the system does not give, or that is no text."""
    text = isinstance(error, UnicodeDecodeError)
    return fail(
        "E0801", f"cannot read {path}: {'it is no UTF-8 text' if text else error.strerror}", None,
        fix="name a file of text in UTF-8" if text else "name a file that is there",
    )
